"""The spool against a bare `write` and `fdatasync` of as many bytes, and the processor time of its writing thread."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.measure import Benchmark, line, paired
from gateway.frames import FRAME_HEAD
from gateway.settings import SpoolSettings
from gateway.spool import Spool

RECORD = 350
APPENDS = {1: 200, 50: 100, 200: 60, 500: 40}
"""Records of an append → appends of a round."""
LIMIT_S = 1.5e-6


def _rows() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder, Spool(Path(folder) / "spool", SpoolSettings(64.0)) as spool:
        bare = os.open(Path(folder) / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for size, appends in APPENDS.items():
            wall, thread = paired(partial(_append, spool, size, appends), partial(_write, bare, size, appends))
            records = size * appends
            rates = f"{records / wall.ours_s:,.0f} and {records / wall.peer_s:,.0f} records/s"
            yield line(
                f"spool, {records:,} records of {RECORD} bytes, {size} at a time / write and fdatasync ({rates})",
                wall.ours_s,
                wall.peer_s,
                "≤ 1.5×",
                ratio=wall.ratio,
            )
            if size == 200:
                each = f"{thread.ours_s / records * 1e6:.2f} and {thread.peer_s / records * 1e6:.2f} µs each"
                limit = records * LIMIT_S
                yield line(
                    f"spool, processor time of these and of write and fdatasync alone ({each}) / 1.5 µs each",
                    thread.ours_s,
                    limit,
                    "≤ 1×",
                )
        os.close(bare)


def _append(spool: Spool, size: int, appends: int) -> None:
    spool.release(spool.end)
    records = [os.urandom(RECORD) for _ in range(size)]
    for _ in range(appends):
        spool.append(records)


def _write(bare: int, size: int, appends: int) -> None:
    os.ftruncate(bare, 0)
    data = os.urandom(size * (RECORD + FRAME_HEAD))
    for _ in range(appends):
        os.write(bare, data)
        os.fdatasync(bare)


SPEC = Benchmark("spool", _rows)
