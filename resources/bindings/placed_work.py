"""Placed work: choose a target, carry there what it needs, run it, and go elsewhere where that fails."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import dagster as dg
import stamina

from backbone import plugins
from backbone.conduit import Crossing, StorePath
from backbone.errors import IntegrityError, StorageFull, TargetFailed, TargetLate, TargetUnreachable
from backbone.placement import NoCandidate, Placement
from backbone.targets import TargetSpec
from resources import targets
from resources.bindings.pipes import run_on_target
from resources.conduit import size_of
from resources.dispatch import GB, Try, latest_s, most_tries
from resources.plant import Plant

_TOO_LATE = "the deadline passed"


@dataclass(frozen=True, slots=True)
class Parcel:
    """Something a piece of work needs: what it is, for the record of crossings, and where it lies."""

    what: str
    at: StorePath


@dataclass(frozen=True, slots=True)
class Placed:
    """A piece of work that was done.

    Attributes:
        record: what the worker reported.
        folder: its results, in the store of the location where it ran.
        crossings: what was carried there for it.
        history: the tries that failed before, one line each.
        seconds, cost: from launch to result, in the site's currency.
    """

    record: dict[str, Any]
    folder: StorePath
    placement: Placement
    crossings: tuple[Crossing, ...]
    history: tuple[str, ...]
    seconds: float
    cost: float

    @property
    def location(self) -> str:
        return self.folder.location


class Budget:
    """What one call may take for all it asks: so many tries, and one deadline for everything after the first of them.

    The first try has a whole deadline. When it has ended and something is still to be done (it failed, or what it
    brought will not do), a deadline begins that every further try shares, whichever work it is of.

    Args:
        workload: whose `attempts` and `deadline_s` these are.
    """

    def __init__(self, plant: Plant, workload: str) -> None:
        self.most = self.tries_left = most_tries(plant.site, workload)
        self._latest_s, self._clock = latest_s(plant.site, workload), plant.clock
        self._since_s: float | None = None

    @property
    def counts_down(self) -> bool:
        """Whether the first try is over, and what is left of the deadline is for all others."""
        return self._since_s is not None

    def goes_on(self) -> None:
        """More has to be tried: from the first time on that this is said after a try, the deadline runs."""
        if self._since_s is None and self.tries_left < self.most:
            self._since_s = self._clock.monotonic()

    def take(self) -> None:
        """One more try is made."""
        self.tries_left -= 1

    def left_s(self, deadline_s: float | None) -> float:
        """Seconds until an answer is due, for work with this deadline."""
        if deadline_s is None:
            return inf
        return deadline_s if self._since_s is None else self._since_s + deadline_s - self._clock.monotonic()

    @property
    def in_time(self) -> bool:
        """Whether there is time for another try."""
        return self.left_s(self._latest_s) > 0


def run_placed(
    context: dg.AssetExecutionContext,
    plant: Plant,
    equipment_class: str,
    workload: str,
    command: Sequence[str],
    *,
    parcels: Mapping[str, Parcel],
    extras: Mapping[str, Any],
    budget: Budget | None = None,
) -> Placed:
    """Run a worker where the workload is best placed; where that fails, block the target, place it again, try there.

    This is the one layer that tries again: no asset has a retry policy and no target retries, so that a workload is
    started `attempts` times at most. All tries after the first failure share one deadline.

    Args:
        command: see `backbone.targets.ComputeTarget.launch`.
        parcels: input's name → what to bring to wherever the work runs.
        extras: JSON settings the worker reads from its Pipes context; `budget` is added, the share of the full effort.
        budget: what is left for this and for what is asked after it, where one call asks for several pieces of work.

    Raises:
        NoCandidate: no target is left, or no time for another try; carries the placement and the history of tries.
        TargetLate: the work had all the time it may take at one target, and no other ended it in what was left.
        TargetFailed: the last try allowed failed; its text carries the history.
    """
    budget = budget or Budget(plant, workload)
    if budget.tries_left < 1:
        raise TargetFailed(
            f"All {budget.most} tries of {workload} were made.", next_step="See how each of them failed."
        )
    going = _Going(context, plant, equipment_class, workload, command, parcels, extras, budget)
    for attempt in stamina.retry_context(
        on=going.may_go_on, attempts=budget.tries_left, wait_initial=0, wait_max=0, wait_jitter=0
    ):
        with attempt:
            return going.once()
    raise AssertionError("unreachable: the last attempt returns or raises")


class _Going:
    """A workload on its way through its tries."""

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        plant: Plant,
        equipment_class: str,
        workload: str,
        command: Sequence[str],
        parcels: Mapping[str, Parcel],
        extras: Mapping[str, Any],
        budget: Budget,
    ) -> None:
        self._context, self._plant, self._fleet = context, plant, f"{equipment_class}/{plant.site.name}"
        self._workload, self._command, self._parcels, self._extras = workload, command, parcels, extras
        self._budget = budget
        self._history: list[str] = []
        self._had_its_time = self._over = False

    def may_go_on(self, error: Exception) -> bool:
        """Whether another try may help."""
        return isinstance(error, TargetFailed) and not isinstance(error, NoCandidate) and not self._over

    def once(self) -> Placed:
        """One try; what it learns stays for the next."""
        plant, dispatcher = self._plant, self._plant.dispatcher
        data_gb: defaultdict[str, float] = defaultdict(float)
        for parcel in self._parcels.values():
            data_gb[parcel.at.location] += size_of(plant.store(parcel.at.location) / parcel.at.path) / GB
        placement = dispatcher.place(self._workload, data_gb)
        if placement.chosen is None or placement.requirements is None:
            raise NoCandidate(placement, self._history)
        candidate, shared = placement.chosen.candidate, self._budget.counts_down
        limit_s = min(candidate.timeout_s, self._budget.left_s(placement.requirements.deadline_s))
        if limit_s <= 0:
            raise self._too_late(placement)
        self._budget.take()
        try:
            attempt = dispatcher.start(self._fleet, placement, run_id=self._context.run.run_id, limit_s=limit_s)
        except TargetFailed as error:
            self._history.append(error.problem)
            raise
        crossings: list[Crossing] = []
        loose: list[int] = []
        try:
            return self._run(attempt, crossings, loose)
        except BaseException as error:
            why = error.problem if isinstance(error, TargetFailed) else f"{type(error).__name__}: {error}"
            cut_short = isinstance(error, TargetLate) and shared and attempt.limit_s < candidate.timeout_s
            dispatcher.failed(attempt, why, crossings, targets_fault=isinstance(error, TargetFailed) and not cut_short)
            if isinstance(error, TargetUnreachable):
                dispatcher.unreachable(attempt, why)
            for work in loose:
                plant.works.still_runs(work)
            if not isinstance(error, TargetFailed):
                raise
            self._history.append(f"{candidate.target} at {candidate.location}: {why}")
            self._budget.goes_on()
            self._context.log.warning(f"{self._workload} failed over from {candidate.target}: {why}")
            if cut_short:  # it had only what time others had left, which is not its fault, and there is none now
                raise self._too_late(placement) from error
            self._had_its_time |= isinstance(error, TargetLate)
            kind = TargetLate if isinstance(error, TargetLate) else TargetFailed
            raise kind(
                f"{self._workload} failed: {'; '.join(self._history).rstrip('.')}.", next_step=error.next_step
            ) from error

    def _too_late(self, placement: Placement) -> TargetFailed:
        """No time is left. Work that was late although it had all the time it may take may itself be why."""
        self._over, history = True, [*self._history, _TOO_LATE]
        if not self._had_its_time:
            return NoCandidate(placement, history)
        return TargetLate(f"{self._workload} failed: {'; '.join(history)}.", next_step="See what takes it so long.")

    def _run(self, attempt: Try, crossings: list[Crossing], loose: list[int]) -> Placed:
        plant, placement = self._plant, attempt.placement
        assert placement.chosen is not None
        assert placement.requirements is not None
        candidate = placement.chosen.candidate
        store = plant.store(candidate.location)
        inputs = {}
        for name, parcel in self._parcels.items():
            if parcel.at.location != candidate.location:
                crossings.append(self._carry(parcel, candidate.location))
            inputs[name] = store / parcel.at.path
        # What carrying took of a deadline that others share is not there for the work.
        limit_s = min(attempt.limit_s, self._budget.left_s(placement.requirements.deadline_s))
        if limit_s <= 0:
            raise TargetLate(
                f"What it needs was at {candidate.location} only when the deadline had passed.",
                next_step="See how long its inputs take there.",
            )
        spec: TargetSpec = plugins.load(targets, candidate.kind)
        results = run_on_target(
            self._context,
            plant.target(candidate.target),
            replace(plant.site.target(candidate.target), timeout_s=limit_s),
            store,
            self._workload,
            self._command,
            inputs=inputs,
            extras={**self._extras, "budget": placement.requirements.budget},
            clock=plant.clock,
            poll_s=spec.poll_s,
            silence_s=plant.site.target(candidate.target).silence_s,
            on_launch=lambda handle: plant.works.launched(attempt.work, handle),
            on_loose=lambda: loose.append(attempt.work),
        )
        seconds = plant.clock.monotonic() - attempt.began_s
        cost = plant.dispatcher.succeeded(attempt, crossings)
        folder = StorePath(candidate.location, results.folder.relative_to(store).as_posix())
        return Placed(results.record, folder, placement, tuple(crossings), tuple(self._history), seconds, cost)

    def _carry(self, parcel: Parcel, location: str) -> Crossing:
        """Bring a parcel to a location. One that does not take it, or takes it damaged, is out of reach."""
        there = StorePath(location, parcel.at.path)
        try:
            return self._plant.conduit.carry(parcel.what, parcel.at, there, run_id=self._context.run.run_id)
        except (OSError, IntegrityError, StorageFull) as error:
            if not (self._plant.store(parcel.at.location) / parcel.at.path).exists():
                raise
            raise TargetUnreachable(
                f"{parcel.what} could not be brought to {location}: {error}", next_step="See to the location's store."
            ) from error


def placed_metadata(placed: Placed, currency: str) -> dict[str, Any]:
    """What the UI shows of placed work: where it ran, why there, what it took and cost."""
    chosen = placed.placement.chosen
    assert chosen is not None
    lines = [f"- {line}" for line in (*(f"tried: {h}" for h in placed.history), *placed.placement.table())]
    return {
        "location": placed.location,
        "target": chosen.candidate.target,
        "placement": dg.MetadataValue.md("\n".join(lines)),
        "placed_as": chosen.alternative,
        "tries": len(placed.history) + 1,
        "work_seconds": round(placed.seconds, 3),
        "cost": round(placed.cost, 6),
        "expected_cost": round(chosen.expected_cost, 6),
        "currency": currency,
    }
