"""One Dagster Pipes session for every kind of compute target."""

import hashlib
import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import dagster as dg
from dagster_pipes import PIPES_PROTOCOL_VERSION_FIELD, PipesDefaultMessageWriter

from backbone import errors
from backbone.clock import Clock
from backbone.errors import HybridError, TargetFailed, TargetLate, TargetUnreachable
from backbone.sites import TargetConfig
from backbone.targets import COMPLETED, RECORD, WORK, ComputeTarget, TargetStatus

SILENCE_S = 30.0
"""How long a target may be out of reach before its work counts as lost: longer than a restart of its head takes."""

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
_FIRST_PAUSE_S = 0.005
_PAUSE_SHARE = 0.05
"""Pauses grow with the time that has passed, so that an end is noticed a twentieth later than it could have been."""


@dataclass(frozen=True, slots=True)
class Results:
    """What a piece of work left, each file of it as the worker wrote it.

    Attributes:
        folder: holds the result files, in the store of the target's location.
    """

    record: dict[str, Any]
    folder: Path
    handle: str


def run_on_target(
    context: dg.AssetExecutionContext,
    target: ComputeTarget,
    config: TargetConfig,
    store: Path,
    what: str,
    command: Sequence[str],
    *,
    inputs: Mapping[str, Path],
    extras: Mapping[str, Any],
    clock: Clock,
    poll_s: float = 0.2,
    silence_s: float = SILENCE_S,
    on_launch: Callable[[str], None] | None = None,
    on_loose: Callable[[], None] | None = None,
) -> Results:
    """Run a worker on one target, once, inside a Pipes session.

    Log lines of the worker show in the UI while it runs, what else it prints in the step's compute log. Work that has
    not ended is cancelled on every way out of here, such as when the run is cancelled.

    Args:
        config: names the target in messages, and bounds the work by its `timeout_s`.
        store: root of the store of the target's location.
        what: the workload, for messages.
        command: see `backbone.targets.ComputeTarget.launch`.
        inputs: name → path in `store`.
        extras: JSON settings the worker reads from its Pipes context.
        poll_s: the longest pause between two questions how the work stands.
        silence_s: how long the target may fail to answer them.
        on_launch: told the handle as soon as there is one.
        on_loose: told that work was given up but could not be ended, so that it may still run.

    Raises:
        Terminal, Degraded: the worker itself raised such an error, whose class is kept: no target would do better.
        TargetLate: it took longer than the target's `timeout_s`.
        TargetUnreachable: it did not answer for too long, or could not be asked to start.
        TargetFailed: it could not be started, failed, ended without saying that it had
            finished, or left other results than it said.
    """
    where = f"{what} on {config.name}"
    output = OutputReader()
    with dg.open_pipes_session(
        context=context,
        context_injector=dg.PipesEnvContextInjector(),
        message_reader=output,
        extras=dict(extras),
    ) as session:
        watch = _Watch(target, where, output, clock, config.timeout_s, poll_s, silence_s)
        handle, ended = None, False
        try:
            with _interrupts_wait():
                handle = target.launch(command, session.get_bootstrap_env_vars(), inputs)
            if on_launch is not None:
                on_launch(handle)
            context.log.info(f"{what} runs on {config.name} at {config.location} as {handle}")
            status = watch.until_ended(handle)
            ended = True
        finally:
            if handle is not None and not ended and not _give_up(context, target, handle, output) and on_loose:
                on_loose()
            output.close()
    if status.state != "succeeded":
        raise _lost(where, status.detail, output)
    completed = [m[COMPLETED] for m in session.get_custom_messages() if isinstance(m, dict) and COMPLETED in m]
    if not completed:
        raise TargetFailed(
            f"{where} ended without saying that it had finished.",
            next_step="Nothing of it was used. Read the step's compute log, then materialize the asset again.",
        )
    folder = store / WORK / handle
    return Results(_verified_record(where, folder, completed[-1]), folder, handle)


@dataclass(frozen=True, slots=True)
class _Watch:
    """Waits for the end of a piece of work, and passes on what it says meanwhile."""

    target: ComputeTarget
    where: str
    output: "OutputReader"
    clock: Clock
    timeout_s: float
    poll_s: float
    silence_s: float

    def until_ended(self, handle: str) -> TargetStatus:
        started = answered = self.clock.monotonic()
        while True:
            try:
                status = self.target.poll(handle)
            except TargetFailed as error:
                status = TargetStatus("running")
                if (silent_s := self.clock.monotonic() - answered) >= self.silence_s:
                    raise TargetUnreachable(
                        f"{self.where} has not answered for {silent_s:.0f} s: {error.problem}",
                        next_step="See that its target can be reached, then materialize the asset again.",
                    ) from error
            else:
                answered = self.clock.monotonic()
                # Read after the question: once the work has ended, this is all it has said.
                self.output.feed(self.target.logs(handle))
            if not status.running:
                return status
            passed_s = self.clock.monotonic() - started
            if passed_s >= self.timeout_s:
                raise TargetLate(
                    f"{self.where} was lost: still running after {self.timeout_s:g} s.",
                    next_step="See how far it came in the step's compute log; raise the target's timeout_s if need be.",
                )
            pause_s = min(max(_FIRST_PAUSE_S, _PAUSE_SHARE * passed_s), self.poll_s)
            self.clock.sleep(min(pause_s, self.timeout_s - passed_s))


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Put off a cancellation of the run: amid a launch, nobody would know which work to cancel."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda it, _: came.append(it)) for number in _INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def _give_up(context: dg.AssetExecutionContext, target: ComputeTarget, handle: str, output: "OutputReader") -> bool:
    """End work that nobody waits for any more; whether it has. What fails here hides nothing that failed before."""
    try:
        target.cancel(handle)
    except Exception as error:
        context.log.warning(f"{handle} may still run: it could not be cancelled. {error}")
        return False
    output.feed(target.logs(handle))
    return True


def _show(text: str) -> None:
    print(text, end="", flush=True)


class OutputReader(dg.PipesMessageReader):
    """Tells a worker's messages from what else it prints, line by line, as the output comes in.

    Attributes:
        error_class, error: what the worker said it failed with, its class and its words; empty: nothing.

    Args:
        show: takes what is no message; by default, it goes to the step's compute log.
    """

    def __init__(self, show: Callable[[str], None] = _show) -> None:
        self.error = self.error_class = ""
        self._show = show
        self._handler: Any = None
        self._line_so_far = ""

    @contextmanager
    def read_messages(self, handler: Any) -> Iterator[dict[str, str]]:
        self._handler = handler
        yield {PipesDefaultMessageWriter.STDIO_KEY: PipesDefaultMessageWriter.STDOUT}

    @property
    def expected_writer_count(self) -> int:
        return 1  # the default's, which warns that it is a preview

    def no_messages_debug_text(self) -> str:
        return "Expected messages on the worker's standard output, one JSON document a line."

    def feed(self, text: str) -> None:
        """Take what came in; a line whose end is still to come waits for it."""
        *lines, self._line_so_far = (self._line_so_far + text).split("\n")
        for line in lines:
            self._read(line + "\n")

    def close(self) -> None:
        """There will be no more."""
        if self._line_so_far:
            self._read(self._line_so_far)
            self._line_so_far = ""

    def _read(self, line: str) -> None:
        pieces = list(_pieces(line))
        for piece in pieces:
            if isinstance(piece, dict):
                self._handle(piece)
        printed = "".join(piece for piece in pieces if isinstance(piece, str))
        if printed != "\n" or len(pieces) == 1:
            self._show(printed)

    def _handle(self, message: dict[str, Any]) -> None:
        try:
            self._handler.handle_message(message)
            if message["method"] == "closed" and (error := message["params"].get("exception")):
                self.error_class = error["name"] or ""
                self.error = error["message"].strip().partition(f"{self.error_class}: ")[2] or error["message"].strip()
        except Exception as problem:
            # Whatever a worker prints, it must not end the watch over it.
            self._show(f"{json.dumps(message)} is no message: {problem!r}\n")


_JSON = json.JSONDecoder()


def _pieces(line: str) -> Iterator[str | dict[str, Any]]:
    """The messages in a line, and the text around them: another thread may have printed on it."""
    told = at = 0
    while (at := line.find("{", at)) >= 0 and line.find(PIPES_PROTOCOL_VERSION_FIELD, at) >= 0:
        try:
            found, end = _JSON.raw_decode(line, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        if PIPES_PROTOCOL_VERSION_FIELD in found:
            if told < at:
                yield line[told:at]
            yield found
            told = end
        at = end
    if told < len(line):
        yield line[told:]


def _lost(where: str, target_says: str, output: OutputReader) -> HybridError:
    """Why work failed. What no other target would change is no failure of this one, and keeps its class."""
    kind: Any = getattr(errors, output.error_class, None)
    if isinstance(kind, type) and issubclass(kind, errors.Terminal | errors.Degraded):
        told = f"{where} cannot be done: {output.error}", "Then materialize the asset again."
        try:
            return kind(told[0], next_step=told[1])
        except TypeError:  # of its class, which wants more than words, the nearest that does not
            nearest = errors.Terminal if issubclass(kind, errors.Terminal) else errors.Degraded
            return nearest(told[0], next_step=told[1])
    worker_says = ": ".join(filter(None, (output.error_class, output.error)))
    causes = ": ".join(dict.fromkeys(filter(None, (target_says, worker_says)))) or "its target does not say how"
    return TargetFailed(
        f"{where} was lost: {causes.rstrip('.')}.",
        next_step="Its output is in the step's compute log. Materialize the asset again when the cause is mended.",
    )


def _verified_record(where: str, folder: Path, completed: Any) -> dict[str, Any]:
    """The record, if every result is there and is what the worker wrote."""
    if not isinstance(completed, dict) or RECORD not in completed:
        raise _wrong(where, f"it names no {RECORD} among its results")
    for name, digest in completed.items():
        if (found := _digest(folder, name)) is None:
            raise _wrong(where, f"{name} is missing from its folder")
        if found != digest:
            raise _wrong(where, f"{name} is not what the worker wrote")
    try:
        record = json.loads((folder / RECORD).read_bytes())
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise _wrong(where, f"{RECORD} holds no JSON object")
    return record


def _digest(folder: Path, name: str) -> str | None:
    """None where the folder holds no such file."""
    path = folder.joinpath(*PurePosixPath(name).parts)
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            return None
        with path.open("rb") as stream:
            return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
    except (OSError, ValueError):
        return None


def _wrong(where: str, how: str) -> TargetFailed:
    return TargetFailed(
        f"{where} answered wrongly: {how}.",
        next_step="Nothing of it was used. Check the store of its location, then materialize the asset again.",
    )
