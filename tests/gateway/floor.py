"""A plant of one fleet with a gateway, as real processes: the broker, the gateway, its porter."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.exchange import folders_of
from gateway.settings import settings_of
from resources.catalog.sites import SHIPPED
from resources.home import Home
from resources.plant import Catalog, Plant

SITE = "works"
_PATIENCE_S = 60.0


@dataclass
class Floor:
    """A home with one plant, and its gateway while it runs."""

    home: Home
    process: subprocess.Popen[bytes] | None = None

    @property
    def plant(self) -> Plant:
        return Plant(Catalog(self.home), SITE)

    @property
    def folder(self) -> Path:
        return folders_of(self.plant, settings_of(self.plant)).root

    def start(self, *arguments: str) -> None:
        """Start the gateway, and return when it serves."""
        (self.folder / "address").unlink(missing_ok=True)
        command = [sys.executable, "-m", "gateway.main", "--site", SITE, *arguments]
        with (self.home.root / "gateway.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        self.until(lambda: (self.folder / "address").exists())

    def kill(self) -> None:
        """`kill -9` of the gateway alone: its porter notices that nobody is there any more."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_PATIENCE_S)

    def ask(self, path: str = "/status") -> Any:
        """What its page says."""
        address = (self.folder / "address").read_text()
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
            body = answer.read()
        return json.loads(body) if path == "/status" else body.decode()

    def reconciled(self) -> dict[str, Any]:
        """`hybrid reconcile --json`."""
        hybrid = Path(sys.executable).with_name("hybrid")
        done = subprocess.run(
            [hybrid, "reconcile", "--site", SITE, "--json"], env=self.environment, capture_output=True, check=False
        )
        return dict(json.loads(done.stdout))

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something; fails with the gateway's log where it does not come, or the gateway has ended."""
        deadline = time.monotonic() + _PATIENCE_S
        while not condition():
            ended = self.process is not None and self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                pytest.fail((self.home.root / "gateway.log").read_text()[-4000:])
            time.sleep(0.05)

    def end(self) -> None:
        """End what runs; fails where a callback of the gateway's event loop raised, which the loop only logs."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        log = self.home.root / "gateway.log"
        told = log.read_text().splitlines() if log.exists() else []
        assert [line for line in told if "Exception in callback" in line] == []

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"HYBRID_HOME": str(self.home.root)}


def floor(folder: Path, sources: str, gateway: str = "") -> Floor:
    """A plant of its own, with these tables of sources, and settings of its gateway."""
    home = Home(folder / "home").prepare()
    shipped = (SHIPPED / "riverside.toml").read_text()
    places = shipped[shipped.index("[[locations]]") : shipped.index("# Up to the day")]
    text = f"""\
[calendar]
first_day = 2026-01-01

[fleets.pump]
source = {{ kind = "gateway" }}

[gateway]
name = "gw-1"
land_every_s = 0.2
{gateway}

[gateway.fleets.pump]
equipment = ["P-*"]

{sources}

{places}
"""
    (home.sites / f"{SITE}.toml").write_text(text)
    return Floor(home)
