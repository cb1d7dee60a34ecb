"""`hybrid run`: the same steps the sensors would start, in this process, until nothing is due."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from time import perf_counter
from typing import TYPE_CHECKING, Any

from backbone.errors import ConfigurationError, Terminal
from backbone.windows import Step, WindowRange, next_step
from cli.lineage import relay_after_run
from cli.reporting import Report
from resources.collector import collect, due_until
from resources.home import Home
from resources.plant import Catalog, Plant

if TYPE_CHECKING:
    import dagster as dg

    from backbone.contracts import Contract

_TITLES = {
    "ingest": "storing telemetry",
    "train": "training",
    "mend": "making good",
    "score": "scoring",
    "serve": "serving",
}

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""The run's log is in its history; on the terminal it would drown what the command says."""


def run_site(
    site: str, first: date | None, last: date | None, *, train: bool, as_json: bool, checks: bool = True
) -> None:
    """Take up what is due, serve it, and judge the windows that were written.

    Args:
        first, last: serve exactly these days again; None, None: serve whatever is due.
        train: train (and release, if earned) before serving, as the nightly schedule would.
        checks: judge, and have the rules answer where a verdict forbids the model's answer, as the sensor would.

    Raises:
        UnknownName: there is no such site.
        Terminal: a step failed; what was done before it stays done.
    """
    report = Report(as_json=as_json)
    home = Home.from_environment().prepare()
    os.environ["HYBRID_HOME"], os.environ["DAGSTER_HOME"] = str(home.root), str(home.dagster)
    plant = Plant(Catalog(home), site)
    _check_days(plant, first, last)
    try:
        with _runner() as runner:
            fleets = [_Fleet(runner, plant, equipment_class, report) for equipment_class in plant.site.classes]
            for fleet in fleets:
                fleet.take_up(last)

            def serve() -> list[dict[str, Any]]:
                return [step for fleet in fleets for step in fleet.serve(first, last, train=train)]

            steps = serve()
            judged = judge_fleets(runner, plant, report) if checks else {}
            # The windows after one that a verdict has blocked must not rest on it: they are served, and judged, again.
            while checks and (again := serve()):
                steps += again
                judged = judge_fleets(runner, plant, report)
    finally:
        relay_after_run(home, report)
    served = {c: summary(plant, c) | judged.get(c, {}) for c in plant.site.classes}
    lines = [f"{c}: " + ", ".join(f"{k} {v}" for k, v in s.items()) for c, s in served.items()]
    report.result({"site": site, "steps": steps, "fleets": served}, lines)


def summary(plant: Plant, equipment_class: str) -> dict[str, Any]:
    """Where a fleet stands: windows, rows, releases, and who serves its newest window."""
    progress = plant.progress(equipment_class)
    rows = {
        name: sum(plant.table(equipment_class, name).rows_by_day(plant.site.name).values())
        for name in ("telemetry", "telemetry_quarantine")
    }
    answers = plant.answers(equipment_class).all().values()
    served_by: dict[str, int] = {}
    if progress.served:
        newest = plant.advisories(equipment_class).read(
            plant.site.name, max(progress.served), max(progress.served), columns=["served_by"]
        )
        for value in newest["served_by"].to_pylist():
            served_by[value] = served_by.get(value, 0) + 1
    return {
        "windows_landed": len(progress.landed),
        "windows_served": len(progress.served),
        **rows,
        "advisories": sum(answer.rows for answer in answers),
        "windows_degraded": sum(answer.mendable > 0 for answer in answers),
        "releases": len(plant.registry(equipment_class).versions()),
        "newest_window": max(progress.served, default=None),
        "served_by": served_by,
    }


def _check_days(plant: Plant, first: date | None, last: date | None) -> None:
    site = plant.site
    for day in (first, last):
        if day and (day < site.first_day or (site.last_day and day > site.last_day)):
            raise ConfigurationError(
                f"{day} is not in the calendar of {site.name}, {site.first_day} to {site.last_day or 'open'}.",
                next_step="Choose another day.",
            )
    if first and last and last < first:
        raise ConfigurationError(f"--to {last} lies before --from {first}.", next_step="Swap them.")


@dataclass(frozen=True)
class _Fleet:
    """One class of a plant: its steps are executed here, none of them twice."""

    runner: _Runner
    plant: Plant
    equipment_class: str
    report: Report
    asked: set[Step] = field(default_factory=set)

    def take_up(self, last: date | None) -> None:
        """Take up what the source has, at most to the end of a day."""
        now = datetime.now(UTC)
        until = due_until(self.plant, self.equipment_class, now)
        if last is not None:
            until = min(until, datetime.combine(last, time(), UTC) + timedelta(days=1))
        with self.report.task(f"{self.equipment_class}: taking up telemetry until {until:%Y-%m-%d %H:%M}"):
            for landed in collect(self.plant, self.equipment_class, until=until, now=now):
                if landed.receipt.note:
                    self.report.note(f"refused {landed.origin}: {landed.receipt.note}")

    def serve(self, first: date | None, last: date | None, *, train: bool) -> list[dict[str, Any]]:
        """Execute what is due, or what was asked for, and was not executed before."""
        from sensors.recovery import mending

        done: list[dict[str, Any]] = []
        explicit = first is not None or last is not None
        while (step := next_step(self.plant.progress(self.equipment_class))) is not None:
            if step in self.asked or (explicit and step.kind in ("score", "serve")):
                break  # the same step twice would be the same failure twice
            done.append(self._execute(step))
        landed = self.plant.landing(self.equipment_class).fingerprints()
        wanted = []
        if train and landed and not any(step.kind == "train" for step in self.asked):
            wanted.append(Step("train", min(landed), max(landed), cause="asked for"))
        if explicit and landed:
            wanted.append(Step("serve", first or min(landed), last or max(landed), cause="asked for"))
        done += [self._execute(step) for step in wanted if step not in self.asked]
        if explicit:
            return done
        while not isinstance(found := mending(self.plant, self.equipment_class), str):
            kind, windows, cause = found
            step = Step(kind, windows.first, windows.last, cause)
            if step in self.asked:
                break
            done.append(self._execute(step))
        return done

    def _execute(self, step: Step) -> dict[str, Any]:
        self.asked.add(step)
        with self.report.task(f"{self.equipment_class}: {_TITLES[step.kind]} {step.first}..{step.last}"):
            return self.runner.execute(self.plant, self.equipment_class, step)


def judge_fleets(runner: _Runner, plant: Plant, report: Report) -> dict[str, dict[str, Any]]:
    """Class → how many of its windows are blocked and how many warned of, once all that were written are judged.

    What the quality sensor asks for is executed until it asks for nothing. A run that fails stops that and is told;
    the windows are due again the next time.
    """
    from quality.warm import WarmValidator

    try:
        for equipment_class in plant.site.classes:
            while requests := runner.asked_by_quality(plant, equipment_class):
                with report.task(f"{equipment_class}: {_told(requests)}"):
                    failed = next((why for r in requests if (why := runner.answer(r)) is not None), None)
                if failed is not None:
                    report.note(f"{equipment_class}: windows wait to be judged: {failed}")
                    break
    finally:
        # What a cron job started must not outlive it by a quarter of an hour; a daemon's worker goes on.
        WarmValidator(plant.catalog.home.quality).dismiss_own()
    return {c: _standings(plant, c) for c in plant.site.classes}


def _told(requests: Sequence[dg.RunRequest]) -> str:
    from resources.bindings.partitions import RANGE_END, RANGE_START

    request = requests[0]
    first, last = (str(request.tags[tag]).partition("|")[0] for tag in (RANGE_START, RANGE_END))
    return f"{'judging' if request.asset_check_keys else 'the rules answer'} {first}..{last}"


def _standings(plant: Plant, equipment_class: str) -> dict[str, Any]:
    standing: dict[str, set[date]] = {"blocked": set(), "warned": set()}
    for (_, day), verdict in plant.verdicts(equipment_class).all().items():
        if verdict.standing in standing:
            standing[verdict.standing].add(day)
    return {f"windows_{name}": len(days) for name, days in standing.items()}


class _Runner:
    """Executes jobs in this process, on the persistent instance."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        from hybrid_assets.definitions import defs

        self._instance, self._defs = instance, defs
        self._asked: set[str] = set()

    def __enter__(self) -> _Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self._instance.dispose()

    def execute(self, plant: Plant, equipment_class: str, step: Step) -> dict[str, Any]:
        from resources.bindings.partitions import range_tags, run_tags

        site = plant.site.name
        started = perf_counter()
        job = self._defs.resolve_job_def(f"{equipment_class}_{step.kind}")
        if step.kind == "train":
            tags = run_tags(equipment_class, site, training=True)
            result = job.execute_in_process(
                instance=self._instance, partition_key=site, tags=tags, run_config=_QUIET, raise_on_error=False
            )
        else:
            tags = run_tags(equipment_class, site) | range_tags(WindowRange(site, step.first, step.last))
            result = job.execute_in_process(instance=self._instance, tags=tags, run_config=_QUIET, raise_on_error=False)
        if not result.success:
            answered = step.kind in ("mend", "score", "serve") and self._answer_in_place(
                plant, equipment_class, step, result
            )
            meanwhile = " The rules have answered meanwhile." if answered else ""
            raise Terminal(_why(result) + meanwhile, next_step=f"Run {result.run_id} has the whole story: hybrid up.")
        return {
            "step": step.kind,
            "first": step.first,
            "last": step.last,
            "run_id": result.run_id,
            "seconds": round(perf_counter() - started, 1),
        }

    def asked_by_quality(self, plant: Plant, equipment_class: str) -> list[dg.RunRequest]:
        """What the quality sensor would ask for now, answers in the model's place first; each thing once."""
        import dagster as dg

        from quality.window_checks import checks_by_product
        from sensors.jobs import fleet_jobs
        from sensors.quality import answers_in_place, to_judge

        jobs = fleet_jobs(equipment_class)
        checks = checks_by_product(equipment_class, fleet_contracts(plant, equipment_class))
        requests = answers_in_place(plant, equipment_class, jobs)
        if not requests:
            found = to_judge(self._instance, plant, equipment_class, jobs, checks)
            requests = [found] if isinstance(found, dg.RunRequest) else []
        fresh = [request for request in requests if request.run_key not in self._asked]
        self._asked |= {str(request.run_key) for request in fresh}
        return fresh

    def answer(self, request: dg.RunRequest) -> str | None:
        """A run of what a sensor would ask for; why it failed, if it did."""
        job = self._defs.resolve_job_def(str(request.job_name))
        if request.asset_check_keys:
            job = job.get_subset(asset_selection=set(), asset_check_selection=set(request.asset_check_keys))
        result = job.execute_in_process(
            instance=self._instance, tags=dict(request.tags), run_config=_QUIET, raise_on_error=False
        )
        return None if result.success else _why(result)

    def _answer_in_place(
        self, plant: Plant, equipment_class: str, step: Step, failed: dg.ExecuteInProcessResult
    ) -> bool:
        """What the fallback sensor does where a daemon runs; whether it went well."""
        from backbone.reasons import ERROR
        from resources.bindings.partitions import in_place_tags
        from sensors.fallback import Standing, due_in_place, in_a_row

        windows = WindowRange(plant.site.name, step.first, step.last)
        standing = Standing.of(plant, equipment_class)
        epoch, due = due_in_place(standing, failed.run_id, failed.dagster_run.tags, windows)
        job = self._defs.resolve_job_def(f"{equipment_class}_fallback")
        answered = []
        for days in in_a_row(due):
            tags = in_place_tags(equipment_class, WindowRange(plant.site.name, *days), epoch, ERROR)
            done = job.execute_in_process(instance=self._instance, tags=tags, run_config=_QUIET, raise_on_error=False)
            answered.append(done.success)
        return bool(answered) and all(answered)


def fleet_contracts(plant: Plant, equipment_class: str) -> Mapping[str, Contract]:
    """Asset of the plant → its contract, with the columns of the class."""
    from hybrid_assets.fleet import Fleet
    from maintenance.equipment_class import equipment_class_from_contract

    contracts = plant.catalog.contracts
    return Fleet(equipment_class_from_contract(contracts[equipment_class]), (plant.site,), contracts).held_contracts


def _why(result: dg.ExecuteInProcessResult) -> str:
    for event in result.filter_events(lambda e: e.is_step_failure or e.is_failure):
        data: Any = event.event_specific_data
        failure = getattr(data, "user_failure_data", None)
        if failure is not None and failure.description:
            return f"{event.step_key}: {failure.description}"
        if getattr(data, "error", None) is not None:
            return f"{event.step_key or event.job_name}: {data.error.message.strip()}"
    return "The run failed."


def _runner() -> _Runner:
    import dagster as dg

    return _Runner(dg.DagsterInstance.get())
