"""A process of its own on this machine: the embedded stand-in for a cloud."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backbone.errors import TargetFailed
from backbone.settings import settings_from
from backbone.targets import ComputeTarget, TargetContext, TargetSpec, TargetStatus

_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "SYSTEMROOT")
"""What a program needs to start; everything else, credentials among it, stays behind."""
_PR_SET_PDEATHSIG = 1
_GRACE_S = 5.0


@dataclass(frozen=True)
class _Settings:
    """It has none: the machine it runs on is given."""


class SubprocessTarget:
    """Runs a command in a new folder `work/<handle>` of the location's store, with a scrubbed environment.

    The process ends with the one that launched it (on Linux), so a killed run leaves no training behind.
    """

    def __init__(self, context: TargetContext) -> None:
        self._name = context.name
        self._work = context.store / "work"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._read: dict[str, int] = {}

    def launch(self, command: Sequence[str], env: Mapping[str, str], inputs: Mapping[str, Path]) -> str:
        """See `backbone.targets.ComputeTarget.launch`."""
        handle = uuid.uuid4().hex
        folder = self._work / handle
        (folder / "tmp").mkdir(parents=True)
        scrubbed = {k: os.environ[k] for k in _PASSED_ON if k in os.environ}
        scrubbed |= {"HOME": str(folder), "TMPDIR": str(folder / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}
        # OpenMP threads that spin while they wait make training ten times slower where a processor is shared.
        scrubbed |= {"OMP_WAIT_POLICY": "PASSIVE"}
        scrubbed |= {f"INPUT_{name.upper()}": str(path.resolve()) for name, path in inputs.items()}
        filled = [sys.executable if part == "{python}" else part for part in command]
        try:
            with (folder / "output.log").open("wb") as output:
                self._processes[handle] = subprocess.Popen(  # noqa: S603 - the command is the caller's, no shell
                    filled,
                    cwd=folder,
                    env=scrubbed | dict(env),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=_end_with_parent,
                )
        except OSError as error:
            raise TargetFailed(
                f"Target {self._name} could not start {filled[0]}: {error}.",
                next_step="Check that the program exists and may be executed.",
            ) from error
        return handle

    def poll(self, handle: str) -> TargetStatus:
        process = self._processes.get(handle)
        if process is None:
            return TargetStatus("failed", f"target {self._name} knows no work {handle}")
        code = process.poll()
        if code is None:
            return TargetStatus("running")
        if code == 0:
            return TargetStatus("succeeded")
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return TargetStatus("failed", how)

    def cancel(self, handle: str) -> None:
        process = self._processes.get(handle)
        if process is None or process.poll() is not None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            os.killpg(process.pid, number)
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                continue
            return

    def logs(self, handle: str) -> str:
        log = self._work / handle / "output.log"
        if not log.exists():
            return ""
        with log.open("rb") as stream:
            stream.seek(self._read.get(handle, 0))
            text = stream.read()
            self._read[handle] = stream.tell()
        return text.decode(errors="replace")


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _open(context: TargetContext) -> ComputeTarget:
    settings_from(_Settings, context.settings, where=f"target {context.name}")
    return SubprocessTarget(context)


SPEC = TargetSpec(
    name="subprocess",
    summary="A process of its own on this machine, with a scrubbed environment.",
    cannot={
        "run elsewhere": "it shares this machine's processors and disk",
        "confine": "a determined program reaches other stores: it starts with this user's rights",
    },
    open=_open,
)
