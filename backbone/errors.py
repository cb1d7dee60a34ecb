"""What can go wrong, and what the caller should do about it.

The class of an error says whether to retry, stop or degrade; its text says what a person does next.

    HybridError
    ├── Transient               try again, here or elsewhere
    │   ├── StoreBusy           another writer holds the partition, or the state database does not answer
    │   ├── BreakerOpen         those before failed, so this one was not tried
    │   └── TargetFailed        the work died where it ran
    │       ├── TargetLate      it took longer than it may
    │       ├── TargetUnreachable  it cannot be asked: its whole location may be out of reach
    │       └── NoCandidate     nowhere to run it now; carries the placement, and what was tried
    ├── Terminal                trying again changes nothing
    │   ├── ConfigurationError  a contract, a site file or a flag is wrong
    │   │   ├── ContractError
    │   │   └── UnknownName     lists the names that exist
    │   ├── SourceError         a source cannot be read at all
    │   ├── StorageFull         the disk has no room left
    │   └── IntegrityError      bytes are not what they claim to be
    └── Degraded                an answer exists, but not the best one
        ├── NotCommissioned     the plant lacks a baseline or a release so far
        └── NoFailuresYet       nothing to learn a model from
"""

from __future__ import annotations

from collections.abc import Iterable


class HybridError(Exception):
    """An error with its remedy.

    Args:
        problem: what happened, naming the thing it happened to.
        next_step: what the reader does now, as an instruction.
    """

    def __init__(self, problem: str, *, next_step: str) -> None:
        super().__init__(f"{problem} {next_step}" if next_step else problem)
        self.problem = problem
        self.next_step = next_step


class Transient(HybridError):
    """Trying again, here or elsewhere, may succeed."""


class StoreBusy(Transient):
    """Another writer changed the same partition in the meantime."""


class TargetFailed(Transient):
    """The work died, or fell silent, where it ran."""


class TargetLate(TargetFailed):
    """The work took longer than it may."""


class TargetUnreachable(TargetFailed):
    """Where the work runs, or should, does not answer; others at the same location may not either."""


class Terminal(HybridError):
    """Trying again changes nothing; somebody has to act."""


class ConfigurationError(Terminal):
    """A contract, a site file or a command-line flag is wrong.

    Args:
        at: where in the document, as keys and positions, such as `("locations", 2, "price_per_hour")`; whoever read
            the document adds file and line.
    """

    def __init__(self, problem: str, *, next_step: str, at: tuple[str | int, ...] = ()) -> None:
        super().__init__(problem, next_step=next_step)
        self.at = at


class ContractError(ConfigurationError):
    """A contract does not say what it must, or says it wrongly."""


class UnknownName(ConfigurationError):
    """A name that nothing answers to.

    Args:
        kind: what was looked for, such as "site" or "source".
        name: the name that was given.
        valid: every name that exists.
        next_step: how to add one, if that is what the reader wanted.
    """

    def __init__(
        self, kind: str, name: str, valid: Iterable[str], *, next_step: str = "", at: tuple[str | int, ...] = ()
    ) -> None:
        self.kind, self.name, self.valid = kind, name, tuple(sorted(valid))
        known = ", ".join(self.valid) or "none"
        super().__init__(
            f"There is no {kind} named {name!r}; known: {known}.",
            next_step=next_step or "Use one of these.",
            at=at,
        )


class SourceError(Terminal):
    """A source cannot be read at all; single bad rows are quarantined instead."""


class StorageFull(Terminal):
    """The disk, or the bound set for a store, has no room left."""


class IntegrityError(Terminal):
    """Bytes are not what their digest, signature or schema says."""


class Degraded(HybridError):
    """There is an answer, but not the best one; it must say so."""


class NotCommissioned(Degraded):
    """The plant has no operating baseline, or no release, so far."""


class NoFailuresYet(Degraded):
    """Too few equipment lives ended in failure to learn a model from."""
