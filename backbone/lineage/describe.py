"""What an event says of a run, its job and its data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from backbone.lineage.events import run_id_of, standard
from backbone.lineage.history import Dataset, Entry, Facts, Failure, RunHistory
from backbone.lineage.naming import dimensions

_Facets = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """One of our runs: what it is of, and what it is called.

    Attributes:
        makes: the assets and partitions it makes, or looks at.
    """

    kind: Literal["run", "step", "asset", "checks", "observation"]
    run_id: str
    namespace: str
    job: str
    parent: tuple[str, str] | None = None
    step: str | None = None
    attempt: int = 0
    makes: tuple[tuple[str, str | None], ...] = ()

    @property
    def asset(self) -> str:
        return self.makes[0][0]

    @property
    def partition(self) -> str | None:
        return self.makes[0][1] if self.kind in ("asset", "checks", "observation") else None


class Describer:
    """Describes the runs of one history."""

    def __init__(self, history: RunHistory, facts: Facts) -> None:
        self._history, self._facts = history, facts
        self._root = history.root or (history.run_id, history.job)

    # ---- who is who
    def run(self) -> Subject:
        history = self._history
        return Subject("run", history.run_id, self._facts.namespace, history.job, parent=history.parent)

    def step(self, step: str, attempt: int, makes: Sequence[tuple[str, str | None]]) -> Subject:
        run_id = run_id_of(self._history.run_id, "step", step, attempt)
        assets = tuple(dict.fromkeys((asset, None) for asset, _ in makes))
        return self._child("step", run_id, step, step, attempt, assets)

    def asset(self, asset: str, partition: str | None, step: str, attempt: int, parent: Subject | None) -> Subject:
        run_id = run_id_of(self._history.run_id, "asset", asset, partition, attempt)
        return self._child("asset", run_id, asset, step, attempt, ((asset, partition),), parent)

    def checks(self, asset: str, partition: str | None, step: str, attempt: int) -> Subject:
        run_id = run_id_of(self._history.run_id, "checks", step, asset, partition, attempt)
        return self._child("checks", run_id, f"{asset}/checks", step, attempt, ((asset, partition),))

    def observation(self, asset: str, partition: str | None, step: str | None, number: int) -> Subject:
        run_id = run_id_of(self._history.run_id, "observation", asset, partition, number)
        return self._child("observation", run_id, f"{asset}/observation", step, 0, ((asset, partition),))

    def _child(
        self,
        kind: Literal["step", "asset", "checks", "observation"],
        run_id: str,
        job: str,
        step: str | None,
        attempt: int,
        makes: tuple[tuple[str, str | None], ...],
        parent: Subject | None = None,
    ) -> Subject:
        above = (parent.run_id, parent.job) if parent else (self._history.run_id, self._history.job)
        return Subject(kind, run_id, self._facts.namespace, job, above, step, attempt, makes)

    # ---- what is said of it
    def begun(self, subject: Subject) -> Mapping[str, Any]:
        return {
            "run": self._run_facets(subject),
            "job": {},
            "inputs": self._inputs(subject, None),
            "outputs": self._outputs(subject, None),
        }

    def ended(
        self,
        subject: Subject,
        since: datetime,
        at: datetime,
        failure: Failure | None,
        *,
        result: Entry | None,
        results: Sequence[tuple[tuple[str, str | None], Entry]],
        verdicts: Sequence[Entry],
        observed: Entry | None,
        not_made: Mapping[str, Any] | None,
    ) -> Mapping[str, Any]:
        run = self._run_facets(subject)
        if failure is not None:
            run["errorMessage"] = standard(
                "ErrorMessageRunFacet",
                "1-0-1",
                message=failure.message,
                programmingLanguage="python",
                **({"stackTrace": failure.stack} if failure.stack else {}),
            )
        return {
            "run": run,
            "job": {},
            "inputs": self._inputs(subject, result),
            "outputs": self._outputs(subject, result) if not_made is None or result else [],
        }

    def _run_facets(self, subject: Subject) -> _Facets:
        found: _Facets = {}
        if subject.parent is not None:
            found["parent"] = standard(
                "ParentRunFacet",
                "1-2-0",
                run={"runId": subject.parent[0]},
                job={"namespace": subject.namespace, "name": subject.parent[1]},
                root={
                    "run": {"runId": self._root[0]},
                    "job": {"namespace": subject.namespace, "name": self._root[1]},
                },
            )
        return found

    # ---- data sets
    def _inputs(self, subject: Subject, result: Entry | None) -> list[dict[str, Any]]:
        if subject.kind in ("checks", "observation"):
            return [self._dataset(d) for d in self._lies(subject.asset, subject.partition)]
        found: dict[tuple[str, str], Dataset] = {}
        for asset, partition in subject.makes:
            known = self._facts.assets.get(asset)
            for upstream in known.upstream if known else ():
                found |= {d.key: d for d in self._lies(upstream, partition or subject.partition)}
        return [self._dataset(d) for d in found.values()]

    def _outputs(self, subject: Subject, result: Entry | None) -> list[dict[str, Any]]:
        if subject.kind not in ("asset", "step"):
            return []
        return [self._dataset(d) for asset, partition in subject.makes for d in self._lies(asset, partition)]

    def _lies(self, asset: str, partition: str | None) -> list[Dataset]:
        site = dimensions(partition).get("site", "") if partition else ""
        found = self._facts.datasets.get((asset, site))
        if found is None and not site:
            found = next((d for (key, _), d in sorted(self._facts.datasets.items()) if key == asset), None)
        return [found or Dataset("hybrid-assets://unknown", asset)]

    def _dataset(self, dataset: Dataset) -> dict[str, Any]:
        return {"namespace": dataset.namespace, "name": dataset.name, "facets": {}}
