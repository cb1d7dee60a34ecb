"""The recovery sensor: windows that were answered second best are scored again when the best can answer."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from backbone.errors import HybridError
from backbone.reasons import UNVERIFIED
from backbone.sites import Site
from backbone.windows import StepKind, WindowRange
from resources.bindings.partitions import FLEET, STEP, UNFINISHED, WRITES, range_tags, run_tags, run_windows
from resources.bindings.plants import Plants
from resources.plant import Plant
from resources.state.verdicts import ANSWER_RESTS_ON
from sensors.fallback import ENDED_BADLY, Standing, due_in_place, should_have_answered

if TYPE_CHECKING:
    from resources.registry.releases import Release
    from resources.state.answers import Answer

MENDED_AT_ONCE = 14
"""Windows of a fleet that one run scores again; with one run of a fleet at a time, what is due now comes between."""


def recovery_sensor(equipment_class: str, sites: Sequence[Site], jobs: Mapping[str, Any]) -> dg.SensorDefinition:
    """One sensor for every plant of a class. What is to be mended follows from the answers; it keeps no cursor.

    Degraded windows are scored again, oldest first, a bounded number at a time, when a release can be asked: it
    verifies, its circuit breaker lets a call through, and scoring can be placed. A window that stays degraded is tried
    ever more seldom, once an hour in the end. The new answer supersedes the old one, which stays on record.
    """

    @dg.sensor(
        name=f"{equipment_class}_recovery",
        jobs=[jobs["mend"], jobs["score"], jobs["serve"]],
        minimum_interval_seconds=10,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Scores degraded windows again when the model, its service and its location are back.",
    )
    def recovery(context: dg.SensorEvaluationContext, plants: Plants) -> Iterator[dg.RunRequest | dg.SkipReason]:
        idle: list[str] = []
        requested = False
        for site in sites:
            try:
                found = mending(plants.plant(site.name), equipment_class)
            except HybridError as error:
                context.log.error(f"{site.name}: {error}")
                idle.append(f"{site.name}: {error.problem}")
                continue
            if isinstance(found, str):
                idle.append(f"{site.name}: {found}")
                continue
            kind, windows, cause = found
            tags = run_tags(equipment_class, site.name) | range_tags(windows)
            under_way = dg.RunsFilter(tags={WRITES: tags[WRITES]}, statuses=UNFINISHED)
            if context.instance.get_runs_count(under_way):
                idle.append(f"{site.name}: a run is under way")
                continue
            if _rules_are_due(context.instance, plants.plant(site.name), equipment_class):
                idle.append(f"{site.name}: a run has left windows without an answer, which comes first")
                continue
            requested = True
            tags["hybrid/mends"] = cause
            # A run that died before it answered has left the cause as it was, and its key is used up.
            died = context.instance.get_runs_count(dg.RunsFilter(tags=tags, statuses=ENDED_BADLY))
            key = f"recovery/{equipment_class}/{site.name}/{windows.first}..{windows.last}/{cause}/{died}"
            yield dg.RunRequest(run_key=key, job_name=jobs[kind].name, tags=tags)
        if not requested:
            yield dg.SkipReason("; ".join(idle))

    return recovery


def _rules_are_due(instance: dg.DagsterInstance, plant: Plant, equipment_class: str) -> bool:
    """Whether the run that ended badly last still waits for somebody to answer in its place."""
    mine = dg.RunsFilter(tags={FLEET: f"{equipment_class}/{plant.site.name}"}, statuses=ENDED_BADLY)
    for record in instance.get_run_records(mine, limit=1, order_by="update_timestamp"):
        run = record.dagster_run
        windows = run_windows(run.tags, [plant.site.name])
        if windows is None or not should_have_answered(run, equipment_class) or run.tags.get(STEP) == "fallback":
            return False
        return bool(due_in_place(Standing.of(plant, equipment_class), run.run_id, run.tags, windows)[1])
    return False


def mending(plant: Plant, equipment_class: str) -> tuple[StepKind, WindowRange, str] | str:
    """(job, windows, cause) of what is to be made good now, or why there is nothing."""
    from resources.registry.releases import Release

    due = plant.answers(equipment_class).to_mend(plant.clock.now(), limit=10_000)
    if not due:
        return "nothing to make good"
    # Of a window whose prognoses were wrong, the same model would say the same again.
    blocked = plant.verdicts(equipment_class).blocked(ANSWER_RESTS_ON)
    if all(answer.day in blocked for answer in due):
        return f"{len(due)} windows to make good; checks forbid what they rest on"
    due = [answer for answer in due if answer.day not in blocked]
    ladder = plant.registry(equipment_class).ladder()
    releases = [found for _, found in ladder if isinstance(found, Release)]
    if not releases:
        return f"{len(due)} windows to make good; no release can be asked"
    if not isinstance(ladder[0][1], Release):
        due = [a for a in due if not _waits_for_the_newest(a)]
    model = plant.model_breaker(equipment_class, releases[0].version)
    if not model.allows():
        return f"{len(due)} windows to make good; the circuit breaker of {releases[0].name} is open"
    if plant.dispatcher.place("scoring").chosen is None:
        return f"{len(due)} windows to make good; scoring can be placed nowhere"
    if not due:
        return "nothing that the release before could make good"
    block = _oldest_in_a_row(due)
    windows = WindowRange(plant.site.name, block[0].day, block[-1].day)
    cause = f"{max(a.epoch for a in block)}-{max(a.tries for a in block)}"
    return _kind(plant, equipment_class, windows, releases[0]), windows, cause


def _waits_for_the_newest(answer: "Answer") -> bool:
    """The release before has answered, and only the newest, which does not verify, could do better."""
    return set(answer.reasons) <= {UNVERIFIED} and not any(by in answer.served_by for by in ("rules", "safe_default"))


def _oldest_in_a_row(due: Sequence["Answer"]) -> list["Answer"]:
    block = [due[0]]
    for answer in due[1:]:
        if len(block) == MENDED_AT_ONCE or answer.day != block[-1].day + timedelta(days=1):
            break
        block.append(answer)
    return block


def _kind(plant: Plant, equipment_class: str, windows: WindowRange, release: "Release") -> StepKind:
    """The least that has to be done: only the model asked again, features made too, or telemetry stored too."""
    progress = plant.progress(equipment_class)
    if any(progress.landed.get(day) != progress.ingested.get(day) for day in windows):
        return "serve"
    if any(day in progress.stale for day in windows):
        return "score"
    features, telemetry = (plant.table(equipment_class, name) for name in ("condition_features", "telemetry"))
    if not features.exists:
        return "score"
    baselines = features.read(windows.site, windows.first, windows.last, columns=["baseline"])["baseline"]
    usable = set(baselines.to_pylist()) <= {release.manifest["baseline"]}
    # A run may have stored readings and then died before it had made features of them.
    made, stored = features.rows_by_day(windows.site), telemetry.rows_by_day(windows.site)
    complete = all(made.get(day, 0) == stored.get(day, 0) for day in windows)
    return "mend" if usable and complete else "score"
