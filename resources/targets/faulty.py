"""Any other target, with faults: for testing failover on a plant's own configuration."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import Field

from backbone.errors import ConfigurationError, TargetFailed
from backbone.settings import Share, settings_from
from backbone.targets import OUTPUT, SCRATCH, WORK, ComputeTarget, TargetContext, TargetSpec, TargetStatus

FaultKind = Literal["refuse", "hang", "die", "late", "wrong"]
Seconds = Annotated[float, Field(ge=0)]

_RUNNING = TargetStatus("running")
_CANCELLED = TargetStatus("failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Fault:
    """What befalls one piece of work.

    Attributes:
        kind: `refuse`: it is not started; `hang`: it never runs, and runs on until it is cancelled; `die`: it is ended
            half way; `late`: its end is told later; `wrong`: it succeeds, and a result is not what it wrote.
        after_s: by how much an end is late; how long after its start it dies, if it has not ended before.
    """

    kind: FaultKind
    after_s: float = 0.0


Fates = Callable[[int, datetime], Fault | None]
"""What befalls the launch with this number, counted from 0, at this time; None: nothing."""


@dataclass(frozen=True)
class _Settings:
    """Probabilities of the faults, and the target that they befall."""

    wraps: dict[str, Any]
    seed: int = 0
    refuse: Share = 0.0
    hang: Share = 0.0
    die: Share = 0.0
    late: Share = 0.0
    wrong: Share = 0.0
    die_after_s: Seconds = 1.0
    late_s: Seconds = 5.0

    def __post_init__(self) -> None:
        if (total := sum(self._shares.values())) > 1 + 1e-9:
            raise ConfigurationError(
                f"the probabilities of its faults sum up to {total:g}.", next_step="Lower them: 1 is the most."
            )
        if not isinstance(self.wraps.get("kind"), str):
            raise ConfigurationError(
                "wraps names no kind of target.", next_step='Write it as in `wraps = { kind = "subprocess" }`.'
            )

    @property
    def _shares(self) -> dict[FaultKind, float]:
        return {"refuse": self.refuse, "hang": self.hang, "die": self.die, "late": self.late, "wrong": self.wrong}

    def fate(self, number: int, _now: datetime) -> Fault | None:
        """The same for the same seed and number, whenever and wherever it is asked for."""
        drawn = random.Random(f"{self.seed}:{number}").random()  # noqa: S311 - faults need no secrecy
        for kind, share in self._shares.items():
            if drawn < share:
                return Fault(kind, {"die": self.die_after_s, "late": self.late_s}.get(kind, 0.0))
            drawn -= share
        return None


@dataclass(slots=True)
class _Doomed:
    """A piece of work that a fault befalls; `end` is how it has ended, as far as anybody is told."""

    fault: Fault
    started_s: float
    ended_s: float | None = None
    end: TargetStatus | None = field(default=None)


class FaultyTarget:
    """Hands work on to another target, and lets faults befall it.

    Launches are counted over the life of the location's store, across processes, so that a run in a process of its
    own meets the next fate and not the first one again.

    Args:
        inner: a target at the same location; its handles are passed on.
        fates: decides what befalls which launch.
    """

    def __init__(self, inner: ComputeTarget, context: TargetContext, fates: Fates) -> None:
        self._inner, self._fates = inner, fates
        self._name, self._clock = context.name, context.clock
        self._work = context.store / WORK
        self._launches = context.store / "faulty" / f"{quote(context.name, safe='')}.launches"
        self._doomed: dict[str, _Doomed] = {}
        self._moving_on = threading.RLock()

    def launch(self, command: Sequence[str], env: Mapping[str, str], inputs: Mapping[str, Path]) -> str:
        """See `backbone.targets.ComputeTarget.launch`."""
        fault = self._fates(self._next_number(), self._clock.now())
        if fault is not None and fault.kind == "refuse":
            raise TargetFailed(
                f"Target {self._name} could not start {command[0]}: it refused, as its faults have it.",
                next_step="Try again, or elsewhere.",
            )
        hangs = fault is not None and fault.kind == "hang"
        handle = uuid.uuid4().hex if hangs else self._inner.launch(command, env, inputs)
        if fault is not None:
            self._doomed[handle] = _Doomed(fault, self._clock.monotonic())
        return handle

    def poll(self, handle: str) -> TargetStatus:
        doomed = self._doomed.get(handle)
        if doomed is None:
            return self._inner.poll(handle)
        with self._moving_on:
            if doomed.end is None:
                status = self._told(handle, doomed)
                doomed.end = None if status.running else status
            return doomed.end or _RUNNING

    def cancel(self, handle: str) -> None:
        doomed = self._doomed.get(handle)
        if doomed is not None and self.poll(handle).running:
            with self._moving_on:
                doomed.end = _CANCELLED
        if doomed is None or doomed.fault.kind != "hang":
            self._inner.cancel(handle)

    def logs(self, handle: str) -> str:
        doomed = self._doomed.get(handle)
        return "" if doomed is not None and doomed.fault.kind == "hang" else self._inner.logs(handle)

    def _told(self, handle: str, doomed: _Doomed) -> TargetStatus:
        fault, now_s = doomed.fault, self._clock.monotonic()
        if fault.kind == "hang":
            return _RUNNING
        status = self._inner.poll(handle)
        if not status.running and doomed.ended_s is None:
            doomed.ended_s = now_s
        if fault.kind == "die" and (doomed.ended_s is not None or now_s - doomed.started_s >= fault.after_s):
            self._inner.cancel(handle)
            return TargetStatus("failed", "it died half way, as its faults have it")
        if fault.kind == "late" and doomed.ended_s is not None and now_s - doomed.ended_s < fault.after_s:
            return _RUNNING
        if fault.kind == "wrong" and status.state == "succeeded":
            _spoil(self._work / handle)
        return status

    def _next_number(self) -> int:
        """One byte is appended for each launch: where it lands is its number, whoever else appends."""
        try:
            self._launches.parent.mkdir(parents=True, exist_ok=True)
            with self._launches.open("ab", buffering=0) as file:
                file.write(b".")
                return file.tell() - 1
        except OSError as error:
            raise TargetFailed(
                f"Target {self._name} could not count its launches: {error}.",
                next_step="See that the location's store can be written.",
            ) from error


def _spoil(folder: Path) -> None:
    """Turn over one bit in the first of the results, by name."""
    results = (p for p in sorted(folder.rglob("*")) if p.relative_to(folder).parts[0] not in (SCRATCH, OUTPUT))
    path = next((p for p in results if p.is_file()), None)
    if path is not None:
        content = bytearray(path.read_bytes() or b"\0")
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


def _open(context: TargetContext) -> ComputeTarget:
    settings = settings_from(_Settings, context.settings, where=f"target {context.name}")
    if context.open is None:
        raise ConfigurationError(
            f"Target {context.name} has nobody to open the target it wraps.",
            next_step="Open it with a context whose `open` opens targets of other kinds.",
        )
    wrapped = dict(settings.wraps)
    return FaultyTarget(context.open(wrapped.pop("kind"), wrapped), context, settings.fate)


SPEC = TargetSpec(
    name="faulty",
    summary="Any other target, with seeded faults: it refuses, hangs, dies half way, answers late or wrongly.",
    cannot={
        "remember": "work that a fault befell is known to the process that launched it, to nobody else",
        "more than it wraps": "what the target it wraps cannot do, it cannot do either",
    },
    settings=_Settings,
    open=_open,
)
