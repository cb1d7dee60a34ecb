"""Where lineage events go: the standard OpenLineage client configuration, or our own file where there is none.

The client reads its configuration (`OPENLINEAGE_URL`, `OPENLINEAGE_CONFIG`, `openlineage.yml`, `OPENLINEAGE__…`); the
sending is ours, since an event here is bytes that were kept, and must be the same bytes when they are sent again.

What the client does in passing is left out: it adds no facets of its own (tags, environment variables), and a
transport that only queues (`async_http`) sends and waits. Filters by job name hold.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import urljoin, urlsplit

import filelock

from backbone.bounded_calls import within
from backbone.errors import ConfigurationError, HybridError, UnknownName
from resources.lineage.configuration import DISABLED, PREFIX, URL, config_file, switched_off

if TYPE_CHECKING:
    from openlineage.client import OpenLineageClient
    from openlineage.client.transport import HttpTransport, Transport

Fault = Literal["backend", "event", "refused"]
"""Why one could not be sent: nothing can be sent now; this one cannot now; this one never can."""

_SECTIONS = ("transport", "facets", "filters", "tags", "dataset")
_CONTROL = ("type", "name", "priority")
_MISCONFIGURED = (401, 403, 404, 405, 407)
"""The address or the key is wrong: no event is to blame, and none would get through."""
_OVERLOADED = (429, 502, 503, 504)
_NOT_YET = (408, 409, 425)
_PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE)


class NotSent(Exception):
    """Events were not taken, or not surely.

    Args:
        fault: what that says of it, and of the others.
        why: what the backend said, without secrets.
    """

    def __init__(self, fault: Fault, why: str) -> None:
        super().__init__(why)
        self.fault, self.why = fault, why


class Channel(Protocol):
    """Somewhere that takes events.

    Attributes:
        at_once: how many it takes as one.
    """

    at_once: int

    def __str__(self) -> str:
        """Where that is, without secrets."""
        ...

    def send(self, bodies: Sequence[bytes]) -> None:
        """Returns when all of them, `at_once` at most, are safe there.

        Raises:
            NotSent: they are not.
        """

    def close(self) -> None:
        """Give back what it holds."""


@dataclass
class NdjsonFile:
    """One event a line, appended; on the disk when `send` returns."""

    path: Path
    at_once: int = 500

    def __str__(self) -> str:
        return str(self.path)

    def send(self, bodies: Sequence[bytes]) -> None:
        """See `Channel`. A line that a killed process left torn is taken away: its event is sent again whole."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # One that lost its lease while it slept may still be writing.
            with filelock.FileLock(f"{self.path}.lock", timeout=10), self.path.open("a+b") as file:
                _mend(file.fileno())
                file.write(b"".join(body + b"\n" for body in bodies))
                file.flush()
                os.fsync(file.fileno())
        except (OSError, filelock.Timeout) as error:
            raise NotSent("backend", f"{self.path} cannot be written: {error}") from error

    def close(self) -> None:
        """Nothing is held between batches."""


def _mend(descriptor: int) -> None:
    """End the file with a whole line: cut a torn one off, end one that only lacks its end."""
    size = os.fstat(descriptor).st_size
    if not size or os.pread(descriptor, 1, size - 1) == b"\n":
        return
    start, tail = size, b""
    while start and b"\n" not in tail:
        step = min(start, 1 << 16)
        start -= step
        tail = os.pread(descriptor, step, start) + tail
    torn = tail.rpartition(b"\n")[2]
    try:
        json.loads(torn)
    except ValueError:
        os.ftruncate(descriptor, size - len(torn))
    else:
        os.write(descriptor, b"\n")


@dataclass
class Http:
    """An OpenLineage backend, through the session, authentication and limits of the client's own transport."""

    transport: HttpTransport
    at_once: int = 1

    def __str__(self) -> str:
        return _shown(urljoin(self.transport.url, self.transport.endpoint))

    def send(self, bodies: Sequence[bytes]) -> None:
        """See `Channel`."""
        for body in bodies:
            self._post(body)

    def _post(self, body: bytes) -> None:
        import requests

        transport = self.transport
        # A socket's time-out starts anew with every byte; a whole request has the double of it.
        limit = float(transport.timeout)

        def post() -> requests.Response:
            headers = {"Content-Type": "application/json"}
            if bearer := transport.config.auth.get_bearer():
                headers["Authorization"] = bearer
            headers |= transport.config.custom_headers
            data = body
            if str(transport.compression) == "gzip":
                headers["Content-Encoding"] = "gzip"
                data = gzip.compress(body, compresslevel=3, mtime=0)
            return transport.session.post(
                urljoin(transport.url, transport.endpoint),
                data=data,
                headers=headers,
                timeout=limit,
                verify=transport.verify,
                cert=transport.cert,
                # A redirect would turn the POST into a GET, and show our key to somebody else.
                allow_redirects=False,
            )

        try:
            answer = within(2 * limit, post)
        except (requests.exceptions.ReadTimeout, TimeoutError) as error:
            raise NotSent("event", f"{self} did not answer within {limit:g} s") from error
        except requests.exceptions.RequestException as error:
            raise NotSent("backend", f"{self} cannot be reached: {_cause(error)}") from error
        except Exception as error:  # a token endpoint that is down raises what it likes
            raise NotSent("backend", f"{self}: {type(error).__name__} while sending") from error
        if answer.status_code >= 300:
            raise NotSent(_fault(answer.status_code), f"{self} answered {answer.status_code}: {_told(answer)}")

    def close(self) -> None:
        """Close its connections."""
        self.transport.close()


@dataclass
class Console:
    """Standard output, one event a line."""

    at_once: int = 500

    def __str__(self) -> str:
        return "standard output"

    def send(self, bodies: Sequence[bytes]) -> None:
        """See `Channel`."""
        import sys

        for body in bodies:
            print(body.decode(), file=sys.stdout, flush=True)

    def close(self) -> None:
        """Nothing is held."""


@dataclass
class Nowhere:
    """The client's `noop`: events are taken and forgotten."""

    at_once: int = 500

    def __str__(self) -> str:
        return "nowhere (transport noop)"

    def send(self, bodies: Sequence[bytes]) -> None:
        """See `Channel`."""

    def close(self) -> None:
        """Nothing is held."""


@dataclass
class ThroughClient:
    """Any other transport of the client: it is given the event, spells it itself, and is believed when it returns."""

    transport: Transport
    at_once: int = 1

    def __str__(self) -> str:
        return f"the client's transport {self.transport.kind or type(self.transport).__name__}"

    def send(self, bodies: Sequence[bytes]) -> None:
        """See `Channel`."""
        for body in bodies:
            try:
                self.transport.emit(json.loads(body))
            except Exception as error:
                raise NotSent("event", f"{self}: {type(error).__name__}: {_cause(error)}") from error

    def close(self) -> None:
        """Wait a little for what it still holds."""
        self.transport.close(5.0)


@dataclass
class Every:
    """The client's `composite`: an event is sent when all of them have it; one that has it may get it again."""

    channels: Sequence[Channel]
    at_once: int = 1

    def __str__(self) -> str:
        return " and ".join(map(str, self.channels))

    def send(self, bodies: Sequence[bytes]) -> None:
        """See `Channel`."""
        for channel in self.channels:
            for body in bodies:
                channel.send([body])

    def close(self) -> None:
        """Close each."""
        for channel in self.channels:
            channel.close()


@dataclass(frozen=True)
class Destination:
    """Where events go, as configured.

    Attributes:
        channel: None where emission is switched off.
        wanted: whether a job's events are sent, by the job's name; None: nothing is filtered.
    """

    channel: Channel | None
    wanted: Callable[[str], bool] | None = None

    def __str__(self) -> str:
        return str(self.channel) if self.channel else f"nobody: {DISABLED} is set"


def destination(home: Path) -> Destination:
    """What the standard configuration says, as this process sees it.

    Args:
        home: of the installation; `lineage/events.ndjson` in it takes the events where nothing is configured.

    Raises:
        ConfigurationError: it is wrong; names the file or the variable, and what to do.
    """
    default = home / "lineage" / "events.ndjson"
    if switched_off():
        return Destination(None)
    path = config_file()
    configured = bool(os.environ.get(URL)) or any(name.startswith(PREFIX) for name in os.environ)
    if path is None and not configured:
        return Destination(NdjsonFile(default))
    where = str(path) if path else f"The variables {URL} or {PREFIX}…"
    if path is not None:
        _check_file(path)
    with _environment_kept():
        client = _client(where)
    return _opened(client, where, default)


def _client(where: str) -> OpenLineageClient:
    from openlineage.client import OpenLineageClient
    from openlineage.client.transport.noop import NoopConfig, NoopTransport

    try:
        # Given a transport, it reads the configuration and makes nothing of it.
        _check_types(OpenLineageClient(transport=NoopTransport(NoopConfig())).config.transport, where)
        return OpenLineageClient()
    except HybridError:
        raise
    except Exception as error:  # it raises whatever its parts raise
        raise ConfigurationError(
            f"{where}: the OpenLineage client refuses this configuration: {_cause(error)}.",
            next_step="Correct it as https://openlineage.io/docs/client/python/configuration says, "
            f"or set {DISABLED}=true.",
        ) from error


def _check_types(settings: Any, where: str) -> None:
    """A type is one of the client's, or the path of a class; of any other the client says only that it has no dot."""
    from openlineage.client.transport import get_default_factory

    if not isinstance(settings, Mapping):
        return  # which the client refuses
    known = sorted(get_default_factory().transports)
    kind = settings.get("type")
    if kind is not None and kind not in known and "." not in str(kind):
        raise _named(where, "transport type", str(kind), known)
    children = settings.get("transports") or ()
    for child in [*(children.values() if isinstance(children, Mapping) else children), settings.get("transport")]:
        _check_types(child, where)


def _opened(client: OpenLineageClient, where: str, default: Path) -> Destination:
    from openlineage.client.filter import create_filter

    filters = []
    for number, config in enumerate(client.config.filters):
        made = create_filter(config)
        if made is None:
            raise _wrong(
                where, f"filters[{number}] is neither `type: exact` with `match` nor `type: regex` with `regex`"
            )
        filters.append(made)

    def passes(job: str) -> bool:
        event: Any = SimpleNamespace(job=SimpleNamespace(name=job))
        return all(f.filter_event(event) is not None for f in filters)

    wanted = passes if filters else None

    configured = client.config.transport or {}
    if not configured.get("type") and URL not in os.environ and client.transport.kind == "console":
        if configured.get("transports") or set(configured) - {"transports"}:
            raise _wrong(where, "`transport` has no `type`")
        return Destination(NdjsonFile(default), wanted)
    if configured.get("type"):
        _check_transport(configured, where)
    return Destination(_channel(client.transport, where), wanted)


def _channel(transport: Transport, where: str) -> Channel:
    from openlineage.client.transport import AsyncHttpTransport, CompositeTransport, HttpTransport
    from openlineage.client.transport.console import ConsoleTransport
    from openlineage.client.transport.file import FileTransport
    from openlineage.client.transport.http import HttpConfig
    from openlineage.client.transport.noop import NoopTransport

    match transport:
        case HttpTransport():
            return _http(transport.config, where)
        case AsyncHttpTransport(config=c):
            transport.close(0)
            names = ("url", "endpoint", "timeout", "verify", "auth", "compression", "custom_headers", "retry")
            return _http(HttpConfig(**{name: getattr(c, name) for name in names}), where)
        case FileTransport(config=c) if not c.filesystem and "://" not in c.log_file_path:
            _check_file_path(Path(c.log_file_path), where, append=c.append)
            if c.append:
                return NdjsonFile(Path(c.log_file_path))
        case ConsoleTransport():
            return Console()
        case NoopTransport():
            return Nowhere()
        case CompositeTransport():
            return Every([_channel(t, where) for t in transport.transports])
    return ThroughClient(transport)


def _check_file_path(path: Path, where: str, *, append: bool) -> None:
    """A path at which no file can ever be is told at start. A disk that is full or does not answer may get well."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if append and path.exists():
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND))
        else:
            tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        if error.errno not in _PASSING:
            raise _wrong(where, f"`log_file_path` is {path}, where no file can be written: {error.strerror}") from error


def _http(config: Any, where: str) -> Http:
    from openlineage.client.transport.http import HttpTransport
    from openlineage.client.transport.http_common import DEFAULT_RETRY_CONFIG
    from requests.adapters import HTTPAdapter

    if isinstance(config.timeout, bool) or not isinstance(config.timeout, int | float) or not config.timeout > 0:
        raise _wrong(where, f"`timeout` is {config.timeout!r}, not a number of seconds above zero")
    if urlsplit(config.url.strip()).scheme not in ("http", "https"):
        raise _wrong(where, f"`url` is {_shown(config.url)!r}, neither http:// nor https://")
    if config.retry == DEFAULT_RETRY_CONFIG:
        # The outbox tries again, and lets others go first meanwhile; the client would hold them all up.
        config.adapter = HTTPAdapter()
    return Http(HttpTransport(config))


def _check_file(path: Path) -> None:
    """The client logs a file that it cannot read, and goes on as if there were none; a typo it passes over."""
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        said = getattr(error, "problem", None) or "it is not UTF-8"
        raise _wrong(f"{path}{line}", f"this is not YAML: {said}") from error
    if not isinstance(document, dict):
        raise _wrong(str(path), "the file is empty" if document is None else "the file is not a mapping")
    for name in document:
        if name not in _SECTIONS:
            raise _named(str(path), "section", str(name), _SECTIONS)
    transport = document.get("transport")
    if transport is not None and not isinstance(transport, dict):
        raise _wrong(str(path), "`transport` is not a mapping")


def _check_transport(settings: Mapping[str, Any], where: str) -> None:
    """Settings that the client would pass over without a word."""
    if settings["type"] in ("http", "async_http"):
        import attr
        from openlineage.client.transport import AsyncHttpConfig, HttpConfig

        known = {a.name for c in (HttpConfig, AsyncHttpConfig) for a in attr.fields(c)} - {"session", "adapter"}
        known |= {*_CONTROL, "sslContext", "sslcontext"}
        for name in settings:
            if name not in known:
                raise _named(where, "setting of the transport", name, sorted(known))
    if settings["type"] == "composite":
        children = settings.get("transports") or ()
        for child in children.values() if isinstance(children, dict) else children:
            _check_transport(child, where)


def _wrong(where: str, what: str) -> ConfigurationError:
    return ConfigurationError(f"{where}: {what}.", next_step="Correct it; https://openlineage.io/docs/client/python.")


def _named(where: str, kind: str, name: str, valid: Sequence[str]) -> ConfigurationError:
    unknown = UnknownName(kind, name, valid)
    return ConfigurationError(f"{where}: {unknown.problem}", next_step=unknown.next_step)


@contextmanager
def _environment_kept() -> Iterator[None]:
    """The client copies `OPENLINEAGE_URL` and the key into other variables of the process; they are taken back."""
    before = set(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - before:
            if name.startswith(PREFIX):
                del os.environ[name]


def _fault(status: int) -> Fault:
    if status in _MISCONFIGURED or status in _OVERLOADED or 300 <= status < 400:
        return "backend"
    return "event" if status >= 500 or status in _NOT_YET else "refused"


def _told(answer: Any) -> str:
    """What the backend says, in a line."""
    return " ".join(answer.text[:500].split())[:200] or str(answer.reason)


def _shown(url: str) -> str:
    """An address without name and password."""
    parts = urlsplit(url.strip())
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _cause(error: BaseException) -> str:
    """What is at the bottom of an error, in a line."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = " ".join(str(error).split())[:200] or type(error).__name__
    return re.sub(r"//[^/@\s]*@", "//", said)
