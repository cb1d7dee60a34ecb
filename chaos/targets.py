"""The targets of a rehearsal: the workers run for real, in this process; what becomes of them is decided here."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from backbone.errors import TargetUnreachable
from backbone.targets import WORK, ComputeTarget, TargetContext, TargetStatus
from chaos.scenario import OF_TARGETS, PlannedFault
from resources.targets.faulty import Fault, FaultyTarget
from resources.targets.faulty import FaultKind as Fate
from resources.targets.in_process import InProcessTarget

if TYPE_CHECKING:
    from chaos.stage import Stage
    from resources.plant import Plant

_TRAIN = "hybrid_assets.workers.train"
_SCORE = "hybrid_assets.workers.score"
_TAKES_S = {_TRAIN: 120.0, "hybrid_assets.workers.evaluate": 15.0, _SCORE: 0.1}
_LATE_S, _SLOW_S = 45.0, 40.0
_FATES: Mapping[str, Fate] = {
    "target_dies": "die",
    "target_hangs": "hang",
    "target_refuses": "refuse",
    "target_late": "late",
    "target_wrong": "wrong",
}


class StagedTarget:
    """A target of the plant, under the same name at the same location, that fails as the scenario has it.

    Between it and the worker stands `FaultyTarget`; this adds what that cannot know: which workload a launch is of, how
    long work takes, and that a whole location cannot be reached.
    """

    def __init__(self, stage: Stage, context: TargetContext, location: str, inner: ComputeTarget) -> None:
        self._stage, self._name, self._location = stage, context.name, location
        self._target = FaultyTarget(inner, context, self._fate)
        self._module = ""
        self._launches = 0
        self._cut_off = 0

    def launch(self, command: Sequence[str], env: Mapping[str, str], inputs: Mapping[str, Path]) -> str:
        """See `backbone.targets.ComputeTarget.launch`."""
        self._launches += 1
        # A link that is cut refuses at once, or takes the work and is silent from then on.
        if self._cut() and self._draw("cut") < 0.5:
            self._struck()
            raise TargetUnreachable(f"{self._location} cannot be reached from {self._name}.", next_step="Use another.")
        self._module = command[-1]
        handle = self._target.launch(command, env, inputs)
        self._stage.clock.sleep(_TAKES_S.get(self._module, 1.0) * (0.8 + 0.4 * self._draw("takes")))
        return handle

    def poll(self, handle: str) -> TargetStatus:
        self._reach()
        return self._target.poll(handle)

    def cancel(self, handle: str) -> None:
        self._reach()
        self._target.cancel(handle)

    def logs(self, handle: str) -> str:
        return "" if self._cut() else self._target.logs(handle)

    def _reach(self) -> None:
        if self._cut():
            self._struck()
            raise TargetUnreachable(f"{self._location} does not answer.", next_step="Use another.")

    def _struck(self) -> None:
        """A piece of work that is asked for again and again is cut off once."""
        if self._launches != self._cut_off:
            self._stage.struck["location_cut"] += 1
            self._cut_off = self._launches

    def _cut(self) -> bool:
        return any(f.location == self._location for f in self._stage.active("location_cut"))

    def _fate(self, _number: int, _now: datetime) -> Fault | None:
        for fault in self._stage.active(*OF_TARGETS, "model_slow"):
            if (found := self._of(fault)) is not None:
                self._stage.struck[fault.kind] += 1
                return found
        return None

    def _of(self, fault: PlannedFault) -> Fault | None:
        if self._draw(fault.start_s, fault.kind) >= fault.probability:
            return None
        if fault.kind == "model_slow":
            return Fault("late", fault.seconds or _SLOW_S) if self._module == _SCORE else None
        if fault.target not in (None, self._name):
            return None
        if fault.kind == "target_flaps":
            drawn = self._draw("flaps", fault.start_s)
            return Fault("die", 0.0) if drawn < 0.25 else Fault("refuse") if drawn < 0.5 else None
        return Fault(_FATES[fault.kind], (fault.seconds or _LATE_S) if fault.kind == "target_late" else 0.0)

    def _draw(self, *what: object) -> float:
        return self._stage.rng(self._name, self._launches, *what).random()


class RecordedTarget:
    """Runs workers in this process; trains once, and leaves the same model again each time after.

    Training anew each night of a rehearsal would take hours and prove nothing about failures.
    """

    def __init__(self, inner: ComputeTarget, store: Path, kept: Path) -> None:
        self._inner, self._store, self._kept = inner, store, kept
        self._training = ""
        self._said: dict[str, str] = {}

    def launch(self, command: Sequence[str], env: Mapping[str, str], inputs: Mapping[str, Path]) -> str:
        if command[-1] != _TRAIN:
            return self._inner.launch(command, env, inputs)
        if not self._kept.exists():
            self._training = self._inner.launch(command, env, inputs)
            said = self._inner.logs(self._training)
            if self._inner.poll(self._training).state == "succeeded":
                self._keep(self._training, said)
            self._said[self._training] = said
            return self._training
        handle = uuid.uuid4().hex
        shutil.copytree(self._kept / "results", self._store / WORK / handle)
        self._said[handle] = (self._kept / "said").read_text(encoding="utf-8")
        return handle

    def poll(self, handle: str) -> TargetStatus:
        if handle in self._said and handle != self._training:
            return TargetStatus("succeeded")
        return self._inner.poll(handle)

    def cancel(self, handle: str) -> None:
        if handle not in self._said:
            self._inner.cancel(handle)

    def logs(self, handle: str) -> str:
        if handle not in self._said:
            return self._inner.logs(handle)
        said, self._said[handle] = self._said[handle], ""
        return said

    def _keep(self, handle: str, said: str) -> None:
        shutil.copytree(self._store / WORK / handle, self._kept / "results")
        (self._kept / "said").write_text(said, encoding="utf-8")


def staged_target(stage: Stage, plant: Plant, name: str) -> StagedTarget:
    """Open a target of the plant on the stage."""
    location = stage.site.target(name).location
    store = plant.store(location)
    context = TargetContext(name, store, stage.clock)
    inner = RecordedTarget(InProcessTarget(context, background=False), store, stage.home.root / "trained")
    return StagedTarget(stage, context, location, inner)
