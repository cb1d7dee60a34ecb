"""What Great Expectations is asked, and what it answers, in plain records that go through a socket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, Literal

import pyarrow as pa

WINDOW = "date"
"""Column of a batch that says which window a row is of."""
SAMPLE_ROWS = 20
"""Failing rows of an expectation that are kept of each window; all of them are counted."""

Status = Literal["passed", "failed", "error"]


@dataclass(frozen=True, slots=True)
class Expectation:
    """One expectation of Great Expectations, by the name of its type, that every row of a batch is held to.

    Attributes:
        rule: the kind of the contract's rule it follows from.
        about: the column, or the pair of them, that the rule is about there; for people.
    """

    type: str
    kwargs: Mapping[str, Any]
    rule: str
    about: str

    def to_json(self) -> dict[str, Any]:
        return {"type": self.type, "kwargs": dict(self.kwargs), "rule": self.rule, "about": self.about}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Expectation:
        return cls(given["type"], given["kwargs"], given["rule"], given["about"])


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one or more windows, and the expectations they are held to.

    Attributes:
        name: unique within a request.
        rows: a column `date` says which window each row is of.
    """

    name: str
    rows: pa.Table
    expectations: Sequence[Expectation]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one expectation of a batch.

    Attributes:
        counts: window → rows that fail; windows without any are left out.
        positions: window → where the first of them stand in the batch.
        error: why it could not be evaluated; then nothing is said about any window.
    """

    batch: str
    expectation: Expectation
    status: Status
    counts: Mapping[date, int] = field(default_factory=dict)
    positions: Mapping[date, Sequence[int]] = field(default_factory=dict)
    error: str = ""

    def of_batch(self, name: str) -> Outcome:
        """The same, of a batch that is called otherwise."""
        return replace(self, batch=name)

    def to_json(self) -> dict[str, Any]:
        return {
            "batch": self.batch,
            "expectation": self.expectation.to_json(),
            "status": self.status,
            "counts": {day.isoformat(): n for day, n in self.counts.items()},
            "positions": {day.isoformat(): list(at) for day, at in self.positions.items()},
            "error": self.error,
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Outcome:
        return cls(
            given["batch"],
            Expectation.from_json(given["expectation"]),
            given["status"],
            {date.fromisoformat(day): n for day, n in given["counts"].items()},
            {date.fromisoformat(day): at for day, at in given["positions"].items()},
            given["error"],
        )
