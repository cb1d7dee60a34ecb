"""This very process: a worker's function is called in a thread, without a new interpreter."""

from __future__ import annotations

import importlib
import importlib.util
import io
import sys
import threading
import traceback
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backbone.errors import TargetFailed
from backbone.settings import settings_from
from backbone.targets import WORK, ComputeTarget, TargetContext, TargetSpec, TargetStatus


@dataclass(frozen=True)
class _Settings:
    """What may be set.

    Attributes:
        background: the work runs in a thread of its own, so that it can take too long. Otherwise `launch` returns
            when the work has ended, which is what a simulated clock needs: no time passes meanwhile.
    """

    background: bool = True


class _Messages(io.TextIOBase):
    """What the work says, until it is asked for. Work that was given up is told so when it next speaks."""

    def __init__(self) -> None:
        self._said: deque[str] = deque()
        self.given_up = False

    def write(self, text: str) -> int:
        if self.given_up:
            raise TargetFailed("This work was cancelled.", next_step="")
        self._said.append(text)
        return len(text)

    def take(self) -> str:
        taken = []
        while self._said:
            taken.append(self._said.popleft())
        return "".join(taken)


@dataclass(slots=True)
class _Work:
    status: TargetStatus = field(default_factory=lambda: TargetStatus("running"))
    messages: _Messages = field(default_factory=_Messages)
    # Whichever comes first stands: the work's own end, or its being given up.
    deciding: threading.Lock = field(default_factory=threading.Lock)

    def end(self, status: TargetStatus) -> bool:
        with self.deciding:
            first = self.status.running
            if first:
                self.status = status
            return first


class InProcessTarget:
    """Runs `["{python}", "-m", MODULE]` by calling `MODULE.run(environment, folder, output)`.

    Its folder is `work/<handle>` of the location's store, as for any target, but nothing changes into it.
    """

    def __init__(self, context: TargetContext, *, background: bool = True) -> None:
        self._name = context.name
        self._folder = context.store / WORK
        self._background = background
        self._works: dict[str, _Work] = {}

    def launch(self, command: Sequence[str], env: Mapping[str, str], inputs: Mapping[str, Path]) -> str:
        """See `backbone.targets.ComputeTarget.launch`."""
        module = self._module(command)
        handle = uuid.uuid4().hex
        folder = self._folder / handle
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise TargetFailed(
                f"Target {self._name} could not start {module}: {error}.",
                next_step="See that the location's store can be written.",
            ) from error
        environment = {f"INPUT_{name.upper()}": str(path.resolve()) for name, path in inputs.items()} | dict(env)
        work = self._works[handle] = _Work()
        if self._background:
            arguments = (work, module, environment, folder)
            threading.Thread(target=_carry_out, args=arguments, name=f"{module} {handle}", daemon=True).start()
        else:
            _carry_out(work, module, environment, folder)
        return handle

    def poll(self, handle: str) -> TargetStatus:
        work = self._works.get(handle)
        return work.status if work else TargetStatus("failed", f"target {self._name} knows no work {handle}")

    def cancel(self, handle: str) -> None:
        """Give the work up: it goes on until it next speaks, and what it finds is nobody's."""
        work = self._works.get(handle)
        if work is not None and work.end(TargetStatus("failed", "cancelled")):
            work.messages.given_up = True

    def logs(self, handle: str) -> str:
        work = self._works.get(handle)
        return work.messages.take() if work else ""

    def _module(self, command: Sequence[str]) -> str:
        problem = f"Target {self._name} could not start {' '.join(command)}"
        if len(command) != 3 or tuple(command[:2]) != ("{python}", "-m"):
            raise TargetFailed(
                f"{problem}: it runs Python modules only, without arguments.",
                next_step="Send this to a target of another kind, such as subprocess.",
            )
        module = command[2]
        try:
            if module in sys.modules or importlib.util.find_spec(module) is not None:
                return module
        except ImportError:
            pass
        raise TargetFailed(f"{problem}: there is no such module.", next_step="Install it here, or correct its name.")


def _carry_out(work: _Work, module: str, environment: Mapping[str, str], folder: Path) -> None:
    try:
        importlib.import_module(module).run(environment, folder, work.messages)
    except BaseException as error:  # SystemExit too: it would end a process, so it ends this work
        if work.end(TargetStatus("failed", f"{type(error).__name__}: {error}")):
            work.messages.write(traceback.format_exc())
    else:
        work.end(TargetStatus("succeeded"))


def _open(context: TargetContext) -> ComputeTarget:
    settings = settings_from(_Settings, context.settings, where=f"target {context.name}")
    return InProcessTarget(context, background=settings.background)


SPEC = TargetSpec(
    name="in_process",
    summary="A thread of the process that launches the work: starts at once, shares everything.",
    cannot={
        "commands": "only a Python module with a function run(environment, folder, output) can be called",
        "logs": "messages come back; what the work prints goes straight to this process's own output",
        "cancel": "a thread cannot be ended from outside: work that was given up goes on until it next speaks",
        "isolate": "the work sees this process's environment, memory and files",
        "death": "what kills the work kills its launcher",
        "run elsewhere": "it shares this machine's processors and this process's memory",
    },
    settings=_Settings,
    open=_open,
    poll_s=0.02,
)
