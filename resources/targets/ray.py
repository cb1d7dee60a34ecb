"""A job on a Ray cluster that is already there, through Ray Jobs.

No file system is shared: code and inputs are shipped, and results come back with what the job prints. The far side is
`_shipped_job.py`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib.util
import io
import json
import logging
import os
import re
import shutil
import signal
import socket
import tarfile
import tempfile
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from backbone.bounded_calls import within
from backbone.errors import ConfigurationError, TargetFailed, TargetUnreachable
from backbone.settings import settings_from
from backbone.targets import WORK, ComputeTarget, TargetContext, TargetSpec, TargetStatus

T = TypeVar("T")

_HANDLE = re.compile(r"[0-9a-f]{32}")
_ENTRY = "_shipped_job.py"
_JOB = "HYBRID_JOB"
"""What `_shipped_job.py` reads its job from."""
_LONGEST_JOB = 100_000
"""Characters. Linux passes on no environment variable above 128 KiB."""
_STOP_S = 30.0
"""How long a job may take to end; Ray kills what has not after 3 s (`RAY_JOB_STOP_WAIT_TIME_S`)."""
_UNSURE_S = 60.0
"""How long a request whose answer was lost may still arrive at the cluster."""
_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")

Positive = Annotated[float, Field(gt=0)]
Amount = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class _Settings:
    """See docs/targets.md."""

    address: str
    code: tuple[str, ...] = ("backbone", "maintenance", "resources", "hybrid_assets")
    python: str = "python"
    pip: tuple[str, ...] = ()
    num_cpus: Amount = 1.0
    num_gpus: Amount = 0.0
    memory_gb: Amount = 0.0
    token_env: str = ""
    request_timeout_s: Positive = 10.0
    transfer_timeout_s: Positive = 300.0
    max_results_mb: Positive = 64.0
    max_output_mb: Positive = 16.0

    def __post_init__(self) -> None:
        if not re.match(r"https?://[^/]+", self.address):
            raise ConfigurationError(
                f"address is {self.address!r}.", next_step="Give the URL of the dashboard, such as http://head:8265."
            )


@dataclass
class _Seen:
    """What this process knows of a work: characters of its output given away, and how it ended."""

    read: int = 0
    status: TargetStatus | None = None
    output: str | None = None


class RayTarget:
    """Work outlives who launched it: any process that knows a handle may ask for it, or end it."""

    def __init__(self, context: TargetContext, settings: _Settings) -> None:
        self._name, self._settings, self._clock = context.name, settings, context.clock
        self._work = context.store / WORK
        self._seen: dict[str, _Seen] = {}
        self._unsure: dict[str, float] = {}
        self._code = {name: _folders(name, context.name) for name in settings.code}

    def launch(self, command: Sequence[str], env: Mapping[str, str], inputs: Mapping[str, Path]) -> str:
        """See `backbone.targets.ComputeTarget.launch`. A program that is not there fails the work, not its launch."""
        handle = uuid.uuid4().hex
        settings = self._settings
        job = {
            "handle": handle,
            "command": list(command),
            "env": dict(env),
            "inputs": {name: f"inputs/{name}/{path.name}" for name, path in inputs.items()},
            "max_results_bytes": int(settings.max_results_mb * 1e6),
            "max_output_bytes": int(settings.max_output_mb * 1e6),
        }
        packed = base64.b64encode(zlib.compress(json.dumps(job).encode())).decode()
        if len(packed) > _LONGEST_JOB:
            raise TargetFailed(
                f"Target {self._name} cannot pass on a command and environment of {len(packed)} characters.",
                next_step=f"Keep them below {_LONGEST_JOB}; pass what is larger as an input.",
            )
        with tempfile.TemporaryDirectory() as scratch:
            package = Path(scratch) / "shipped.zip"
            try:
                self._pack(package, inputs)
            except OSError as error:
                raise TargetFailed(
                    f"Target {self._name} could not pack code and inputs: {error}.",
                    next_step="See that they can be read, and that there is room for temporary files.",
                ) from error
            runtime: dict[str, Any] = {"working_dir": str(package), "env_vars": {_JOB: packed}}
            if settings.pip:
                runtime["pip"] = list(settings.pip)
            self._submit(handle, runtime)
        return handle

    def poll(self, handle: str) -> TargetStatus:
        """See `backbone.targets.ComputeTarget.poll`."""
        seen = self._seen.setdefault(handle, _Seen())
        if seen.status is None:
            status = self._status(handle)
            if status.running:
                return status
            seen.status = status
        return seen.status

    def cancel(self, handle: str) -> None:
        """See `backbone.targets.ComputeTarget.cancel`; returns once the work has ended."""
        job = self._job(handle)
        if job is None or job["status"] in _ENDED:
            return
        self._ask("POST", f"/api/jobs/{handle}/stop")
        deadline = self._clock.monotonic() + _STOP_S
        while job is not None and job["status"] not in _ENDED:
            if self._clock.monotonic() > deadline:
                raise TargetFailed(
                    f"Target {self._name}: work {handle} did not end within {_STOP_S:g} s; it is {job['status']}.",
                    next_step="It ends when the cluster gets to it. See `ray status` and the cluster's Jobs page.",
                )
            self._clock.sleep(0.1)
            job = self._job(handle)

    def logs(self, handle: str) -> str:
        """See `backbone.targets.ComputeTarget.logs`."""
        seen = self._seen.setdefault(handle, _Seen())
        ended = seen.status is not None
        output = seen.output
        if output is None:
            try:
                # While work runs, a look at it is a question like any other: a link that is gone must not hold it up.
                wait_s = self._settings.transfer_timeout_s if ended else self._settings.request_timeout_s
                output = _Said.of(self._log(handle, wait_s), handle).output
            except TargetFailed:
                return ""
        new, seen.read = output[seen.read :], len(output)
        if ended:
            # There is nothing more to come: the text need not be kept.
            seen.output, seen.read = "", 0
        return new

    def _pack(self, package: Path, inputs: Mapping[str, Path]) -> None:
        """Code, inputs and the entry script; the same content gives the same bytes, which Ray uploads once."""
        with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as zipped:
            for source, name in self._to_ship(inputs):
                info = zipfile.ZipInfo(name)
                info.external_attr = (0o755 if name.endswith("/") else 0o644) << 16
                info.compress_type = zipfile.ZIP_DEFLATED
                if name.endswith("/"):
                    zipped.writestr(info, b"")
                    continue
                with source.open("rb") as read, zipped.open(info, "w") as written:
                    shutil.copyfileobj(read, written, 1 << 20)

    def _to_ship(self, inputs: Mapping[str, Path]) -> Iterator[tuple[Path, str]]:
        yield Path(__file__).with_name(_ENTRY), _ENTRY
        for name, folders in self._code.items():
            for folder in folders:
                yield from _files(folder, name)
        for name, path in inputs.items():
            if not path.exists():
                raise TargetFailed(
                    f"Target {self._name} was given {path} as input {name}, which is not there.",
                    next_step="Materialize what writes it, then try again.",
                )
            yield from _files(path.resolve(), f"inputs/{name}/{path.name}")

    def _submit(self, handle: str, runtime: Mapping[str, Any]) -> None:
        settings = self._settings

        def submit() -> None:
            self._client.submit_job(
                entrypoint=f"exec {settings.python} -I -S {_ENTRY}",
                submission_id=handle,
                runtime_env=dict(runtime),
                metadata={"target": self._name, "launcher": f"{socket.gethostname()}:{os.getpid()}"},
                entrypoint_num_cpus=settings.num_cpus or None,
                entrypoint_num_gpus=settings.num_gpus or None,
                entrypoint_memory=int(settings.memory_gb * 1e9) or None,
            )

        for again in (False, True):
            try:
                self._told(submit)
                break
            except TargetFailed as error:
                # Whether it started is not known for certain. Ray takes an id once: to ask again starts nothing twice.
                if self._started_after_all(handle):
                    break
                if again or not isinstance(error, _Unanswered):
                    raise
        self._settle()

    def _started_after_all(self, handle: str) -> bool:
        """Whether the cluster knows the work; where it cannot say, the work is ended when it can."""
        since = self._clock.monotonic()
        self._unsure[handle] = since
        known = self._job(handle) is not None
        if known:
            del self._unsure[handle]
        return known

    def _settle(self) -> None:
        """End what was launched without our knowing: its launch failed as far as anybody was told."""
        for handle, since in list(self._unsure.items()):
            job = self._job(handle)
            if job is not None and job["status"] not in _ENDED:
                self._ask("POST", f"/api/jobs/{handle}/stop")
            elif job is not None or self._clock.monotonic() - since > _UNSURE_S:
                del self._unsure[handle]

    def _status(self, handle: str) -> TargetStatus:
        job = self._job(handle)
        if self._unsure:
            self._settle()
        if job is None:
            lost = "; a cluster that was restarted forgets its work" if _HANDLE.fullmatch(handle) else ""
            return TargetStatus("failed", f"target {self._name} knows no work {handle}{lost}")
        if job["status"] not in _ENDED:
            return TargetStatus("running")
        if job["status"] == "STOPPED":
            return TargetStatus("failed", "it was cancelled")
        if job["status"] == "FAILED":
            return TargetStatus("failed", _how_it_failed(job, handle))
        return self._bring_back(handle)

    def _bring_back(self, handle: str) -> TargetStatus:
        said = _Said.of(self._log(handle, self._settings.transfer_timeout_s), handle)
        self._seen[handle].output = said.output
        if said.archive is None:
            return TargetStatus("failed", "its results did not come back whole")
        try:
            self._unpack(said.archive, self._work / handle)
        except tarfile.TarError as error:
            return TargetStatus("failed", f"its results cannot be unpacked: {error}")
        except OSError as error:
            raise TargetFailed(
                f"Target {self._name} could not write the results of work {handle}: {error}.",
                next_step="See that the location's store can be written, and has room.",
            ) from error
        return TargetStatus("succeeded")

    def _unpack(self, content: bytes, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=self._work) as scratch:
            with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
                archive.extractall(scratch, filter="data")
            # File by file, each at once: another process may be asking, and bringing the same, at this moment.
            for path in Path(scratch).rglob("*"):
                place = folder / path.relative_to(scratch)
                place.parent.mkdir(parents=True, exist_ok=True)
                if path.is_file():
                    path.replace(place)

    def _job(self, handle: str) -> dict[str, Any] | None:
        return self._ask("GET", f"/api/jobs/{handle}") if _HANDLE.fullmatch(handle) else None

    def _log(self, handle: str, wait_s: float) -> str:
        told = self._ask("GET", f"/api/jobs/{handle}/logs", wait_s) if _HANDLE.fullmatch(handle) else None
        return told["logs"] if told else ""

    def _ask(self, method: str, endpoint: str, wait_s: float | None = None) -> dict[str, Any] | None:
        """The cluster's answer; None where it knows no such job."""

        def asked() -> dict[str, Any] | None:
            response = self._client.ask(method, endpoint, wait_s)
            if response.status_code == 404:
                return None
            if response.status_code != 200:
                raise RuntimeError(f"status {response.status_code}: {response.text.strip()[-300:]}")
            told: dict[str, Any] = response.json()
            return told

        return self._told(asked)

    def _told(self, call: Callable[[], T]) -> T:
        import requests

        try:
            return call()
        except (requests.RequestException, ConnectionError, TimeoutError) as error:
            raise _Unanswered(
                f"Target {self._name}: no answer from {self._settings.address}: {_last_line(error)}.",
                next_step="Check that its head runs and can be reached from here.",
            ) from error
        except (RuntimeError, ValueError) as error:
            raise TargetFailed(
                f"Target {self._name}: {self._settings.address} refused: {_last_line(error)}.",
                next_step="See the cluster's Jobs page and dashboard.log, mend the cause, then try again.",
            ) from error

    @cached_property
    def _client(self) -> Any:
        try:
            return _bounded_client(self._settings)
        except ImportError as error:
            raise ConfigurationError(
                f"Target {self._name} needs Ray's job client: {error}.",
                next_step="Install it: pip install 'hybrid-assets[ray]'.",
            ) from error


class _Unanswered(TargetUnreachable):
    """No answer came: whether the request had an effect is unknown."""


@dataclass(frozen=True)
class _Said:
    """A job's log, taken apart. `archive` is there only if it is whole."""

    output: str
    archive: bytes | None = None
    end: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(log: str, handle: str) -> _Said:
        mark = f"#{handle}# "
        # Ray holds this line back until it has started the work, which may have said something by then.
        log = re.sub(rf"Running entrypoint for job {re.escape(handle)}: [^\n]*\n", "", log)
        # What else it says before the work begins is no output, nor is a line that is not whole yet.
        _, _, rest = log.partition(f"{mark}begin\n")
        output, pieces, end = [], [], {}
        for line in rest.split("\n")[:-1]:
            if not line.startswith(mark):
                output.append(f"{line}\n")
            elif line.startswith(f"{mark}result "):
                pieces.append(line.removeprefix(f"{mark}result "))
            elif line.startswith(f"{mark}end "):
                end = json.loads(line.removeprefix(f"{mark}end "))
        try:
            archive = b"".join(base64.b64decode(piece, validate=True) for piece in pieces)
        except binascii.Error:
            archive = b""
        whole = hashlib.sha256(archive).hexdigest() == end.get("sha256")
        return _Said("".join(output), archive if whole else None, end)


def _how_it_failed(job: Mapping[str, Any], handle: str) -> str:
    message = job.get("message") or ""
    code = job.get("driver_exit_code")
    end = re.search(rf"^#{handle}# end (.*)$", message, re.MULTILINE)
    if end and (error := json.loads(end[1]).get("error")):
        return str(error)
    if code is None:
        return message.strip()[:500] or f"it failed: {job.get('error_type')}"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _folders(package: str, target: str) -> tuple[Path, ...]:
    found = importlib.util.find_spec(package) if re.fullmatch(r"\w+", package) else None
    if found is None or not found.submodule_search_locations:
        raise ConfigurationError(
            f"target {target}: code names {package!r}, which is no package that can be imported here.",
            next_step="Name top-level packages that are installed where the plant runs.",
        )
    return tuple(Path(place) for place in found.submodule_search_locations)


def _files(path: Path, name: str) -> Iterator[tuple[Path, str]]:
    if path.is_file():
        yield path, name
        return
    yield path, f"{name}/"
    for entry in sorted(path.iterdir()):
        if entry.name != "__pycache__":
            yield from _files(entry, f"{name}/{entry.name}")


def _last_line(error: BaseException) -> str:
    return (str(error).rstrip(" .\n").rpartition("\n")[2] or type(error).__name__)[:300]


def _bounded_client(settings: _Settings) -> Any:
    """Ray's own client, each of whose requests ends in time; the stock one waits for ever."""
    import ray
    import requests
    from ray.dashboard.modules.dashboard_sdk import SubmissionClient
    from ray.job_submission import JobSubmissionClient

    token = os.environ.get(settings.token_env, "") if settings.token_env else ""
    headers = {"Authorization": f"Bearer {token}"} if token else {}

    class Client(JobSubmissionClient):
        def __init__(self) -> None:
            # Its own constructor lets RAY_ADDRESS, where it is set, win over the site file.
            SubmissionClient.__init__(self, settings.address, headers=headers)
            self._client_ray_version = ray.__version__

        def ask(self, method: str, endpoint: str, wait_s: float | None) -> requests.Response:
            return self._do_request(method, endpoint, wait_s=wait_s)

        def _do_request(
            self,
            method: str,
            endpoint: str,
            *,
            data: Any = None,
            json_data: Any = None,
            wait_s: float | None = None,
            **_: Any,
        ) -> requests.Response:
            limit_s = wait_s or (settings.transfer_timeout_s if method == "PUT" else settings.request_timeout_s)
            return within(
                limit_s,
                lambda: requests.request(
                    method,
                    self._address + endpoint,
                    data=data,
                    json=json_data,
                    headers=self._headers,
                    timeout=limit_s,
                    allow_redirects=False,
                ),
            )

    # It tells of every package it uploads.
    logging.getLogger(SubmissionClient.__module__).setLevel(logging.WARNING)
    return Client()


def _open(context: TargetContext) -> ComputeTarget:
    return RayTarget(context, settings_from(_Settings, context.settings, where=f"target {context.name}"))


SPEC = TargetSpec(
    name="ray",
    summary="A job on an existing Ray cluster, which gets its code and inputs with it.",
    cannot={
        "start a cluster": "clusters are somebody else's to size and to pay for",
        "survive the head": "Ray's jobs end with the cluster's head; the work is placed again",
        "refuse a missing program at launch": "the cluster finds out later; the work then fails and says so",
        "stream much output": "each look fetches all that was printed so far; max_output_mb bounds it",
    },
    start_s=4.0,
    settings=_Settings,
    open=_open,
    poll_s=0.5,
)
