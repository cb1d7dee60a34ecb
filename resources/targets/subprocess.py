"""A process of its own on this machine: the embedded stand-in for a cloud."""

from __future__ import annotations

import codecs
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from backbone.errors import TargetFailed
from backbone.settings import settings_from
from backbone.targets import OUTPUT, SCRATCH, WORK, ComputeTarget, TargetContext, TargetSpec, TargetStatus

_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "SYSTEMROOT")
"""What a program needs to start; everything else, credentials among it, stays behind."""
_PR_SET_PDEATHSIG = 1
_GRACE_S = 5.0
"""How long a cancelled process may take to end by itself."""


@dataclass(frozen=True)
class _Settings:
    """It has none: the machine it runs on is given."""


@dataclass(slots=True)
class _Started:
    process: subprocess.Popen[bytes]
    log: Path
    read: int = 0
    # A character may be written in two halves, with a reading in between.
    decoder: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))


class SubprocessTarget:
    """Runs a command in a new folder `work/<handle>` of the location's store, with a scrubbed environment.

    The process ends with the thread that launched it (on Linux), so a killed run leaves no training behind.
    """

    def __init__(self, context: TargetContext) -> None:
        self._name = context.name
        self._work = context.store / WORK
        self._started: dict[str, _Started] = {}

    def launch(self, command: Sequence[str], env: Mapping[str, str], inputs: Mapping[str, Path]) -> str:
        """See `backbone.targets.ComputeTarget.launch`."""
        handle = uuid.uuid4().hex
        folder = self._work / handle
        filled = [sys.executable if part == "{python}" else part for part in command]
        log = folder / OUTPUT
        try:
            (folder / SCRATCH).mkdir(parents=True)
            with log.open("wb") as output:
                process = subprocess.Popen(  # noqa: S603 - the command is the caller's, no shell
                    filled,
                    cwd=folder,
                    env=_environment(folder) | _inputs(inputs) | dict(env),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=_end_with_parent(),
                )
        except OSError as error:
            raise TargetFailed(
                f"Target {self._name} could not start {filled[0]}: {error}.",
                next_step="Check that the program exists and may be executed, and that the store can be written.",
            ) from error
        self._started[handle] = _Started(process, log)
        return handle

    def poll(self, handle: str) -> TargetStatus:
        started = self._started.get(handle)
        if started is None:
            return TargetStatus("failed", f"target {self._name} knows no work {handle}")
        code = started.process.poll()
        if code is None:
            return TargetStatus("running")
        _end_group(started.process.pid, signal.SIGKILL)
        if code == 0:
            return TargetStatus("succeeded")
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return TargetStatus("failed", how)

    def cancel(self, handle: str) -> None:
        started = self._started.get(handle)
        if started is None or started.process.poll() is not None:
            return
        _end_group(started.process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            started.process.wait(_GRACE_S)
        # Also where the process itself has ended: its children may have kept going.
        _end_group(started.process.pid, signal.SIGKILL)
        started.process.wait()

    def logs(self, handle: str) -> str:
        started = self._started.get(handle)
        if started is None or not started.log.exists():
            return ""
        with started.log.open("rb") as stream:
            stream.seek(started.read)
            content = stream.read()
        started.read += len(content)
        return started.decoder.decode(content)


def _environment(folder: Path) -> dict[str, str]:
    return {k: os.environ[k] for k in _PASSED_ON if k in os.environ} | {
        "HOME": str(folder),
        "TMPDIR": str(folder / SCRATCH),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",  # what it prints is read while it runs
        # OpenMP threads that spin while they wait make training ten times slower where a processor is shared.
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def _inputs(inputs: Mapping[str, Path]) -> dict[str, str]:
    return {f"INPUT_{name.upper()}": str(path.resolve()) for name, path in inputs.items()}


def _end_group(leader: int, number: signal.Signals) -> None:
    """Signal a process and everything it started; a group with nobody left is fine."""
    with suppress(ProcessLookupError):
        os.killpg(leader, number)


@cache
def _end_with_parent() -> Callable[[], None] | None:
    """What a new process does first. The library is loaded here: after a fork nothing should be."""
    import ctypes

    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _open(context: TargetContext) -> ComputeTarget:
    settings_from(_Settings, context.settings, where=f"target {context.name}")
    return SubprocessTarget(context)


SPEC = TargetSpec(
    name="subprocess",
    summary="A process of its own on this machine, with a scrubbed environment.",
    cannot={
        "run elsewhere": "it shares this machine's processors and disk",
        "confine": "a determined program reaches other stores: it starts with this user's rights",
        "outlive its launcher": "the process ends with the thread that launched it, so that nothing is left behind",
    },
    start_s=1.0,
    settings=_Settings,
    open=_open,
)
