"""`hybrid up`: one code server, the web server, the daemon and Data Docs, started together and ended together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

import filelock

from backbone.errors import ConfigurationError, TargetFailed
from quality.warm import WarmValidator
from quality.worker import ADDRESS, DOCS
from resources.bindings.warm_runs import WARM_RUNS
from resources.home import Home
from sensors.waiting import TICKS_WAIT

HOST = "127.0.0.1"
_READY_S = 90.0
_GRACE_S = 15.0
_POLL_S = 0.2
_CODE_SERVER_THREADS = 64
_SENSORS_A_CLASS = 6
_AGAIN_S, _AGAIN_MOST_S = 1.0, 60.0
"""How long a service that the UI does not need must have run to be started again at once: doubled each time."""
_NEEDED = ("code-server", "webserver", "daemon")

_WORKSPACE = """\
load_from:
  - grpc_server:
      host: {host}
      port: {port}
      location_name: hybrid_assets
"""


@dataclass(frozen=True)
class _Service:
    """One of the processes of `hybrid up`, and how it was started."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes]
    revived: int = 0
    not_before: float = 0.0
    """When it may be started again, by the monotonic clock."""

    def again(self, home: Home) -> _Service:
        process = _launch(home, self.name, self.command, self.environment)
        wait_s = min(_AGAIN_S * 2**self.revived, _AGAIN_MOST_S)
        return replace(self, process=process, revived=self.revived + 1, not_before=time.monotonic() + wait_s)


def run_services(port: int) -> int:
    """Run until interrupted, or until one of the services ends.

    Data Docs, gateways and simulated machines are started again where they end: the UI does not need them.

    Returns:
        0 after an interrupt; 1 if a service ended by itself.

    Raises:
        ConfigurationError: the port is taken, or another `hybrid up` uses this home.
    """
    home = Home.from_environment().prepare()
    _check_definitions(home)
    _require_free(port)
    lock = filelock.FileLock(home.root / "up.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise ConfigurationError(
            f"Another `hybrid up` uses {home.root}.", next_step="End it, or set HYBRID_HOME to another folder."
        ) from error
    with lock, _interruptible() as interrupted, _services(home, port) as services:
        print(f"UI     http://{HOST}:{port}", flush=True)
        print(f"Checks {_docs_address(home).read_text(encoding='utf-8')}", flush=True)
        print(f"State  {home.root}", flush=True)
        print("Ctrl-C ends it.", flush=True)
        while not interrupted:
            for name, service in services.items():
                if service.process.poll() is None or time.monotonic() < service.not_before:
                    continue
                print(f"{name} ended; its output is in {home.root / 'logs'}", file=sys.stderr)
                if name in _NEEDED:
                    return 1
                services[name] = service.again(home)
            time.sleep(_POLL_S)
    return 0


def _check_definitions(home: Home) -> None:
    """Wrong site files, contracts and openlineage.yml are told here, in one line, not in a server's log."""
    from resources.lineage.configuration import check_destination
    from resources.plant import Catalog

    check_destination(home.root)
    sites = Catalog(home).sites
    if not sites:
        raise ConfigurationError("There is no plant.", next_step=f"Add a site file to {home.sites}.")


@contextmanager
def _services(home: Home, port: int) -> Iterator[dict[str, _Service]]:
    """The services, up and answering."""
    code_port, docs_port = _free_port(), _docs_port(port)
    workspace = home.dagster / "workspace.yaml"
    workspace.write_text(_WORKSPACE.format(host=HOST, port=code_port), encoding="utf-8")
    ticks_wait = home.dagster / "ticks_wait"
    environment = os.environ | {
        "HYBRID_HOME": str(home.root),
        "DAGSTER_HOME": str(home.dagster),
        WARM_RUNS: "yes",
        TICKS_WAIT: str(ticks_wait),
        # A tick that waits takes a thread of each server on its way, and may find a minute's work at its end.
        "DAGSTER_CODE_SERVER_MAX_WORKERS": str(_CODE_SERVER_THREADS),
        "DAGSTER_GRPC_MAX_WORKERS": str(_CODE_SERVER_THREADS),
        "DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS": "120",
    }
    scripts = Path(sys.executable).parent
    code_server = [
        str(scripts / "dagster"), "code-server", "start", "--host", HOST, "--port", str(code_port),
        "--module-name", "hybrid_assets.definitions", "--location-name", "hybrid_assets",
        "--use-python-environment-entry-point",
    ]  # fmt: skip
    commands = {
        "webserver": [str(scripts / "dagster-webserver"), "-h", HOST, "-p", str(port), "-w", str(workspace)],
        "daemon": [str(scripts / "dagster-daemon"), "run", "-w", str(workspace)],
        "data-docs": [sys.executable, "-m", "cli.data_docs", str(home.quality / DOCS), str(docs_port)],
        **_plant_floor(home),
    }
    running: dict[str, _Service] = {}
    if _enough_threads(home):
        ticks_wait.touch()
    try:
        running["code-server"] = _start(home, "code-server", code_server, environment)
        _until(lambda: _listening(code_port), "code-server", running, home)
        for name, command in commands.items():
            running[name] = _start(home, name, command, environment)
        _until(lambda: _answers(f"http://{HOST}:{port}/server_info"), "webserver", running, home)
        _until(lambda: _listening(docs_port), "data-docs", running, home)
        _docs_address(home).write_text(f"http://{HOST}:{docs_port}", encoding="utf-8")
        yield running
    finally:
        ticks_wait.unlink(missing_ok=True)  # first of all: the daemon ends when its ticks have
        _docs_address(home).unlink(missing_ok=True)
        _end(running)
        WarmValidator(home.quality).dismiss(_GRACE_S)


def _plant_floor(home: Home) -> dict[str, list[str]]:
    """The gateway of each plant that has one, and its machines where they are simulated."""
    from cli.simulated_machines import simulated_fleets
    from resources.plant import Catalog, Plant

    catalog, commands = Catalog(home), {}
    for name in sorted(name for name, site in catalog.sites.items() if site.gateway):
        commands[f"gateway-{name}"] = [sys.executable, "-m", "gateway.main", "--site", name]
        if simulated_fleets(Plant(catalog, name)):
            commands[f"machines-{name}"] = [sys.executable, "-m", "cli.simulated_machines", "--site", name]
    return commands


def _enough_threads(home: Home) -> bool:
    """Whether the daemon has a thread for every sensor, so that none waits for one whose tick waits."""
    import yaml

    from resources.plant import Catalog

    settings = yaml.safe_load((home.dagster / "dagster.yaml").read_text(encoding="utf-8")) or {}
    sensors = settings.get("sensors") or {}
    classes = {name for site in Catalog(home).sites.values() for name in site.classes}
    needed = _SENSORS_A_CLASS * len(classes) + 1
    return bool(sensors.get("use_threads")) and needed <= min(sensors.get("num_workers") or 0, _CODE_SERVER_THREADS - 8)


def _start(home: Home, name: str, command: list[str], environment: Mapping[str, str]) -> _Service:
    return _Service(name, command, environment, _launch(home, name, command, environment))


def _launch(home: Home, name: str, command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    log = home.root / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - our own services, no shell
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process only, which then ends them in order
        )


def _until(condition: Callable[[], bool], name: str, running: Mapping[str, _Service], home: Home) -> None:
    deadline = time.monotonic() + _READY_S
    while not condition():
        ended = [n for n, s in running.items() if s.process.poll() is not None]
        if ended or time.monotonic() > deadline:
            raise TargetFailed(
                f"{', '.join(ended) or name} {'ended' if ended else 'did not answer'} while starting.",
                next_step=f"Read {home.root / 'logs'}.",
            )
        time.sleep(_POLL_S)


def _end(running: Mapping[str, _Service]) -> None:
    """The plant floor first, then the daemon, so that it starts nothing more; each process group whole, runs too."""
    last = ("daemon", "data-docs", "webserver", "code-server")
    for name in (*(name for name in reversed(list(running)) if name not in last), *last):
        if name not in running:
            continue
        process = running[name].process
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                break
            if _ended(process, time.monotonic() + _GRACE_S):
                break


def _ended(process: subprocess.Popen[bytes], deadline: float) -> bool:
    """Whether a service has ended by then, and all of its group: a run is not through when its daemon is."""
    while process.poll() is None or _group(process.pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _group(leader: int) -> bool:
    """Whether any of a process group still runs, one that has ended and was not asked for apart."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, group, *_ = entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(group) == leader and state != "Z":
                return True
    return False


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """A list that is no longer empty once SIGINT or SIGTERM has come."""
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigurationError(f"Port {port} is taken.", next_step="Choose another with --port.") from error


def _docs_port(port: int) -> int:
    """That after the UI's, so that links in old runs still lead there; any other where it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port + 1))
        except (OSError, OverflowError):
            return _free_port()
    return port + 1


def _docs_address(home: Home) -> Path:
    """Where the checks read what to link to."""
    home.quality.mkdir(parents=True, exist_ok=True)
    return home.quality / ADDRESS


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own server
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
