"""A plant of its own for a rehearsal of its floor: a home, a broker, a gateway and its porter, as real processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from backbone.errors import Terminal
from chaos.floor.broker import FloorBroker, Mosquitto, broker_at_hand
from chaos.floor.machines import FLOWING
from chaos.floor.strikes import StrikeOrders
from chaos.floor.tcp_proxy import TcpProxy
from gateway.exchange import Folders, folders_of
from gateway.mqtt_connection import Version
from gateway.settings import settings_of
from resources.catalog.sites import SHIPPED
from resources.home import Home
from resources.plant import Catalog, Plant

SITE = "works"
PATIENCE_S = 60.0
_LOOK_S = 0.02
_SITE = """\
[calendar]
first_day = 2026-01-01

[fleets.pump]
source = {{ kind = "gateway" }}

[gateway]
name = "gw-1"
land_every_s = {land_every_s}
spool = {{ max_mib = {max_mib}, segment_mib = {segment_mib}, drain_per_s = {drain_per_s} }}

[gateway.fleets.pump]
equipment = ["P-*"]

[[gateway.sources]]
kind = "mqtt"
url = "mqtt://127.0.0.1:{port}"
version = {version}
keepalive_s = 1

"""


class GatewayEnded(Exception):
    """The gateway has ended while something was waited for."""


class Works:
    """The plant. A context manager: what was started is ended.

    Args:
        root: a new folder.
        max_mib, segment_mib, drain_per_s, land_every_s: see `gateway.settings`; files of the spool are small here, so
            that many begin and end.
    """

    def __init__(
        self,
        root: Path,
        *,
        max_mib: float = 64.0,
        segment_mib: float = 1 / 64,
        drain_per_s: float = 20_000.0,
        land_every_s: float = 0.2,
    ) -> None:
        self.home = Home(root / "home").prepare()
        self.orders_folder = root / "orders"
        self.orders = StrikeOrders(self.orders_folder)
        self.broker: FloorBroker = broker_at_hand(root / "broker")
        self.version: Version = 5 if isinstance(self.broker, Mosquitto) else "3.1.1"
        self._settings = {
            "max_mib": max_mib,
            "segment_mib": segment_mib,
            "drain_per_s": drain_per_s,
            "land_every_s": land_every_s,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._ending = contextlib.ExitStack()
        self.starts = 0

    def __enter__(self) -> Works:
        with contextlib.ExitStack() as ending:
            self.broker.start()
            ending.callback(self.broker.kill)
            self.line = ending.enter_context(TcpProxy("127.0.0.1", self.broker.port))
            shipped = (SHIPPED / "riverside.toml").read_text(encoding="utf-8")
            places = shipped[shipped.index("[[locations]]") : shipped.index("# Up to the day")]
            text = _SITE.format(port=self.line.port, version=json.dumps(self.version), **self._settings)
            (self.home.sites / f"{SITE}.toml").write_text(text + places, encoding="utf-8")
            self.plant = Plant(Catalog(self.home), SITE)
            _commission(self.plant)
            self.folders: Folders = folders_of(self.plant, settings_of(self.plant))
            ending.callback(self._end)
            self._ending = ending.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        file = self.home.root / "gateway.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def commissioned(self) -> None:
        """Wait until the gateway answers: its porter has brought the baseline."""
        self.until(lambda: self.ask()["fleets"]["pump"]["commissioned"])

    def start(self, *, porter: bool = True) -> bool:
        """Start the gateway, and return when it serves, or has ended; whether it serves."""
        self.folders.address.unlink(missing_ok=True)
        self._process = self._spawn(*(() if porter else ("--no-porter",)))
        self.starts += 1
        try:
            self.until(self.folders.address.exists)
        except GatewayEnded:
            return False
        return True

    @contextmanager
    def store_gone(self) -> Iterator[None]:
        """The landing tables cannot be reached, as of a share that is not mounted."""
        tables = self.plant.landing("pump").path("telemetry").parent
        away = tables.with_name(f"{tables.name}.away")
        tables.rename(away)
        tables.write_text("nobody is here")
        try:
            yield
        finally:
            tables.unlink()
            away.rename(tables)

    def second(self) -> tuple[int, str]:
        """What becomes of a second gateway of the plant: its exit code, and what it said."""
        process = self._spawn(stderr=subprocess.PIPE)
        said = process.communicate(timeout=PATIENCE_S)[1].decode(errors="replace")
        return process.returncode, said

    def kill(self) -> None:
        """`kill -9` of the gateway alone: its porter notices that nobody is there any more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def kill_porter(self) -> None:
        """`kill -9` of the porter that was heard of last, if it is still one."""
        self.orders.look()
        pid = self.orders.pids.get("porter")
        if pid is not None and _is_ours(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(PATIENCE_S)

    def porter_gone(self) -> None:
        """Wait until no porter is at work."""
        if self.folders.root.exists():
            with filelock.FileLock(self.folders.porter_lock).acquire(timeout=PATIENCE_S):
                pass

    def ask(self) -> dict[str, Any]:
        """What the gateway's page says.

        Raises:
            OSError: nothing.
        """
        address = self.folders.address.read_text()
        with urllib.request.urlopen(f"http://{address}/status", timeout=10) as answer:
            return dict(json.load(answer))

    def until(self, condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
        """Wait for something.

        Raises:
            GatewayEnded: it has not come, and the gateway has ended.
            Terminal: it does not come.
        """
        deadline = time.monotonic() + patience_s
        while not condition():
            if self._process is not None and self._process.poll() is not None:
                raise GatewayEnded
            if time.monotonic() > deadline:
                raise Terminal(
                    f"Waited {patience_s:g} s in vain; the gateway's last words: {self.log[-2000:]}",
                    next_step="Look into its log; --keep keeps it.",
                )
            time.sleep(_LOOK_S)

    def _spawn(self, *arguments: str, stderr: Any = None) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "chaos.floor.process", "gateway", "--site", SITE]
        command += ["--orders", str(self.orders_folder), *arguments]
        environment = os.environ | {"HYBRID_HOME": str(self.home.root)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what is started hundreds of times is compiled once
        with (self.home.root / "gateway.log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603
                command, env=environment, stdout=log, stderr=stderr or log, start_new_session=True
            )

    def _end(self) -> None:
        self.kill()
        with contextlib.suppress(filelock.Timeout):
            self.porter_gone()


def _is_ours(pid: int) -> bool:
    """Whether a process is of a rehearsal: numbers are used again."""
    command = ["ps", "-o", "args=", "-p", str(pid)]
    return "chaos.floor.process" in subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603


def _commission(plant: Plant) -> None:
    """Leave a baseline, so that the rules can answer: of readings as machines send them."""
    import numpy as np
    import pyarrow as pa

    from maintenance.baseline import fit_baseline
    from maintenance.equipment_class import equipment_class_from_contract
    from maintenance.readings import history_from_arrow, readings_from_arrow

    random, count = np.random.default_rng(1), 48
    at = np.datetime64("2026-01-01", "us") + np.arange(count) * np.timedelta64(1, "h")
    values = {name: value * random.normal(1, 0.01, count) for name, value in FLOWING.items()}
    ts = pa.array(at).cast(pa.timestamp("us", tz="UTC"))
    rows = pa.table({"equipment_id": ["P-101"] * count, "ts": ts, **values})
    none = pa.table(
        {"equipment_id": pa.array([], pa.string()), "ts": pa.array([], ts.type), "event": pa.array([], pa.string())}
    )
    cls = equipment_class_from_contract(plant.contract("pump"))
    baseline = fit_baseline(cls, readings_from_arrow(cls, rows, history_from_arrow(none)))
    plant.baselines("pump").put(baseline.id, baseline.to_json())
