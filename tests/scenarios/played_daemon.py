"""A daemon in this process: evaluates sensors, keeps their cursors and run keys, and executes what they ask for."""

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg

from backbone.clock import Clock
from backbone.sites import Site
from hybrid_assets.definitions import build_definitions
from quality.warm import WarmValidator
from resources.bindings.plants import Plants
from resources.catalog.sites import read_sites
from resources.clock import SystemClock
from resources.home import Home
from resources.plant import Catalog, Plant

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class LaterClock(SystemClock):
    """The system's, so much later."""

    def __init__(self) -> None:
        self.later = timedelta()

    def now(self) -> datetime:
        return super().now() + self.later


_clocks: defaultdict[str, LaterClock] = defaultdict(LaterClock)


class OneSite(Catalog):
    """A home's catalog without the plants that ship, which would be served as well."""

    @cached_property
    def sites(self) -> dict[str, Site]:
        own = read_sites([self.home.sites], anchor=self.home.since)
        for site in own.values():
            self._check(site)
        return own


class LaterPlants(Plants):
    """The home's own plants, to whom a later clock tells the time."""

    @cached_property
    def catalog(self) -> Catalog:
        return OneSite(Home(Path(self.home)))

    @property
    def clock(self) -> Clock:
        # Dagster copies resources; all copies of a home's go by one clock.
        return _clocks[self.home]


class PlayedDaemon:
    """Sensors and runs of an installation, on its own Dagster instance."""

    def __init__(self, home: Home, instance: dg.DagsterInstance) -> None:
        self.plants = LaterPlants(home=str(home.root))
        self.instance = instance
        self._definitions = build_definitions(home, self.plants)
        self._repository = self._definitions.get_repository_def()
        self._cursors: dict[str, str | None] = {}
        self._asked: set[str] = set()

    def plant(self, site: str = "north") -> Plant:
        return self.plants.plant(site)

    def wait(self, **how_long: float) -> None:
        _clocks[self.plants.home].later += timedelta(**how_long)

    def tick(self, sensor: str) -> list[dg.RunRequest]:
        """What a sensor asks for now, less what it asked for before."""
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self._cursors.get(sensor),
            resources={"plants": self.plants},
            repository_def=self._repository,
            sensor_name=sensor,
        )
        told = self._repository.get_sensor_def(sensor).evaluate_tick(context)
        self._cursors[sensor] = told.cursor
        fresh = [r for r in told.run_requests or [] if r.run_key not in self._asked]
        self._asked |= {str(r.run_key) for r in fresh}
        return fresh

    def execute(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """A run of what was asked for, to its end."""
        job = self._definitions.resolve_job_def(str(request.job_name))
        if request.asset_check_keys:
            job = job.get_subset(asset_selection=set(), asset_check_selection=set(request.asset_check_keys))
        return job.execute_in_process(
            instance=self.instance,
            partition_key=request.partition_key,
            tags=dict(request.tags),
            run_config=_QUIET,
            raise_on_error=False,
        )

    def run(self, sensor: str) -> list[str]:
        """Evaluate a sensor and execute what it asks for; the names of the jobs. All have to succeed."""
        done = []
        for request in self.tick(sensor):
            result = self.execute(request)
            assert result.success, [e.message for e in result.all_events if e.is_failure]
            done.append(str(request.job_name))
        return done


@contextmanager
def played_daemon(home: Home) -> Iterator[PlayedDaemon]:
    """A daemon on an installation; the quality worker that it had started ends with it."""
    with dg.DagsterInstance.from_config(str(home.dagster)) as instance:
        try:
            yield PlayedDaemon(home, instance)
        finally:
            WarmValidator(home.quality).dismiss()


def numbers(evaluation: dg.AssetCheckEvaluation) -> dict[str, Any]:
    """The metadata of a check as plain values."""
    return {name: getattr(value, "value", json.dumps(str(value))) for name, value in evaluation.metadata.items()}
