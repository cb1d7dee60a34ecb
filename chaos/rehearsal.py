"""A rehearsal from commissioning to report."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from backbone.errors import Terminal
from backbone.sites import Site
from backbone.windows import next_step
from chaos.scenario import DAY_S, SERVED_AT_S, Scenario
from chaos.stage import EQUIPMENT_CLASS, FIRST_DAY, HISTORY_DAYS, Stage, on_stage

TICK_S = 10.0
"""Between two rounds of the sensors, as long as one of them asks for something."""
_IDLE_MOST_S, _EDGES_S = 900.0, 120.0
_SETTLING_S = 2 * DAY_S
"""After the last fault, everything that can be made good is made good within this time."""
_NIGHT_S = 2 * 3600.0
_MOST_ROUNDS = 30


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a rehearsal showed. Times are simulated seconds; None where there was nothing to time.

    Attributes:
        by_rung: who → how many answers, superseded ones included.
        by_fault: kind → how many were planned (`faults`), and how often one befell a run or a piece of work (`struck`).
        time_to_fallback_p99_s: from a failure's being known to the answer.
        time_to_recover_p99_s: from the end of the last fault that kept a window degraded to its being made good.
        violations: what did not hold; empty where all is well.
        details: counts for people, beyond what the report promises.
    """

    scenario: str
    seed: int
    faults: int
    answers_due: int
    answers_given: int
    answers_missing: int
    applied_twice: int
    windows_degraded: int
    windows_made_good: int
    by_rung: dict[str, int]
    by_fault: dict[str, dict[str, int]]
    time_to_fallback_p99_s: float | None
    time_to_recover_p99_s: float | None
    violations: list[str]
    details: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As `--json` prints it: the same for the same seed, scenario and site."""
        names = self.__dataclass_fields__
        return {name: getattr(self, name) for name in names if name != "details"}


def commission(home_root: Path, contracts: Path, site: Site) -> None:
    """Make a home with a plant that has a history, a baseline, two releases, and nothing amiss.

    Raises:
        Terminal: no release was made, so there would be nothing to fall back from.
    """
    from chaos.daemon import Daemon
    from chaos.instance import rehearsal_instance
    from chaos.stage import prepare_home

    home = prepare_home(home_root, contracts)
    stage = Stage(home, site, Scenario("commissioning", "", 1, 0, ()))
    stage.calm = True
    with _quiet(), on_stage(stage) as plants, rehearsal_instance() as instance:
        daemon = Daemon(stage, plants, instance)
        plant = stage.plant()
        for _ in range(_MOST_ROUNDS):
            ended = list(daemon.round())
            if failed := [run.step for run in ended if not run.succeeded]:
                raise Terminal(f"The plant could not be commissioned: {failed[0]} failed.", next_step=_why(daemon))
            progress = plant.progress(EQUIPMENT_CLASS)
            if not ended and progress.served and next_step(progress) is None:
                break
        daemon.tell()
        if not plant.registry(EQUIPMENT_CLASS).versions():
            raise Terminal(
                "The plant that is rehearsed earned no release.",
                next_step="Let the site's workload training run with its full budget.",
            )
        _publish_again(stage)


def _publish_again(stage: Stage) -> None:
    """A second release of the same model, so that there is one before the newest."""
    plant = stage.plant()
    registry = plant.registry(EQUIPMENT_CLASS)
    release = registry.current()
    arrival = plant.root("on_prem") / EQUIPMENT_CLASS / "arrivals" / "second"
    shutil.copytree(release.bundle, arrival)
    registry.publish(arrival, additions={"version": release.version + 1})


def rehearse(
    commissioned: Path,
    site: Site,
    scenario: Scenario,
    *,
    without: Collection[str] = (),
    progress: Callable[[float], None] = lambda _: None,
) -> Outcome:
    """Let the faults befall the plant, and see what becomes of its answers.

    Args:
        commissioned: a home that `commission` made; it is used up.
        without: sensors to leave out, by the ends of their names: what the report then says, shows that it can.
        progress: told the share of the days that has passed.
    """
    from chaos.daemon import Daemon
    from chaos.instance import rehearsal_instance
    from chaos.invariants import examine
    from chaos.stage import StagedHome
    from chaos.witness import Witness

    stage = Stage(StagedHome(commissioned), site, scenario)
    with _quiet(), on_stage(stage) as plants, rehearsal_instance() as instance:
        daemon = Daemon(stage, plants, instance, without=without)
        watching = _plain_plant(stage)
        witness = Witness(stage, watching)
        _Play(stage, daemon, witness, progress).play()
        daemon.tell()
        witness.closes()
        since = FIRST_DAY + timedelta(days=HISTORY_DAYS)
        found = examine(stage, watching, instance, witness, since)
        work = Counter(f"{w.alternative} on {w.target} {w.state}" for w in watching.works.all())
        watching.database.engine.dispose()
    planned = {f.kind for f in scenario.faults}
    degraded = witness.windows_degraded
    return Outcome(
        scenario=scenario.name,
        seed=scenario.seed,
        faults=len(scenario.faults),
        answers_due=found.due,
        answers_given=found.given,
        answers_missing=found.missing,
        applied_twice=found.twice,
        windows_degraded=len(degraded),
        windows_made_good=len(degraded - witness.left_degraded),
        by_rung=found.by_rung,
        by_fault={
            kind: {"faults": sum(f.kind == kind for f in scenario.faults), "struck": stage.struck[kind]}
            for kind in sorted(planned)
        },
        time_to_fallback_p99_s=percentile(witness.to_fallback_s, 99),
        time_to_recover_p99_s=percentile(witness.to_recover_s, 99),
        violations=[*witness.violations, *found.violations, *daemon.broken_ticks()],
        details={
            "runs": dict(sorted(witness.runs.items())),
            "work": dict(sorted(work.items())),
            "ticks_failed": dict(sorted(daemon.ticks_failed.items())),
            "blocked": {
                "windows": len(witness.blocked.windows),
                "stood in": witness.blocked.stood_in,
                "kept from a training": witness.blocked.trained_without,
                "features looked at": witness.blocked.features_checked,
            },
            "to_fallback_s": witness.to_fallback_s,
            "to_recover_s": witness.to_recover_s,
        },
    )


def percentile(values: list[float], share: float) -> float | None:
    """The nearest-rank percentile, in the unit of the values; None of none."""
    if not values:
        return None
    ordered = sorted(values)
    return round(ordered[max(0, -(-len(ordered) * int(share) // 100) - 1)], 3)


class _Play:
    """Goes from one thing that happens to the next."""

    def __init__(self, stage: Stage, daemon: Any, witness: Any, progress: Callable[[float], None]) -> None:
        self._stage, self._daemon, self._witness, self._progress = stage, daemon, witness, progress
        days = stage.scenario.days
        servings = [day * DAY_S + at for day in range(days) for at in SERVED_AT_S]
        self._servings = [*servings, days * DAY_S + SERVED_AT_S[0]]
        self._trainings = [day * DAY_S + _NIGHT_S for day in stage.scenario.train_on]
        faults_end = max((f.end_s for f in stage.scenario.faults), default=0.0)
        self._ends_s = max(self._servings[-1], faults_end)
        self._idle_s = TICK_S

    def play(self) -> None:
        stage = self._stage
        while True:
            stage.clock.wait_until(self._next_s())
            self._models()
            stage.held.let_go(stage.now_s)
            self._progress(min(stage.now_s / self._ends_s, 1.0))
            busy = self._what_is_due()
            busy = self._rounds() or busy
            self._witness.blocked.at_rest()
            self._idle_s = TICK_S if busy else min(2 * self._idle_s, _IDLE_MOST_S)
            now = stage.now_s
            if now >= self._ends_s and not self._servings and not self._trainings:
                stage.calm = True
                at_rest = self._witness.at_rest and self._daemon.judges_s == float("inf")
                if (at_rest and not busy) or now >= self._ends_s + _SETTLING_S:
                    return

    def _next_s(self) -> float:
        now = self._stage.now_s
        ahead = [*self._servings[:1], *self._trainings[:1]]
        owed_s = self._stage.line.owed_s
        if not self._witness.at_rest and self._witness.waits_for_readings and owed_s > now:
            ahead.append(owed_s)
        elif not self._witness.at_rest:
            # What is waited for may be the end of a fault, or the time of the next try.
            ahead.append(min(now + self._idle_s, max(self._stage.changes_s, now + _EDGES_S)))
        ahead.append(self._daemon.judges_s)
        at = min(ahead, default=float("inf"))
        return at if at < float("inf") else max(self._ends_s, now + TICK_S)

    def _what_is_due(self) -> bool:
        now = self._stage.now_s
        if self._servings and now >= self._servings[0]:
            self._servings.pop(0)
        if self._trainings and now >= self._trainings[0]:
            self._trainings.pop(0)
            self._models()
            self._witness.saw(self._daemon.train(self._stage.site.name, EQUIPMENT_CLASS))
            return True
        return False

    def _rounds(self) -> bool:
        busy = False
        for _ in range(20):
            ran = 0
            for ran, ended in enumerate(self._daemon.round(), start=1):  # noqa: B007 - counted
                self._witness.saw(ended)
            if not ran:
                return busy
            busy = True
            self._stage.clock.sleep(TICK_S)
            self._models()
        return busy

    def _models(self) -> None:
        """The model's files as the faults of this time have it."""
        stage = self._stage
        kinds = {f.kind for f in stage.active("model_missing", "model_corrupt")}
        state = "missing" if "model_missing" in kinds else "corrupt" if kinds else "sound"
        stage.struck[f"model_{state}"] += state not in (stage.models.state, "sound")
        stage.models.put(state)


def _plain_plant(stage: Stage) -> Any:
    """The plant as nobody's fault can reach it: for looking on."""
    from resources.plant import Plant

    return Plant(stage.catalog, stage.site.name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Runs fail on purpose here; their logs would drown the report."""
    import dagster as dg
    import stamina.instrumentation

    before, hooks = logging.root.manager.disable, stamina.instrumentation.get_on_retry_hooks()
    logging.disable(logging.CRITICAL)
    stamina.instrumentation.set_on_retry_hooks([])
    try:
        with warnings.catch_warnings():
            for category in (dg.BetaWarning, dg.PreviewWarning):
                warnings.filterwarnings("ignore", category=category)
            yield
    finally:
        logging.disable(before)
        stamina.instrumentation.set_on_retry_hooks(hooks)


def _why(daemon: Any) -> str:
    import dagster as dg

    records = daemon.instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
    for record in records:
        for entry in daemon.instance.all_logs(record.dagster_run.run_id):
            event = entry.dagster_event
            if event is not None and event.is_step_failure:
                return str(event.step_failure_data.error_display_string)[:2000]
    return "Look into the site's file."
