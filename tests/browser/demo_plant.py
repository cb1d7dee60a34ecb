"""The demonstration plant as a newcomer has it: `hybrid up` in an empty home, watched from outside."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POLL_S = 1.0
END_S = 60.0
_HOST = "127.0.0.1"

_PROGRESS = """{
  assetNodes {
    assetKey { path }
    partitionStats { numPartitions numMaterialized numFailed numMaterializing }
  }
}"""
_AUTOMATIONS = """{
  repositoriesOrError { ... on RepositoryConnection { nodes {
    sensors { name sensorState { status } }
    schedules { name scheduleState { status } }
  } } }
}"""
_MATERIALIZATIONS = """query($key: AssetKeyInput!) {
  assetNodeOrError(assetKey: $key) { ... on AssetNode {
    assetMaterializations(limit: 10000) { runId timestamp partition }
  } }
}"""
_NUMBERS = """query($key: AssetKeyInput!) {
  assetNodeOrError(assetKey: $key) { ... on AssetNode {
    assetMaterializations(limit: 1) { metadataEntries { label ... on IntMetadataEntry { intValue } } }
  } }
}"""
_RUNS = "{ runsOrError { ... on Runs { results { runId jobName status } } } }"


@dataclass(frozen=True)
class Progress:
    """How many partitions an asset has, and how far they are."""

    partitions: int
    materialized: int
    failed: int
    materializing: int

    @property
    def complete(self) -> bool:
        return self.materialized == self.partitions and not self.failed and not self.materializing


@dataclass(frozen=True)
class Materialization:
    """`at` is in seconds since the epoch."""

    run_id: str
    partition: str
    at: float


@dataclass(frozen=True)
class DemoPlant:
    """A `hybrid up` that runs, and what its UI's GraphQL endpoint says of it.

    Attributes:
        started_at: when the command was started, in seconds since the epoch.
    """

    process: subprocess.Popen[bytes]
    home: Path
    port: int
    started_at: float

    @property
    def url(self) -> str:
        return f"http://{_HOST}:{self.port}"

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The answer's `data`; raises `OSError` while the web server does not answer yet."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(  # noqa: S310 - our own server, by http
            f"{self.url}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - the same
            return dict(json.load(answer)["data"])

    def progress(self) -> dict[str, Progress]:
        """By `class/asset`."""
        return {
            "/".join(node["assetKey"]["path"]): Progress(
                *(node["partitionStats"][f"num{n}"] for n in ("Partitions", "Materialized", "Failed", "Materializing"))
            )
            for node in self.ask(_PROGRESS)["assetNodes"]
        }

    def automations(self) -> dict[str, str]:
        """Each sensor's and schedule's status, by name."""
        found: dict[str, str] = {}
        for repository in self.ask(_AUTOMATIONS)["repositoriesOrError"]["nodes"]:
            found |= {s["name"]: s["sensorState"]["status"] for s in repository["sensors"]}
            found |= {s["name"]: s["scheduleState"]["status"] for s in repository["schedules"]}
        return found

    def materializations(self, *key: str) -> list[Materialization]:
        """Of one asset, oldest first."""
        node = self.ask(_MATERIALIZATIONS, key={"path": list(key)})["assetNodeOrError"]
        found = [
            Materialization(m["runId"], m["partition"], float(m["timestamp"]) / 1000)
            for m in node["assetMaterializations"]
        ]
        return sorted(found, key=lambda m: m.at)

    def numbers(self, *key: str) -> dict[str, int]:
        """What the newest materialization of an asset tells in whole numbers."""
        node = self.ask(_NUMBERS, key={"path": list(key)})["assetNodeOrError"]
        entries = [entry for made in node["assetMaterializations"] for entry in made["metadataEntries"]]
        return {entry["label"]: entry["intValue"] for entry in entries if entry.get("intValue") is not None}

    def runs(self) -> list[tuple[str, str]]:
        """(job, status) of every run, newest first."""
        return [(r["jobName"], r["status"]) for r in self.ask(_RUNS)["runsOrError"]["results"]]

    def wait_until(self, condition: Callable[[], Any], what: str, timeout_s: float) -> None:
        """Wait on a condition; one that raises `OSError` does not hold yet. Fails early if the command has ended."""
        deadline = time.monotonic() + timeout_s
        while not _holds(condition):
            assert self.process.poll() is None, f"hybrid up ended while waiting until {what}:\n{self._told()}"
            assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}\n{self._told()}"
            time.sleep(POLL_S)

    def stop(self) -> int:
        """SIGTERM, and the exit code that follows."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(END_S)

    def _told(self) -> str:
        logs = sorted((self.home / "logs").glob("*.log"))
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-1500:]}" for log in logs)


@contextmanager
def hybrid_up(home: Path) -> Iterator[DemoPlant]:
    """Start the command in a process group of its own; leave with everything it started ended."""
    port = _free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DAGSTER", "HYBRID"))}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # a user has bytecode, and starts faster for it
    environment.pop("OMP_NUM_THREADS", None)  # nor does a user's plant share its processors with other tests
    command = [str(Path(sys.executable).with_name("hybrid")), "up", "--port", str(port)]
    started_at = time.time()
    process = subprocess.Popen(
        command,
        env=environment | {"HYBRID_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    plant = DemoPlant(process, home, port, started_at)
    try:
        yield plant
    finally:
        family = family_of(process.pid)
        try:
            if process.poll() is None:
                plant.stop()
        finally:
            for member in filter(alive, family):
                os.kill(member, signal.SIGKILL)


def family_of(pid: int) -> set[int]:
    """A process, its children, their children and so on, from /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The command's name is in brackets and may hold anything; the parent is the second field after it.
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it ended while we looked
        children.setdefault(parent, []).append(int(entry.parent.name))
    found, unseen = set[int](), [pid]
    while unseen:
        found.add(member := unseen.pop())
        unseen += children.get(member, [])
    return found


def at_home(home: Path) -> set[int]:
    """Processes that were given this home, also those whose parent has ended."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"HYBRID_HOME={home}".encode() in entry.read_bytes().split(b"\0"):
                found.add(int(entry.parent.name))
        except OSError:
            continue  # it ended while we looked, or is another user's
    return found


def alive(pid: int) -> bool:
    """Whether a process still runs; one that has ended and was not yet asked for by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _holds(condition: Callable[[], Any]) -> bool:
    try:
        return bool(condition())
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])
