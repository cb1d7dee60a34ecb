"""A target that somebody adds: a process of its own that finds what lies beside a module of theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backbone.settings import settings_from
from backbone.targets import ComputeTarget, TargetContext, TargetSpec, TargetStatus


@dataclass(frozen=True)
class _Settings:
    path: str


@dataclass(frozen=True)
class Newcomer:
    inner: ComputeTarget
    path: str

    def launch(self, command: Sequence[str], env: Mapping[str, str], inputs: Mapping[str, Path]) -> str:
        return self.inner.launch(command, {**env, "PYTHONPATH": self.path}, inputs)

    def poll(self, handle: str) -> TargetStatus:
        return self.inner.poll(handle)

    def cancel(self, handle: str) -> None:
        self.inner.cancel(handle)

    def logs(self, handle: str) -> str:
        return self.inner.logs(handle)


def _open(context: TargetContext) -> ComputeTarget:
    settings = settings_from(_Settings, context.settings, where=f"target {context.name}")
    assert context.open is not None
    return Newcomer(context.open("subprocess", {}), settings.path)


SPEC = TargetSpec(
    name="newcomer",
    summary="A process that imports from a folder.",
    cannot={"run elsewhere": "it shares this machine"},
    settings=_Settings,
    open=_open,
)
