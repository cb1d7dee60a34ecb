"""The fallback sensor: where a run gave no answer for its windows, the rules answer in its place."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import dagster as dg

from backbone.errors import HybridError
from backbone.reasons import BLOCKED, ERROR
from backbone.sites import Site
from backbone.windows import PlantState, WindowRange
from resources.bindings.partitions import (
    EPOCH,
    FLEET,
    SERVES,
    STEP,
    in_place_tags,
    range_tags,
    run_tags,
    run_windows,
)
from resources.bindings.plants import Plants
from resources.plant import Plant

if TYPE_CHECKING:
    from resources.state.answers import Answer, Answers

ENDED_BADLY = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
ANSWERS = "advisories"
_OVERLAP_S = 30.0
"""Runs that ended so shortly before the cursor are looked at again, since two may end at the same time; what was asked
for already is not asked for twice, its run key is the same."""
_MOST_AT_ONCE = 1_000
"""Runs looked at in one tick, oldest first: a new cursor on a long history gets through it in several."""
_AGAIN_S = 10.0
_AGAIN_MOST_S = 600.0


def fallback_sensor(equipment_class: str, sites: Sequence[Site], jobs: Mapping[str, Any]) -> dg.SensorDefinition:
    """One sensor for every plant of a class; its cursor is how far it has read the history of runs.

    Each run that failed or was cancelled, and should have answered windows, gets one run of the rules for those of its
    windows that no later attempt has answered. It answers under the epoch of the run it stands in for, so that it never
    takes the place of a better answer that came meanwhile. An answer of the rules that fails is asked for again, ever
    more seldom.
    """

    @dg.sensor(
        name=f"{equipment_class}_fallback",
        jobs=[jobs["fallback"], jobs["plan"]],
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Lets the rules answer for windows whose run failed, was blocked or was cancelled.",
    )
    def fallback(context: dg.SensorEvaluationContext, plants: Plants) -> Iterator[dg.RunRequest | dg.SkipReason]:
        now = plants.clock.now()
        cursor = _Cursor.read(context.cursor)
        requests: list[dg.RunRequest] = []
        stands = cache(lambda site: Standing.of(plants.plant(site), equipment_class))
        for record in cursor.unread(context.instance, now):
            run = record.dagster_run
            try:
                found = requests_in_place(context.instance, equipment_class, sites, stands, record, jobs)
            except HybridError as error:
                context.log.error(f"Run {run.run_id}: {error}")
                cursor.look_again(run.run_id, now, tries=1)
                continue
            if not found:
                continue
            if _TRIES in run.tags and cursor.first_seen(run.run_id):
                cursor.look_again(run.run_id, now, tries=int(run.tags[_TRIES]))
                continue
            requests += found
        context.update_cursor(cursor.write())
        yield from requests
        if not requests:
            yield dg.SkipReason("No run has left a window without an answer.")

    return fallback


_TRIES = "hybrid/tries"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a fleet's windows stand: the answers they have, and what those were built from."""

    plant: Plant
    answers: "Answers"
    held: Mapping[date, "Answer"]
    progress: PlantState

    @classmethod
    def of(cls, plant: Plant, equipment_class: str) -> "Standing":
        answers = plant.answers(equipment_class)
        return cls(plant, answers, answers.all(), plant.progress(equipment_class))


def requests_in_place(
    instance: dg.DagsterInstance,
    equipment_class: str,
    sites: Sequence[Site],
    stands: Callable[[str], Standing],
    record: dg.RunRecord,
    jobs: Mapping[str, Any],
) -> list[dg.RunRequest]:
    """The runs that one without an answer calls for, one for each row of days that is due.

    Where the answer was given before the run ended, what follows from it, the maintenance plan, is made again.
    """
    run = record.dagster_run
    windows = run_windows(run.tags, [s.name for s in sites])
    if windows is None or not should_have_answered(run, equipment_class):
        return []
    standing = stands(windows.site)
    epoch, due = due_in_place(standing, run.run_id, run.tags, windows)
    kind, days = ("fallback", due) if due else ("plan", [d for d in windows if _answered_by(standing, d, epoch)])
    tries = int(run.tags[_TRIES]) + 1 if _TRIES in run.tags else 0
    again = {_TRIES: str(tries), "hybrid/in_place_of": run.run_id, "dagster/priority": "10"}
    requests = []
    for first, last in in_a_row(days):
        answered = WindowRange(windows.site, first, last)
        if kind == "fallback":
            reason = run.tags.get(SERVES) or _reason(instance, run.run_id)
            tags = in_place_tags(equipment_class, answered, epoch, reason)
        else:
            tags = run_tags(equipment_class, answered.site) | range_tags(answered) | {EPOCH: str(epoch)}
        key = f"{kind}/{equipment_class}/{windows.site}/{first}..{last}/{epoch}/{tries}"
        requests.append(dg.RunRequest(run_key=key, job_name=jobs[kind].name, tags={**tags, **again}))
    return requests


def in_a_row(days: Sequence[date]) -> list[tuple[date, date]]:
    """The first and last of each row of consecutive days, so that what lies between them is left alone."""
    rows: list[tuple[date, date]] = []
    for day in sorted(days):
        if rows and day == rows[-1][1] + timedelta(days=1):
            rows[-1] = (rows[-1][0], day)
        else:
            rows.append((day, day))
    return rows


def due_in_place(
    standing: Standing, run_id: str, tags: Mapping[str, str], windows: WindowRange
) -> tuple[int, list[date]]:
    """The epoch of a run that ended badly, and the windows it left without an answer, or without a record of it."""
    held, progress = standing.held, standing.progress
    given = int(tags[EPOCH]) if EPOCH in tags else standing.answers.epoch_of(run_id)
    days = [day for day in windows if day in progress.landed or day in progress.ingested]
    if given is None:
        # It died before it began. A window that is answered for all that has landed misses nothing.
        due = [d for d in days if d not in held or d in progress.stale or not _marked(progress, d, progress.landed)]
        now = standing.plant.clock.now()
        return (standing.answers.epoch(run_id, windows, tags.get(STEP, "manual"), now) if due else 0), due
    due = [day for day in days if day not in held or held[day].epoch < given]
    due += [day for day in days if _answered_by(standing, day, given) and not _marked(progress, day, progress.ingested)]
    return given, due


def _answered_by(standing: Standing, day: date, epoch: int) -> bool:
    return day in standing.held and standing.held[day].epoch == epoch


def _marked(progress: PlantState, day: date, built_from: Mapping[date, str]) -> bool:
    return progress.served.get(day) == built_from.get(day)


def should_have_answered(run: dg.DagsterRun, equipment_class: str) -> bool:
    """Whether a run was to answer windows of a class, whoever asked for it."""
    if run.tags.get(FLEET, "").partition("/")[0] == equipment_class and STEP in run.tags:
        return run.tags[STEP] not in ("ingest", "train")
    chosen = run.asset_selection or frozenset()
    return dg.AssetKey([equipment_class, ANSWERS]) in chosen


def _reason(instance: dg.DagsterInstance, run_id: str) -> str:
    """`blocked` where a check of severity ERROR stopped the run, else `error`."""
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
    for record in records:
        event = record.event_log_entry.dagster_event
        checked = event.asset_check_evaluation_data if event is not None else None
        if checked is None or checked.passed or not checked.blocking:
            continue
        if checked.severity == dg.AssetCheckSeverity.ERROR:
            return BLOCKED
    return ERROR


class _Cursor:
    """How far the history of runs has been read, and which runs are to be looked at again, when."""

    def __init__(self, after: float | None, again: dict[str, float], seen: dict[str, float]) -> None:
        self._after, self._again, self._seen = after, again, seen
        self._due: set[str] = set()

    @classmethod
    def read(cls, text: str | None) -> "_Cursor":
        held = json.loads(text) if text else {}
        return cls(held.get("after"), dict(held.get("again", {})), dict(held.get("seen", {})))

    def write(self) -> str:
        """The runs seen are kept for as long as they would be read again."""
        least = (self._after or 0.0) - _OVERLAP_S
        seen = {run_id: at for run_id, at in self._seen.items() if at >= least}
        return json.dumps({"after": self._after, "again": self._again, "seen": seen})

    def unread(self, instance: dg.DagsterInstance, now: datetime) -> list[dg.RunRecord]:
        """Runs that ended badly since, oldest first, and those that are due to be looked at again."""
        latest = now.timestamp() + _AGAIN_MOST_S  # beyond it, the clock went back
        self._due = {run_id for run_id, at in self._again.items() if not now.timestamp() < at <= latest}
        since = None if self._after is None else datetime.fromtimestamp(self._after - _OVERLAP_S, UTC)
        new = self._new(instance, dg.RunsFilter(statuses=ENDED_BADLY, updated_after=since))
        if new:
            self._after = max(self._after or 0.0, *(r.update_timestamp.timestamp() for r in new))
        self._seen |= {r.dagster_run.run_id: r.update_timestamp.timestamp() for r in new}
        older = sorted(self._due - {r.dagster_run.run_id for r in new})
        waiting = instance.get_run_records(dg.RunsFilter(run_ids=older)) if older else []
        self._again = {run_id: at for run_id, at in self._again.items() if run_id not in self._due}
        unread = [r for r in [*waiting, *new] if r.dagster_run.run_id not in self._again]
        return sorted(unread, key=lambda r: r.update_timestamp)

    def _new(self, instance: dg.DagsterInstance, ended: dg.RunsFilter) -> Sequence[dg.RunRecord]:
        """Those of the runs that are to be looked at, oldest first; only of these is more read than the identifier."""
        known = self._seen.keys() - self._due
        found = [run_id for run_id in instance.get_run_ids(ended) if run_id not in known]
        if not found:
            return []
        if len(found) <= _MOST_AT_ONCE:
            ended, most = dg.RunsFilter(run_ids=found), None
        else:
            most = _MOST_AT_ONCE + len(known)  # so that those known already do not stand before all others for ever
        records = instance.get_run_records(ended, limit=most, order_by="update_timestamp", ascending=True)
        return [r for r in records if r.dagster_run.run_id not in known]

    def first_seen(self, run_id: str) -> bool:
        """Whether this look at a run is not one that was waited for."""
        return run_id not in self._due

    def look_again(self, run_id: str, now: datetime, *, tries: int) -> None:
        self._again[run_id] = now.timestamp() + min(_AGAIN_S * 2 ** min(tries, 10), _AGAIN_MOST_S)
