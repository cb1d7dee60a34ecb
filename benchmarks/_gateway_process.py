"""A gateway's process seen from a benchmark: its page, and what it takes of processor and memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.exchange import folders_of
from gateway.settings import settings_of

if TYPE_CHECKING:
    from resources.plant import Plant

PATIENCE_S = 120.0


@contextmanager
def gateway_at(plant: Plant, *arguments: str) -> Iterator[tuple[int, Path]]:
    """A plant's gateway, from when its page answers to its orderly end: its process's id, and the file with the page's
    address."""
    folders = folders_of(plant, settings_of(plant))
    folders.address.unlink(missing_ok=True)
    root = plant.catalog.home.root
    command = [sys.executable, "-m", "gateway.main", "--site", plant.site.name, *arguments]
    # An installation has its bytecode; without it a start takes twice as long.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with (root / "gateway.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment | {"HYBRID_HOME": str(root)}, stdout=log, stderr=log)
    try:
        until(folders.address.exists)
        yield process.pid, folders.address
    finally:
        process.terminate()
        process.wait(30)


def until(condition: Callable[[], bool], every_s: float = 0.2) -> None:
    """Wait for something, for two minutes at most."""
    late = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > late:
            raise TimeoutError("The gateway did not do what was waited for.")
        time.sleep(every_s)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int, what: str = "VmRSS") -> float:
    """`VmHWM`: the most so far; `RssAnon`: its own, without the pages of files, which others may share."""
    found = re.search(rf"{what}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def forget_most(pid: int) -> None:
    """`VmHWM` is from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def kept_s(address: str) -> tuple[float, float]:
    """Sum and count of the waits for the disk so far."""
    return _sum_and_count(address, "kept_seconds")


def answered_s(address: str) -> tuple[float, float]:
    """Sum and count of the times from a reading's arrival to its advisory so far."""
    return _sum_and_count(address, "answer_seconds")


def _sum_and_count(address: str, name: str) -> tuple[float, float]:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    total, count = (re.search(rf"^hybrid_gateway_{name}_{part} (\S+)", text, re.MULTILINE) for part in ("sum", "count"))
    assert total is not None
    assert count is not None
    return float(total[1]), float(count[1])


def status(address: Path) -> Mapping[str, Any]:
    with urllib.request.urlopen(f"http://{address.read_text()}/status", timeout=PATIENCE_S) as answer:
        return dict(json.load(answer))
