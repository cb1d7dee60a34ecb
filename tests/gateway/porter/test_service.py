"""The porter as the process that it is."""

import json
import os
import queue
import random
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import SpoolSettings
from gateway.spool import Spool
from tests.gateway.porter.floor import Floor, letter, reading
from tests.gateway.porter.released_plant import DAYS, ReleasedPlant

ROOT = Path(__file__).parents[3]


@pytest.fixture
def made(tmp_path: Path) -> ReleasedPlant:
    return ReleasedPlant(tmp_path)


class Process:
    """A porter, as its gateway sees it."""

    def __init__(self, made: ReleasedPlant) -> None:
        home = str(made.plant.catalog.home.root)
        command = [sys.executable, "-m", "gateway.porter", "--site", "north", "--home", home]
        self.popen = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        self.heard: list[dict[str, Any]] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def tell(self, position: int) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps({"land_up_to": position}) + "\n")
        self.popen.stdin.flush()

    def until(self, kind: str, value: object = None) -> dict[str, Any]:
        """The first message of a kind, with that value if one is given."""
        while True:
            line = self._lines.get(timeout=60)
            assert line is not None, self.popen.stderr.read() if self.popen.stderr else ""
            message = json.loads(line)
            self.heard.append(message)
            if kind in message and value in (None, message[kind]):
                return dict(message)

    def end(self) -> int:
        """Tell it that there is no gateway any more; how it ended."""
        assert self.popen.stdin is not None
        self.popen.stdin.close()
        return self.popen.wait(60)


@contextmanager
def porter(made: ReleasedPlant) -> Iterator[Process]:
    process = Process(made)
    try:
        yield process
    finally:
        if process.popen.poll() is None:
            process.popen.kill()
        process.popen.wait(60)


def spool(made: ReleasedPlant, *records: Any) -> int:
    with Spool(made.folders.spool, SpoolSettings()) as opened:
        return opened.append([record.to_bytes() for record in records])


def landed_rows(made: ReleasedPlant) -> int:
    return sum(made.plant.landing("pump").counts("telemetry").values())


def test_it_lands_what_it_is_told_of_and_ends_when_nobody_is_left_to_tell(made: ReleasedPlant) -> None:
    made.release()
    made.serve(DAYS[0])
    first = spool(made, reading(0), letter(1), reading(2))
    with porter(made) as process:
        assert process.until("landed")["landed"] == 0
        process.tell(first - 1)
        assert process.until("landed", 2) == {
            "landed": 2,
            "readings": 1,
            "dead_letters": 1,
            "fleets": {"pump": 1},
            "absent": 0,
        }
        process.tell(first)
        process.until("landed", 3)
        told = {next(iter(message)): message for message in process.heard}
        assert told["release"]["release"] == {"fleet": "pump", "versions": [1], "refused": {}}
        assert told["state"]["state"] == {"fleet": "pump", "window": "2025-12-01"}
        maps = Path(f"/proc/{process.popen.pid}/maps").read_text()
        loaded = {name for name in ("pandas", "sklearn", "dagster", "sqlalchemy") if f"site-packages/{name}/" in maps}
        assert loaded == set(), "it is to fit beside the gateway"
        process.tell(first)  # again
        last = spool(made, reading(3))
        process.tell(last)
        assert process.end() == 0
    assert landed_rows(made) == 3


@pytest.mark.slow
def test_a_second_one_is_refused_while_the_first_works_and_takes_over_when_it_was_killed(made: ReleasedPlant) -> None:
    up_to = spool(made, reading(0), reading(1))
    with porter(made) as first:
        first.tell(up_to)
        first.until("landed", up_to)
        with porter(made) as second:
            refused = second.until("error")
            assert refused["error"].startswith("Another porter")
            assert refused["next_step"]
            assert second.popen.wait(60) == 2
        first.popen.kill()
    with porter(made) as third:
        assert third.until("landed")["landed"] == up_to
    assert landed_rows(made) == 2


@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_missing_and_nothing_twice(made: ReleasedPlant) -> None:
    """A porter lives for a while that is drawn, each a little longer, while readings come in."""
    drawn, count = random.Random(5), 0  # noqa: S311 - moments, not secrets
    for life in range(8):
        more = [reading(n) if n % 5 else letter(n) for n in range(count, count + 400)]
        count = spool(made, *more)
        with porter(made) as process:
            process.until("landed")
            process.tell(count)
            threading.Event().wait(drawn.random() * 0.3 * (life + 1) / 8)
            process.popen.kill()
    with porter(made) as process:
        process.tell(count)
        process.until("landed", count)
        assert process.end() == 0
    floor = Floor(made.plant.root("edge"), fleets={"pump": ("P-*",)})
    found = floor.positions()
    assert found["dead_letters"] == list(range(0, count, 5))
    assert found["pump"] == [n for n in range(count) if n % 5]


def test_what_copies_releases_ends_with_a_porter_that_was_killed(made: ReleasedPlant) -> None:
    signature = made.release().parent / "bundle.sig"
    signature.unlink()
    os.mkfifo(signature)  # whoever verifies waits for what is never written
    with porter(made) as process:
        process.until("landed")
        handle = os.open(signature, os.O_WRONLY)  # as soon as somebody reads
        try:
            process.popen.kill()
            process.popen.wait(60)
            nobody_reads = select.poll()
            nobody_reads.register(handle, 0)
            assert nobody_reads.poll(20_000) == [(handle, select.POLLERR)]
        finally:
            os.close(handle)


@pytest.mark.slow
def test_a_site_without_a_gateway_is_told_and_ends_it(made: ReleasedPlant) -> None:
    file = made.plant.catalog.home.sites / "north.toml"
    text = file.read_text()
    file.write_text(text[: text.index("[gateway]")] + text[text.index("[[locations]]") :])
    with porter(made) as process:
        assert "no gateway" in process.until("error")["error"]
        assert process.popen.wait(60) == 2
