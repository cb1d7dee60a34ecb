"""What befalls a plant beside its targets: models changed or gone, the state database held, workers killed."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from chaos.scenario import PlannedFault, Scenario

_MODEL = "model.onnx"


class WorkerKilled(BaseException):
    """The process of a run is gone. No `Exception`: nothing in it gets to handle its own death."""


class Ambushes:
    """Faults that lie in wait for a run, and befall it after some of its steps."""

    def __init__(self, scenario: Scenario, struck: Counter[str]) -> None:
        kinds = ("worker_killed", "state_locked")
        self._ahead = sorted(
            (fault.start_s, n, fault) for n, fault in enumerate(scenario.faults) if fault.kind in kinds
        )
        self._waiting: dict[int, tuple[PlannedFault, int]] = {}
        self._struck = struck

    def sprung(self, now_s: float) -> Iterator[PlannedFault]:
        """One step of a run passes; what befalls it now."""
        while self._ahead and self._ahead[0][0] <= now_s:
            _, n, fault = self._ahead.pop(0)
            self._waiting[n] = fault, fault.after
        for n, (fault, left) in sorted(self._waiting.items()):
            self._waiting[n] = (fault, left - 1)
            if left <= 1:
                del self._waiting[n]
                self._struck[fault.kind] += fault.kind == "worker_killed"
                yield fault


class HeldDatabase:
    """The state database, held by a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._until_s = 0.0

    @property
    def held(self) -> bool:
        return self._connection is not None

    @property
    def until_s(self) -> float:
        """When it was, or will be, let go of."""
        return self._until_s

    def until(self, passed_s: float) -> None:
        """Hold it until then; longer, if it is held already."""
        self._until_s = max(self._until_s, passed_s)
        if self._connection is None:
            connection = sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                connection.close()  # amid a transaction of the plant's own: nobody can cut in there
                return
            self._connection = connection

    def let_go(self, passed_s: float) -> None:
        """Let go of it, if that time has come."""
        if self._connection is not None and passed_s >= self._until_s:
            self._connection.rollback()
            self._connection.close()
            self._connection = None


class ModelFiles:
    """The newest release's files, really changed or moved away, and put back.

    Args:
        newest: the newest release's folder; None before the first.
        kept: where untouched copies are kept.
    """

    def __init__(self, newest: Callable[[], Path | None], kept: Path) -> None:
        self._newest, self._kept = newest, kept
        self._touched: Path | None = None
        self.state = "sound"

    def put(self, state: str) -> None:
        """Make it `sound`, `corrupt` or `missing`."""
        if state == self.state:
            return
        self._restore()
        folder = self._newest()
        if state == "sound" or folder is None:
            return
        bundle = folder / "bundle"
        shutil.rmtree(self._kept, ignore_errors=True)
        shutil.copytree(bundle, self._kept)
        self._touched, self.state = bundle, state
        if state == "missing":
            shutil.rmtree(bundle)
        else:
            model = bundle / _MODEL
            content = bytearray(model.read_bytes())
            content[len(content) // 2] ^= 0xFF
            model.write_bytes(content)

    def _restore(self) -> None:
        if self._touched is not None:
            shutil.rmtree(self._touched, ignore_errors=True)
            shutil.copytree(self._kept, self._touched)
        self._touched, self.state = None, "sound"
