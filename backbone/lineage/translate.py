"""One run's history so far as OpenLineage events.

There are four kinds of OpenLineage runs in one run of the orchestrator, each with one START and one terminal event:

- the run itself, whose id is its own;
- a step that makes several assets or partitions, for each attempt;
- each asset, for each partition and attempt: the unit that fails, is traced and has versions;
- the checks of an asset's partition, for each attempt of the step that evaluates them.

A longer history brings more events and changes none: each is decided by what came before it. What comes after the end
of the run (a process that was given up and speaks up late) changes nothing either.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from backbone.lineage.describe import Describer, Ending, Made, Subject
from backbone.lineage.events import EVENT_SCHEMA, PRODUCER, Event, time_text
from backbone.lineage.history import Entry, Facts, Failure, RunHistory

EventType = Literal["START", "COMPLETE", "FAIL", "ABORT"]

LOST = Failure("RunWorkerLost", "The process that worked on it was lost, and another one began it again.")
NO_END = Failure("NoEnd", "The run ended without saying what became of this.")


def translate(history: RunHistory, facts: Facts) -> list[Event]:
    """Events of a run, in the order in which they became known; see the module's description."""
    return list(_Translation(history, facts).events())


@dataclass(slots=True)
class _Open:
    """One of our runs that has begun."""

    subject: Subject
    since: datetime


@dataclass(slots=True)
class _Step:
    """One attempt of a step.

    Attributes:
        ended: assets and partitions that have their terminal event.
        told: what an asset said of itself without being made.
    """

    name: str
    attempt: int
    since: datetime
    own: _Open | None = None
    assets: dict[Made, _Open] = field(default_factory=dict)
    checks: dict[Made, _Open] = field(default_factory=dict)
    verdicts: defaultdict[Made, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    results: list[tuple[Made, Entry]] = field(default_factory=list)
    ended: set[Made] = field(default_factory=set)
    told: dict[Made, Mapping[str, Any]] = field(default_factory=dict)


def translate_backfill(history: RunHistory, facts: Facts) -> list[Event]:
    """Events of a backfill so far; those of its runs begin with its START, too, the same bytes.

    Args:
        history: of no run, or of one of its runs.
    """
    describe, backfill = Describer(history, facts), history.backfill
    subject = describe.backfill()
    if subject is None or backfill is None:
        return []
    events = [_event("START", backfill.began, subject, describe.begun(subject))]
    if backfill.ended is not None:
        at = max(backfill.ended, backfill.began)
        failure = (backfill.failure or NO_END) if backfill.outcome == "FAIL" else backfill.failure
        events.append(
            _event(backfill.outcome, at, subject, describe.ended(subject, backfill.began, Ending(at, failure)))
        )
    return events


class _Translation:
    def __init__(self, history: RunHistory, facts: Facts) -> None:
        self._history, self._facts, self._describe = history, facts, Describer(history, facts)
        self._to_make: defaultdict[str, list[Made]] = defaultdict(list)
        self._to_check: defaultdict[str, list[Made]] = defaultdict(list)
        self._attempts: Counter[str] = Counter()
        self._steps: dict[str, _Step] = {}
        self._run: _Open | None = None
        self._first_failure: Failure | None = None
        self._observations = 0

    def events(self) -> Iterator[Event]:
        for entry in self._history.entries:
            yield from self._of(entry)
            if entry.kind in ("run_succeeded", "run_failed", "run_cancelled"):
                return

    def _of(self, entry: Entry) -> Iterator[Event]:
        match entry.kind:
            case "planned":
                self._plan(self._to_make, entry)
            case "check_planned":
                self._plan(self._to_check, entry)
            case "run_started":
                yield from self._run_started(entry)
            case "step_started":
                yield from self._step_started(entry)
            case "step_skipped":
                yield from self._step_skipped(entry)
            case "materialized":
                yield from self._materialized(entry)
            case "observed":
                yield from self._observed(entry)
            case "checked":
                yield from self._checked(entry)
            case "environment":
                self._describe.note_environment(entry)
            case "step_succeeded":
                yield from self._step_ended(entry, None)
            case "step_failed" | "step_to_retry":
                yield from self._step_ended(entry, entry.failure or NO_END)
            case "run_succeeded" | "run_failed" | "run_cancelled":
                yield from self._run_ended(entry)

    @staticmethod
    def _plan(plans: defaultdict[str, list[Made]], entry: Entry) -> None:
        assert entry.step is not None
        assert entry.asset is not None
        made = entry.asset, entry.partition
        if made not in plans[entry.step]:
            plans[entry.step].append(made)

    # ---- the run
    def _run_started(self, entry: Entry) -> Iterator[Event]:
        if self._run is None:
            yield from translate_backfill(self._history, self._facts)[:1]
            self._run = _Open(self._describe.run(), entry.at)
            yield self._start(self._run)

    def _run_ended(self, entry: Entry) -> Iterator[Event]:
        yield from self._run_started(Entry("run_started", min(self._history.created, entry.at)))
        assert self._run is not None
        failure: Failure | None = None
        outcome: EventType = "COMPLETE"
        if entry.kind == "run_failed":
            failure, outcome = self._first_failure or entry.failure or NO_END, "FAIL"
        if entry.kind == "run_cancelled":
            failure, outcome = entry.failure, "ABORT"
        for step in list(self._steps.values()):
            yield from self._close(step, entry.at, entry.failure or failure or NO_END, stopped=outcome != "FAIL")
        yield self._end(self._run, outcome, Ending(entry.at, failure))

    # ---- steps
    def _step_started(self, entry: Entry) -> Iterator[Event]:
        assert entry.step is not None
        yield from self._run_started(entry)
        before = self._steps.get(entry.step)
        if before is not None:
            yield from self._close(before, entry.at, LOST, stopped=False)
            self._attempts[entry.step] += 1
        step = _Step(entry.step, self._attempts[entry.step], entry.at)
        self._steps[entry.step] = step
        if len(self._to_make[entry.step]) > 1:
            step.own = _Open(self._describe.step(entry.step, step.attempt, self._to_make[entry.step]), entry.at)
            yield self._start(step.own)
        for made in self._to_make[entry.step]:
            yield self._begin(step, made)

    def _begin(self, step: _Step, made: Made) -> Event:
        opened = _Open(
            self._describe.asset(made, step.name, step.attempt, step.own.subject if step.own else None), step.since
        )
        step.assets[made] = opened
        return self._start(opened)

    def _step_skipped(self, entry: Entry) -> Iterator[Event]:
        assert entry.step is not None
        if entry.step in self._steps:
            return
        yield from self._step_started(entry)
        why = entry.failure or Failure("Skipped", "What it is made from was not made.")
        yield from self._close(self._steps[entry.step], entry.at, why, stopped=True)
        self._attempts[entry.step] += 1

    def _step_ended(self, entry: Entry, failure: Failure | None) -> Iterator[Event]:
        assert entry.step is not None
        step = self._steps.pop(entry.step, None)
        if step is None:
            return
        if failure is not None and entry.kind == "step_failed" and self._first_failure is None:
            self._first_failure = failure
        yield from self._close(step, entry.at, failure, stopped=failure is not None and failure.interrupted)
        self._attempts[entry.step] += 1

    def _close(self, step: _Step, at: datetime, failure: Failure | None, *, stopped: bool) -> Iterator[Event]:
        """End what is open of a step: it went well (no failure), was stopped, or failed."""
        self._steps.pop(step.name, None)
        outcome: EventType = "COMPLETE" if failure is None else "ABORT" if stopped else "FAIL"
        for made, opened in step.assets.items():
            if made not in step.ended:
                told = step.told.get(made, step.told.get((made[0], None), {}))
                yield self._end(opened, outcome, Ending(at, failure, not_made=told if failure is None else None))
        for made, opened in self._checks_of(step, failure):
            if made not in step.checks:
                step.checks[made] = opened
                yield self._start(opened)
            yield self._end(opened, outcome, Ending(at, failure, verdicts=step.verdicts[made]))
        if step.own is not None:
            yield self._end(step.own, outcome, Ending(at, failure, results=step.results))

    def _checks_of(self, step: _Step, failure: Failure | None) -> list[tuple[Made, _Open]]:
        """The checks that were evaluated; where none was and the step failed, those that should have been."""
        found = list(step.checks.items())
        if not found and failure is not None:
            found = [
                (made, _Open(self._describe.checks(made, step.name, step.attempt), step.since))
                for made in self._to_check[step.name]
            ]
        return found

    # ---- what a step tells
    def _step_of(self, entry: Entry) -> Iterator[Event]:
        """Begin a step of which something is told before it has begun."""
        if entry.step is not None and entry.step not in self._steps:
            yield from self._step_started(entry)

    def _materialized(self, entry: Entry) -> Iterator[Event]:
        assert entry.asset is not None
        made = entry.asset, entry.partition
        if entry.step is None:
            return
        yield from self._step_of(entry)
        step = self._steps[entry.step]
        if made in step.ended:
            return
        if made not in step.assets:
            yield self._begin(step, made)
        self._describe.note(entry)
        step.ended.add(made)
        step.results.append((made, entry))
        yield self._end(step.assets[made], "COMPLETE", Ending(entry.at, result=entry))

    def _observed(self, entry: Entry) -> Iterator[Event]:
        assert entry.asset is not None
        made = entry.asset, entry.partition
        step = self._steps.get(entry.step or "")
        if step is not None and (made in step.assets or any(m[0] == entry.asset for m in step.assets)):
            step.told[made] = {**step.told.get(made, {}), **entry.metadata}
            return
        yield from self._run_started(entry)
        self._observations += 1
        opened = _Open(self._describe.observation(made, entry.step, self._observations), entry.at)
        yield self._start(opened)
        yield self._end(opened, "COMPLETE", Ending(entry.at, observed=entry))

    def _checked(self, entry: Entry) -> Iterator[Event]:
        assert entry.asset is not None
        made = entry.asset, entry.partition
        if entry.step is None:
            return
        yield from self._step_of(entry)
        step = self._steps[entry.step]
        if made not in step.checks:
            step.checks[made] = _Open(self._describe.checks(made, step.name, step.attempt), step.since)
            yield self._start(step.checks[made])
        step.verdicts[made].append(entry)

    # ---- events
    def _start(self, opened: _Open) -> Event:
        return _event("START", opened.since, opened.subject, self._describe.begun(opened.subject))

    def _end(self, opened: _Open, outcome: EventType, end: Ending) -> Event:
        end = replace(end, at=max(end.at, opened.since))
        told = self._describe.ended(opened.subject, opened.since, end)
        return _event(outcome, end.at, opened.subject, told)


def _event(kind: EventType, at: datetime, subject: Subject, told: Mapping[str, Any]) -> Event:
    return {
        "eventType": kind,
        "eventTime": time_text(at),
        "producer": PRODUCER,
        "schemaURL": EVENT_SCHEMA,
        "run": {"runId": subject.run_id, "facets": told["run"]},
        "job": {"namespace": subject.namespace, "name": subject.job, "facets": told["job"]},
        "inputs": told["inputs"],
        "outputs": told["outputs"],
    }
