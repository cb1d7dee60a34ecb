"""The port every compute target answers at: start some work, watch it, stop it, read what it said.

What a worker and the one who launched it agree on, whatever the target:

- Work has a folder of its own, `work/<handle>` of the location's store. The command starts in it, or what it
  left is brought there before `poll` says `succeeded`.
- A worker speaks on its standard output: Dagster Pipes messages, one JSON document a line, between lines of its own.
- A worker is a module: run with `-m` it takes its environment, folder and output from its process; a target that has
  it in its own process calls the module's `run(environment, folder, output)`.
- It writes `record.json` and its other results into its folder, and says last of all, under the key `COMPLETED`,
  the digest of each. Results without that message, or that are not what it says, are nobody's results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from backbone.clock import Clock

COMPLETED = "completed"
"""Key of the message a worker sends last: its results' paths, each with `sha256:` of its bytes. Dagster Pipes reports
success for a process that died silently (dagster#17868), so a worker that has not sent it has failed."""

RECORD = "record.json"
"""The result every worker leaves: what it found, as one JSON object."""

WORK = "work"
"""Folder of a location's store that holds a folder for each piece of work."""

SCRATCH, OUTPUT = "tmp", "output.log"
"""What targets keep in a work's folder beside its results: space to work in, and what the work printed."""

Capability = Literal["commands", "logs", "cancel", "isolate", "death"]
CAPABILITIES: tuple[Capability, ...] = get_args(Capability)
"""What the conformance suite asks of a target, unless its `cannot` has the key, with the reason: run any command;
give back what was printed; end the work and everything it started; keep the launcher's environment to itself;
outlive, and notice, the death of the work."""


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
        """How the work stands. A handle this target never gave out is a failed one.

        Raises:
            TargetFailed: the target cannot be asked now; the work may still go on.
        """
        ...

    def cancel(self, handle: str) -> None:
        """End the work and everything it started; has no effect on work that ended, or was never started.

        Raises:
            TargetFailed: the target cannot be reached; the work may still go on.
        """
        ...

    def logs(self, handle: str) -> str:
        """What the work printed since the last call; empty where the target cannot be asked now."""
        ...


@dataclass(frozen=True, slots=True)
class TargetContext:
    """What a target may know.

    Attributes:
        store: root of the store of its location.
        settings: its own table in the site file, less what every target has.
        open: opens a target of another kind with these settings, for targets that wrap one.
    """

    name: str
    store: Path
    clock: Clock
    settings: Mapping[str, Any] = field(default_factory=dict)
    open: Callable[[str, Mapping[str, Any]], ComputeTarget] | None = None


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """How a target plug-in presents itself: one `SPEC` a module, named like the module.

    Attributes:
        cannot: what it cannot do → why. Keys in `CAPABILITIES` exempt it from that part of the conformance suite.
        settings: the dataclass of what its table in a site file may say, see `backbone.settings.settings_from`.
        poll_s: how long to wait at most before asking again how the work stands.
        start_s: about how long it takes until work begins, for as long as no run has told.
    """

    name: str
    summary: str
    cannot: Mapping[str, str]
    settings: type[Any]
    open: Callable[[TargetContext], ComputeTarget]
    poll_s: float = 0.2
    start_s: float = 0.0
