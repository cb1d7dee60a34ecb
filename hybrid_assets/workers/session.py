"""A worker's side of the protocol that `backbone.targets` describes: inputs, log lines, results and their digests.

It needs no Dagster, and no process of its own: a target may run several workers at once in one process.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from dagster_pipes import (
    DAGSTER_PIPES_CONTEXT_ENV_VAR,
    PipesContext,
    PipesDefaultContextLoader,
    PipesMappingParamsLoader,
    PipesMessageWriter,
    PipesMessageWriterChannel,
)

from backbone.errors import ConfigurationError, TargetFailed, Terminal
from backbone.targets import COMPLETED, OUTPUT, RECORD, SCRATCH

MESSAGE_CHARS = 20_000
"""Longest line of a message: Ray's log API cuts what is longer (`max_line_length`, 20,000 characters)."""

_CUT_CHARS = MESSAGE_CHARS // 13
"""Of any text, so many characters fit into a message: JSON writes one as twelve at most."""

_INPUT = "INPUT_"


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is given.

    Attributes:
        pipes: for log lines, and for the settings it was sent (`get_extra`). Messages are short: results go to files.
        inputs: name → file or folder, names in lower case.
        folder: where its results belong. Files below `tmp`, and those whose names begin with a dot, are none.
    """

    pipes: PipesContext
    inputs: Mapping[str, Path]
    folder: Path

    def input(self, name: str) -> Path:
        """One input.

        Raises:
            TargetFailed: the worker was started without it.
        """
        if name not in self.inputs:
            raise TargetFailed(f"The worker was given no {name}.", next_step=f"Pass it as the input {name}.")
        return self.inputs[name]


def run_worker(
    work: Callable[[Job], Mapping[str, Any]],
    environment: Mapping[str, str] = os.environ,
    folder: Path | None = None,
    output: TextIO | None = None,
) -> None:
    """Do the work inside a Pipes session, keep what it returns as its record, and say last of all what it left.

    Args:
        work: gets a job, returns its record, which must be JSON.
        environment: holds the Pipes session's variables and the inputs.
        folder: the work's own; None: the current one.
        output: takes the messages; None: standard output.

    Raises:
        ConfigurationError: the environment holds no Pipes session.
        Terminal: there are more result files than one message can name.
    """
    if DAGSTER_PIPES_CONTEXT_ENV_VAR not in environment:
        raise ConfigurationError(
            "This worker was started outside a Pipes session.",
            next_step="Workers are started by assets: materialize the one whose work this is.",
        )
    folder = (folder or Path.cwd()).resolve()
    inputs = {
        key.removeprefix(_INPUT).lower(): Path(value) for key, value in environment.items() if key.startswith(_INPUT)
    }
    # Built here and not by open_dagster_pipes, which keeps one context for the whole process.
    with PipesContext(
        PipesMappingParamsLoader(environment), PipesDefaultContextLoader(), _MessageLines(output or sys.stdout)
    ) as pipes:
        record = work(Job(pipes, inputs, folder))
        (folder / RECORD).write_text(json.dumps(dict(record)), encoding="utf-8")
        pipes.report_custom_message({COMPLETED: _digests(folder)})


def _digests(folder: Path) -> dict[str, str]:
    """Every result file, by its path in the folder."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if parts[0] in (SCRATCH, OUTPUT) or any(part.startswith(".") for part in parts) or not path.is_file():
            continue
        with path.open("rb") as stream:
            digests["/".join(parts)] = f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
    return digests


class _MessageLines(PipesMessageWriter):
    """Messages go to one stream, wherever the session would have them: the protocol knows no other way."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @contextmanager
    def open(self, params: Mapping[str, Any]) -> Iterator[PipesMessageWriterChannel]:  # noqa: ARG002
        yield _Channel(self._stream)


class _Channel(PipesMessageWriterChannel):
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._one_at_a_time = threading.Lock()

    def write_message(self, message: Mapping[str, Any]) -> None:
        line = json.dumps(message)
        if len(line) > MESSAGE_CHARS:
            line = json.dumps(_shortened(message, len(line)))
        with self._one_at_a_time:
            self._stream.write(line + "\n")
            self._stream.flush()


def _shortened(message: Mapping[str, Any], length: int) -> dict[str, Any]:
    params = message["params"]
    if message["method"] == "log":
        return {**message, "params": {**params, "message": _cut(params["message"])}}
    if message["method"] == "closed":
        error = params["exception"]
        told = {"message": _cut(error["message"]), "stack": [], "name": error["name"], "cause": None, "context": None}
        return {**message, "params": {"exception": told}}
    raise Terminal(
        f"A worker's message has {length:,} characters; no more than {MESSAGE_CHARS:,} pass every target.",
        next_step="Put large results into the record; pack many result files into one.",
    )


def _cut(text: str) -> str:
    return text if len(text) <= _CUT_CHARS else text[: _CUT_CHARS - 2] + " …"
