"""Strikes: what befalls a process between two of its durable steps, told to it from outside while it runs.

A durable step is one that a disk is asked for: a file made, written to, confirmed, renamed or removed, a folder
confirmed; and each that the porter says it has done. A strike names a step and what happens there: the process dies
(`SIGKILL`, of itself), or the disk says an error. It is told in a file, which is gone when it has struck; which steps
there are, and what struck, the process notes in another.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import wraps
from pathlib import Path
from typing import Any, Literal

from gateway.disk import RealDisk

When = Literal["before", "within", "after"]
What = Literal["kill", "EIO", "ENOSPC", "lie"]
NOTES = "notes.ndjson"


@dataclass(frozen=True, slots=True)
class Strike:
    """One strike.

    Attributes:
        step: `<what> <operation>`, such as `spool sync`; `*` and `?` stand for what they stand for in file names.
        nth: so many of these steps pass first.
        what: `lie`: the disk says that it is done, and it is not.
        when: before the step is done, after it, or half way where it is a write.
        times: how often an error is said.
    """

    step: str
    nth: int = 0
    when: When = "before"
    what: What = "kill"
    times: int = 1


@dataclass(frozen=True, slots=True)
class Note:
    """What a process said: a step that it knows (`what` None), or a strike that struck."""

    who: str
    pid: int
    step: str
    what: str | None = None
    when: str | None = None


class StrikeOrders:
    """The side that gives orders: one process's file of strikes, and what all have noted.

    Args:
        folder: of the rehearsal, one for all processes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._read = folder, 0
        folder.mkdir(parents=True, exist_ok=True)
        self.steps: dict[str, set[str]] = {}
        """Who → the durable steps it has been seen to take."""
        self.pids: dict[str, int] = {}
        """Who → the process that was heard of last."""
        self.struck: list[Note] = []

    def order(self, who: str, strike: Strike) -> None:
        """Have it strike; one that has not struck is forgotten."""
        written = self._folder / f".{who}"
        written.write_text(json.dumps(asdict(strike)))
        written.rename(self._folder / f"{who}.json")

    def withdraw(self, who: str) -> None:
        (self._folder / f"{who}.json").unlink(missing_ok=True)

    def look(self) -> int:
        """Read what was noted since; how many strikes have struck so far."""
        notes = self._folder / NOTES
        if notes.exists():
            with notes.open(encoding="utf-8") as stream:
                stream.seek(self._read)
                for line in stream:
                    note = Note(**json.loads(line))
                    self.pids[note.who] = note.pid
                    if note.what is None:
                        self.steps.setdefault(note.who, set()).add(note.step)
                    else:
                        self.struck.append(note)
                self._read = stream.tell()
        return len(self.struck)


class Struck:
    """The side that is struck: within the process.

    Args:
        folder: as its orders come.
        who: the process.
    """

    def __init__(self, folder: Path, who: str) -> None:
        self._orders, self._who = folder / f"{who}.json", who
        self._notes = os.open(folder / NOTES, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        self._known: set[str] = set()
        self._seen: int | None = None
        self._strike: Strike | None = None
        self._passed = 0
        self._lock = threading.Lock()

    def due(self, step: str) -> Strike | None:
        """The strike that is due at this step."""
        with self._lock:
            if step not in self._known:
                self._known.add(step)
                self._note(step)
            self._look()
            strike = self._strike
            if strike is None or not fnmatchcase(step, strike.step):
                return None
            self._passed += 1
            if self._passed <= strike.nth:
                return None
            if self._passed >= strike.nth + strike.times:
                self._strike = None
                self._orders.unlink(missing_ok=True)
            self._note(step, strike)
            return strike

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()  # the signal may go to another thread first

    def reached(self, step: str) -> None:
        """A step that is done, of whoever tells its steps."""
        if (strike := self.due(step)) is not None and strike.what == "kill":
            self.die()

    def _look(self) -> None:
        try:
            written = self._orders.stat().st_mtime_ns
        except FileNotFoundError:
            self._strike = self._seen = None
            return
        if written != self._seen:
            self._seen, self._passed = written, 0
            self._strike = Strike(**json.loads(self._orders.read_text()))

    def _note(self, step: str, strike: Strike | None = None) -> None:
        told: dict[str, object] = {"who": self._who, "pid": os.getpid(), "step": step}
        if strike is not None:
            told |= {"what": strike.what, "when": strike.when}
        os.write(self._notes, json.dumps(told).encode() + b"\n")


OPERATIONS = ("create", "write", "sync", "sync_file", "truncate", "rename", "unlink", "sync_folder")


def strike_at_the_disk(struck: Struck, disk: type[RealDisk] = RealDisk) -> None:
    """Have strikes befall this process's disk, at every step that `gateway.disk` does for it, from now on."""
    handles: dict[int, Path] = {}
    last = threading.local()
    for operation in OPERATIONS:
        setattr(disk, operation, _befallen(operation, getattr(disk, operation), struck, handles, last))


def _befallen(
    operation: str, do: Callable[..., Any], struck: Struck, handles: dict[int, Path], last: threading.local
) -> Callable[..., Any]:
    @wraps(do)
    def step(disk: RealDisk, of: Path | int, *more: Any) -> Any:
        path = handles.get(of) if isinstance(of, int) else of
        if operation != "sync_folder" and path is not None:
            last.name = _named(path)
        strike = struck.due(f"{getattr(last, 'name', 'other')} {operation}")
        if strike is None:
            done = do(disk, of, *more)
        else:
            done = _strike(strike, struck, operation, lambda *given: do(disk, of, *given), more)
        if operation == "create" and path is not None:
            handles[done] = path
        elif operation == "rename":
            for handle in [handle for handle, name in handles.items() if name == of]:
                handles[handle] = more[0]
        return done

    return step


def _strike(strike: Strike, struck: Struck, operation: str, do: Callable[..., Any], more: tuple[Any, ...]) -> Any:
    if strike.what == "lie":
        return len(more[0]) if operation == "write" else None
    half = operation == "write" and strike.when == "within"
    if half:
        do(memoryview(more[0])[: len(more[0]) // 2])
    elif strike.when != "before":
        do(*more)
    if strike.what == "kill":
        struck.die()
    number = getattr(errno, strike.what)
    raise OSError(number, os.strerror(number))


def _named(path: Path) -> str:
    """Which of a gateway's files it is; `new` before it has its name."""
    of_spool = path.parent.name == "spool"
    name = "torn" if ".torn" in path.name else "spool" if of_spool else path.name.strip(".").removesuffix(".partial")
    name = path.parent.name if path.suffix == ".npz" or ".npz." in path.name else name
    return f"new {name}" if path.name.startswith(".") else name
