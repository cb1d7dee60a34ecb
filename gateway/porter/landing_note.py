"""How far a spool has landed: a small file, on the disk before what it says is acted upon."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from backbone.errors import IntegrityError
from gateway.exchange import write_whole

Why = Literal["dropped", "lost"]


@dataclass(frozen=True, slots=True)
class Absence:
    """Positions from `begin` up to but without `end` that were given out and could not be read any more: let go of
    because the spool was full and set to do so, or lost by the disk."""

    begin: int
    end: int
    why: Why


@dataclass(frozen=True, slots=True)
class OpenRange:
    """What is being landed: positions from `first` up to but without `last`.

    `fleets` says which machines are of which fleet. A range that was begun is landed by what stood in the site's file
    then: whatever of it has landed before a crash must not turn up elsewhere.
    """

    first: int
    last: int
    fleets: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class LandingNote:
    """How far one gateway has come.

    Attributes:
        spool: its id; None before anything was there to land.
        landed: everything before this position is in the tables, confirmed by the disk, or absent.
        open: what was being landed when this was written.
        absent: rising.
        before: spools that this gateway had before this one, and how far they had landed.
    """

    spool: str | None = None
    landed: int = 0
    open: OpenRange | None = None
    absent: tuple[Absence, ...] = ()
    before: Mapping[str, int] = field(default_factory=dict)

    def of(self, spool: str) -> LandingNote:
        """This note, or a new one where the gateway has another spool now."""
        if spool == self.spool:
            return self
        before = self.before if self.spool is None else {**self.before, self.spool: self.landed}
        return LandingNote(spool, before=before)

    def without(self, absence: Absence) -> LandingNote:
        """Some more positions are absent."""
        *others, last = self.absent or (None,)
        if last is not None and (last.end, last.why) == (absence.begin, absence.why):
            return replace(self, absent=(*others, Absence(last.begin, absence.end, absence.why)))
        return replace(self, absent=(*self.absent, absence))

    def write(self, file: Path) -> None:
        """Put it in place for good."""
        write_whole(file, json.dumps(asdict(self)).encode())

    @classmethod
    def read(cls, file: Path) -> LandingNote:
        """The note in a file; a new one where there is none.

        Raises:
            IntegrityError: the file is damaged. The tables know how far they are; without the file they are asked.
        """
        try:
            told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            absent = tuple(Absence(**one) for one in told.pop("absent"))
            under_way = told.pop("open")
            told.pop("confirmed", None)  # of before the tables kept it themselves
            if under_way is not None:
                fleets = {name: tuple(patterns) for name, patterns in under_way.pop("fleets").items()}
                under_way = OpenRange(**under_way, fleets=fleets)
            return cls(**told, open=under_way, absent=absent)
        except FileNotFoundError:
            return cls()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(
                f"{file} does not say how far the spool has landed: {error!r}.",
                next_step="Remove the file: the tables know how far they are, and what is spooled is looked through.",
            ) from error
