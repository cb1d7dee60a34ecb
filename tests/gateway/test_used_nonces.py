"""Nonces that were used are known after a crash or a power cut, for as long as their timestamps would do."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway import reasons
from gateway.disk_faults import FaultyDisk, PowerCut
from gateway.signed_requests import WINDOW_S, Nonce
from gateway.used_nonces import UsedNonces
from tests.gateway.hasty_disk import HastyDisk


class Clock:
    now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


def nonce(number: int, clock: Clock) -> Nonce:
    return Nonce("line-1", f"{number:016}", int(clock()) + WINDOW_S)


@contextlib.asynccontextmanager
async def opened(folder: Path, clock: Clock, disk: object = None) -> AsyncIterator[tuple[UsedNonces, list[Nonce]]]:
    """Nonces at work, and those that were found."""
    used = UsedNonces(folder, clock, disk or HastyDisk())  # type: ignore[arg-type]
    found = used.found()
    used.open()
    try:
        yield used, found
    finally:
        await used.close()


@pytest.fixture
def disk(request: pytest.FixtureRequest) -> Iterator[FaultyDisk]:
    made = FaultyDisk(getattr(request, "param", 0), HastyDisk())
    yield made
    made.dispose()


def test_what_was_kept_is_found_and_a_torn_line_is_none(tmp_path: Path) -> None:
    clock = Clock()

    async def scenario() -> None:
        async with opened(tmp_path, clock) as (used, found):
            assert found == []
            assert await asyncio.gather(*(used.keep(nonce(n, clock)) for n in range(20))) == [None] * 20
        (path,) = tmp_path.iterdir()
        with path.open("ab") as torn:
            torn.write(nonce(20, clock).to_line()[:-1])
        async with opened(tmp_path, clock) as (used, found):
            assert found == [nonce(n, clock) for n in range(20)]
            assert await used.keep(nonce(21, clock)) is None
        async with opened(tmp_path, clock) as (_, found):
            assert nonce(21, clock) in found

    asyncio.run(scenario())


def test_they_are_forgotten_and_their_files_go_when_no_timestamp_would_do(tmp_path: Path) -> None:
    clock = Clock()

    async def scenario() -> None:
        async with opened(tmp_path, clock) as (used, _):
            for n in range(10):
                assert await used.keep(nonce(n, clock)) is None
                clock.now_s += WINDOW_S
            assert len(list(tmp_path.iterdir())) <= 3
        async with opened(tmp_path, clock) as (_, found):
            assert found == [Nonce("line-1", f"{9:016}", int(clock()))]

    asyncio.run(scenario())


@pytest.mark.parametrize(("disk", "after"), [(seed, 3 + 2 * seed) for seed in range(20)], indirect=["disk"])
def test_a_power_cut_takes_none_that_was_confirmed(tmp_path: Path, disk: FaultyDisk, after: int) -> None:
    clock = Clock()
    disk.cut_after(after)

    async def scenario() -> None:
        kept: list[Nonce] = []
        with contextlib.suppress(PowerCut):
            async with opened(tmp_path / "nonces", clock, disk) as (used, _):
                while await used.keep(mine := nonce(len(kept), clock)) is None:
                    kept.append(mine)
                    clock.now_s += WINDOW_S / 10
        disk.power_on()
        async with opened(tmp_path / "nonces", clock, disk) as (_, found):
            assert {each for each in kept if each.until_s >= clock()} <= set(found)

    asyncio.run(scenario())


@pytest.mark.parametrize(("error", "reason"), [(errno.ENOSPC, reasons.SPOOL_FULL), (errno.EIO, reasons.SPOOL_FAILED)])
@pytest.mark.parametrize("operation", ["create", "write", "sync"])
def test_a_disk_that_fails_is_told_and_the_next_is_kept_in_another_file(
    tmp_path: Path, disk: FaultyDisk, operation: str, error: int, reason: str
) -> None:
    clock = Clock()

    async def scenario() -> None:
        async with opened(tmp_path / "nonces", clock, disk) as (used, _):
            disk.fail(operation, error)  # type: ignore[arg-type]
            assert await used.keep(nonce(1, clock)) == reason
            assert await used.keep(nonce(2, clock)) is None
        async with opened(tmp_path / "nonces", clock, disk) as (_, found):
            assert nonce(2, clock) in found

    asyncio.run(scenario())
