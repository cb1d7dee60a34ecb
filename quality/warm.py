"""Validation by the quality worker of a home: started by whoever needs it first, replaced when it dies.

Where it cannot be had, the process that asks validates itself, and says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import filelock

from quality import data_docs, data_docs_style, requests, validation, wire, worker
from quality.data_docs import Page
from quality.requests import Batch, Outcome
from quality.worker import IDLE_S, LOCK, PID

START_S = 90.0
ANSWER_S = 120.0
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Validated:
    """Outcomes, and who evaluated them: `worker`, or `own process` with the reason in `why`."""

    outcomes: list[Outcome]
    by: str
    why: str = ""


class WarmValidator:
    """Validation by the worker of one folder.

    Args:
        folder: where its socket, locks and log lie; one below the home, so that each home has its own worker.
        idle_s: after so long without a request the worker ends.
    """

    def __init__(self, folder: Path, *, idle_s: float = IDLE_S) -> None:
        self._folder, self._idle_s = folder, idle_s

    @property
    def socket_path(self) -> Path:
        """Of the worker that runs this very code: after an upgrade there is a new one, and the old one ends idle."""
        return self._folder / f"worker-{_code()}.sock"

    def validate(self, batches: Sequence[Batch]) -> Validated:
        """Hold every batch to its expectations; a worker that dies meanwhile is replaced once."""
        parts = wire.to_validate(batches)
        why = ""
        for _ in range(2):
            try:
                return Validated(wire.outcomes_of(self._asked(parts)), "worker")
            except (OSError, EOFError, ValueError, filelock.Timeout) as error:
                why = f"The quality worker did not answer: {str(error) or type(error).__name__}"
                if isinstance(error, TimeoutError):
                    break  # it is there, and stuck
        return Validated(validation.validate(batches), "own process", why)

    def render(self, pages: Sequence[Page]) -> None:
        """Have pages of Data Docs written; they are there a little later. Without a worker there are none."""
        with contextlib.suppress(OSError, EOFError, ValueError, filelock.Timeout):
            self._asked(wire.to_render(pages))

    def dismiss(self, wait_s: float = 0.0) -> None:
        """Have every worker of the folder end: once it has answered what it was asked, and one that is not warm yet at
        once.

        Args:
            wait_s: for how long to wait until they have, at most.
        """
        locks = [filelock.FileLock(path) for path in self._folder.glob(f"worker-*{LOCK}")]
        for lock in locks:
            _dismiss(Path(lock.lock_file).with_suffix(".sock"), lock)
        deadline = time.monotonic() + wait_s
        for lock in locks:
            with contextlib.suppress(filelock.Timeout), lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
                pass

    def dismiss_own(self) -> None:
        """Have the worker end that this process has started, if it has; one that others started goes on."""
        mine = [process for folder, process in _children if folder == self._folder and process.poll() is None]
        if mine:
            self.socket_path.unlink(missing_ok=True)

    def _asked(self, parts: Sequence[bytes]) -> bytes:
        with self._connected() as connection:
            wire.send(connection, parts)
            return wire.receive(connection)[0]

    def start(self) -> None:
        """Have the worker there, warm.

        Raises:
            OSError, filelock.Timeout: it cannot be had.
        """
        self._connected().close()

    def _connected(self) -> socket.socket:
        found = self._connect()
        if found is not None:
            return found
        self._folder.mkdir(parents=True, exist_ok=True)
        # Whoever comes second waits for the worker that the first one starts.
        with filelock.FileLock(self._folder / "start.lock", timeout=START_S):
            found = self._connect()
            return found if found is not None else self._start()

    def _connect(self) -> socket.socket | None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(ANSWER_S)
        try:
            with wire.address(self.socket_path) as where:
                connection.connect(where)
        except OSError:
            connection.close()
            return None
        return connection

    def _start(self) -> socket.socket:
        command = [sys.executable, "-m", "quality.worker", str(self.socket_path), "--idle-s", str(self._idle_s)]
        with (self._folder / "worker.log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - our own worker, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # it outlives the run that starts it
                cwd=Path(__file__).parents[1],
            )
        _children.append((self._folder, process))
        deadline = time.monotonic() + START_S
        while (found := self._connect()) is None:
            if process.poll() is not None and (found := self._connect()) is None:
                raise OSError(f"It ended with {process.returncode} while starting; see {self._folder / 'worker.log'}.")
            if time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                raise TimeoutError(f"It was not there after {START_S:g} s.")
            if found is None:
                time.sleep(_POLL_S)
        return found


def _dismiss(socket_path: Path, lock: filelock.BaseFileLock) -> None:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(ANSWER_S)
        with wire.address(socket_path) as where:
            caller.connect(where)
        socket_path.unlink()  # which it sees once this connection wakes it
        return
    with contextlib.suppress(filelock.Timeout), lock.acquire(timeout=0):
        return  # nobody serves
    with contextlib.suppress(OSError, ValueError):
        os.kill(int(socket_path.with_suffix(PID).read_text(encoding="ascii")), signal.SIGTERM)


_children: list[tuple[Path, subprocess.Popen[bytes]]] = []
"""Workers that this process has started, with their folders. Held, so that one that goes on is not warned about when
this process' objects go."""


@cache
def _code() -> str:
    """What tells one worker's code from another's."""
    digest = hashlib.sha256(f"{sys.executable} {version('great_expectations')}".encode())
    for module in (data_docs, data_docs_style, requests, validation, wire, worker):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()[:12]
