"""The port every compute target answers at: start some work, watch it, stop it, read what it said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

COMPLETED = "completed"
"""Key of the record a worker sends last. Dagster Pipes reports success for a process that died silently
(dagster#17868), so a worker that has not sent it has failed."""


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """`detail` says how a failure ended: an exit code or a signal, in words."""

    state: Literal["running", "succeeded", "failed"]
    detail: str = ""

    @property
    def running(self) -> bool:
        return self.state == "running"


class ComputeTarget(Protocol):
    """One concrete way to run code at a location. A handle is a string and survives pickling."""

    def launch(self, command: Sequence[str], env: Mapping[str, str], inputs: Mapping[str, Path]) -> str:
        """Start the command and return at once.

        Args:
            command: program and arguments; `{python}` stands for the target's own interpreter.
            env: added to the target's own, scrubbed environment.
            inputs: name → file or folder in the store of the target's location; each is passed on
                as the environment variable `INPUT_<NAME>`.

        Raises:
            TargetFailed: the command could not be started.
        """
        ...

    def poll(self, handle: str) -> TargetStatus:
        """How the work stands. A handle this target never gave out is a failed one."""
        ...

    def cancel(self, handle: str) -> None:
        """End the work and everything it started; has no effect on work that ended."""
        ...

    def logs(self, handle: str) -> str:
        """What the work printed since the last call."""
        ...


@dataclass(frozen=True, slots=True)
class TargetContext:
    """What a target may know: the store of its location, and its own table in the site file."""

    name: str
    store: Path
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """How a target plug-in presents itself: one `SPEC` a module, named like the module."""

    name: str
    summary: str
    cannot: tuple[str, ...]
    open: Callable[[TargetContext], ComputeTarget]
