"""Plays Dagster's daemon: evaluates the sensors, keeps their cursors and run keys, and executes what they ask for."""

from __future__ import annotations

import contextlib
import uuid
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import dagster as dg

from backbone.errors import Transient
from backbone.windows import WindowRange
from chaos.mischief import WorkerKilled
from chaos.stage import ChaosPlants, Stage
from hybrid_assets.definitions import build_definitions
from resources.bindings.partitions import STEP, run_tags, run_windows
from sensors.jobs import QUALITY

RUN_KEY, SENSOR, PRIORITY = "dagster/run_key", "dagster/sensor_name", "dagster/priority"
JUDGES, TELLS = "_quality", "lineage"
"""The ends of the names of two sensors that are evaluated more seldom here than they would be."""
JUDGED_S, TOLD_S = 1800.0, 43_200.0
"""Between two of their evaluations. Judging windows costs as much as serving them; no answer depends on lineage."""
_NEVER = float("inf")
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that has ended.

    Attributes:
        step: which of the fleet's jobs it was of.
        windows: which it was for; None: none in particular.
        failures: when work of it was known to have failed, in seconds of the rehearsal.
    """

    run_id: str
    step: str
    tags: dict[str, str]
    windows: WindowRange | None
    succeeded: bool
    failures: tuple[float, ...]


class Daemon:
    """One daemon over the life of a rehearsal; the schedules are not played.

    Args:
        without: sensors that are left out, by the ends of their names.
    """

    def __init__(
        self, stage: Stage, plants: ChaosPlants, instance: dg.DagsterInstance, *, without: Collection[str] = ()
    ) -> None:
        self._stage, self._plants, self.instance = stage, plants, instance
        self._definitions = build_definitions(stage.home, plants)
        self._repository = self._definitions.get_repository_def()
        self._sensors = sorted(
            (s.name for s in self._repository.sensor_defs if not s.name.endswith(tuple(without) or ("\0",))),
        )
        self._cursors: dict[str, str | None] = {}
        self._keys: defaultdict[str, set[str]] = defaultdict(set)
        # Not those of the runs that commissioned the plant, which the ledger remembers.
        self._ids = stage.rng("runs", stage.scenario.name, len(stage.scenario.faults))
        self.ticks_failed: Counter[str] = Counter()
        self._passes: set[str] = set()
        self._ticked_s: dict[str, float] = {}
        self._judges = [name for name in self._sensors if name.endswith(JUDGES)]
        self._to_judge = True

    def round(self) -> Iterator[Ended]:
        """Every sensor whose turn it is once, then what they asked for, one run at a time and the most urgent first."""
        turn = [name for name in self._sensors if self._stage.now_s >= self._turn_s(name)]
        asked = [(name, request) for name in turn for request in self.tick(name)]
        asked.sort(key=lambda it: -int(it[1].tags.get(PRIORITY, 0)))
        yield from (self.execute(name, request) for name, request in asked)

    @property
    def judges_s(self) -> float:
        """When it is the turn of the sensor that judges windows; infinite where nothing has run since."""
        return max(map(self._turn_s, self._judges), default=_NEVER) if self._to_judge else _NEVER

    def _turn_s(self, name: str) -> float:
        if self._stage.calm and name in self._judges:
            return -_NEVER
        pause_s = JUDGED_S if name in self._judges else TOLD_S if name == TELLS else 0.0
        return self._ticked_s.get(name, -_NEVER) + pause_s

    def tell(self) -> None:
        """Have lineage deliver what there is."""
        for name in self._sensors:
            if name == TELLS:
                self.tick(name)

    def tick(self, name: str) -> list[dg.RunRequest]:
        """What a sensor asks for now, less what it asked for before."""
        sensor = self._repository.get_sensor_def(name)
        self._ticked_s[name] = self._stage.now_s
        # One that meets a database that is held asks for nothing, and has judged nothing.
        self._to_judge = self._to_judge and (name not in self._judges or self._stage.held.held)
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self._cursors.get(name),
            # Anew for each tick, as the daemon does it, but without asking its settings over again.
            resources={"plants": dg.ResourceDefinition.hardcoded_resource(ChaosPlants(home=self._plants.home))},
            repository_def=self._repository,
            sensor_name=name,
        )
        try:
            told = sensor.evaluate_tick(context)
        except Exception as error:
            # As the daemon does: the tick has failed, its cursor stays, and the next one comes.
            what = f"{name}: {type(error).__name__}"
            self.ticks_failed[what] += 1
            self._to_judge = True
            # Our errors come as Dagster's where a sensor says what they mean in the UI.
            if isinstance(error, Transient) or isinstance(error.__cause__, Transient):
                self._passes.add(what)
            return []
        finally:
            self._stage.close()
        self._cursors[name] = told.cursor
        fresh = []
        for request in told.run_requests or []:
            if request.run_key is None or request.run_key not in self._keys[name]:
                fresh.append(request)
            if request.run_key is not None:
                self._keys[name].add(request.run_key)
        return fresh

    def broken_ticks(self) -> list[str]:
        """Ticks that failed of anything but what passes, such as a database that is held."""
        return [f"{what} ended {n} ticks" for what, n in sorted(self.ticks_failed.items()) if what not in self._passes]

    def train(self, site: str, equipment_class: str) -> Ended:
        """The nightly training."""
        tags = run_tags(equipment_class, site, training=True)
        job = f"{equipment_class}_train"
        return self.execute("schedule", dg.RunRequest(job_name=job, partition_key=site, tags=tags))

    def execute(self, by: str, request: dg.RunRequest) -> Ended:
        """A run from its beginning to its end, whatever befalls it."""
        self._to_judge = True
        assert request.job_name is not None
        job = self._definitions.resolve_job_def(request.job_name)
        tags: dict[str, str] = {**request.tags, SENSOR: by}
        if request.run_key is not None:
            tags[RUN_KEY] = request.run_key
        run_id = str(uuid.UUID(int=self._ids.getrandbits(128), version=4))
        with self._stage.run():
            # Dagster itself notes the failure of a run; a death may come before it has begun to.
            with contextlib.suppress(WorkerKilled, Exception):
                job.execute_in_process(
                    run_config=_QUIET,
                    instance=self.instance,
                    partition_key=request.partition_key,
                    run_id=run_id,
                    tags=tags,
                    raise_on_error=False,
                )
            failures = tuple(self._stage.failures)
        run = self.instance.get_run_by_id(run_id)
        if run is not None and run.status == dg.DagsterRunStatus.CANCELED:
            raise KeyboardInterrupt  # Dagster took the user's for one of the run's; nobody else cancels here
        if run is not None and not run.is_finished:
            # What run monitoring does when the process of a run is gone.
            self.instance.report_run_failed(run)
            run = self.instance.get_run_by_id(run_id)
        known: dict[str, Any] = dict(run.tags) if run is not None else tags
        step = known.get(STEP, request.job_name.rpartition("_")[2])
        windows = run_windows(known, [self._stage.site.name])
        succeeded = run is not None and run.is_success
        if step == QUALITY and succeeded:
            # What it found calls for an answer, and there may be more to judge: that does not wait.
            for name in self._judges:
                self._ticked_s.pop(name, None)
        return Ended(run_id, step, known, windows, succeeded, failures)
