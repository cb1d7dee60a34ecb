"""How long `hybrid evaluate cmapss` takes for each subset, against the two minutes that it may.

FD001 and FD003 are the public files. FD002 and FD004 stand for themselves in size only: as many engines as the public
ones have, drawn from FD001 and FD003 and flown under six operating conditions that change at random from cycle to
cycle. Their time says what the true ones take; their accuracy says nothing about the true ones.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.measure import Benchmark

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "cmapss"
LIMIT_S = 120.0
_ROUNDS, _SEED = 3, 7
_SETTINGS, _SENSORS = slice(2, 5), slice(5, 26)
_CONDITIONS = np.array([(0, 0, 100), (10, 0.25, 100), (20, 0.7, 100), (25, 0.62, 60), (35, 0.84, 100), (42, 0.84, 100)])
"""Altitude in 1,000 ft, Mach number, throttle in percent: the six of the data set's documentation."""


@dataclass(frozen=True)
class _Subset:
    name: str
    of: str
    engines: int | None = None
    """In training and in the test, one less; None: as they are."""


SUBSETS = (
    _Subset("FD001", "FD001"),
    _Subset("FD003", "FD003"),
    _Subset("FD002", "FD001", 260),
    _Subset("FD004", "FD003", 249),
)


def _six_conditions(rows: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Each cycle flown under one of six conditions, which moves and stretches what each sensor shows."""
    flown = rows.copy()
    condition = draw.integers(0, len(_CONDITIONS), len(rows))
    flown[:, _SETTINGS] = _CONDITIONS[condition] + draw.normal(0, 0.001, (len(rows), 3))
    spread = rows[:, _SENSORS].std(axis=0)
    shape = (len(_CONDITIONS), spread.size)
    stretched, moved = draw.uniform(0.7, 1.3, shape), draw.uniform(-60, 60, shape) * spread
    middle = rows[:, _SENSORS].mean(axis=0)
    noise = draw.normal(0, 0.1, (len(rows), spread.size)) * spread
    flown[:, _SENSORS] = middle + (rows[:, _SENSORS] - middle) * stretched[condition] + moved[condition] + noise
    return flown


def _drawn(rows: np.ndarray, engines: np.ndarray) -> np.ndarray:
    """These engines, under new numbers."""
    picked = [rows[rows[:, 0] == engine] for engine in engines]
    for number, each in enumerate(picked, start=1):
        each[:, 0] = number
    return np.concatenate(picked)


def _made(subset: _Subset, folder: Path) -> None:
    draw = np.random.default_rng(_SEED)
    train, test = (np.loadtxt(SHARED / f"{part}_{subset.of}.txt") for part in ("train", "test"))
    rul = np.loadtxt(SHARED / f"RUL_{subset.of}.txt")
    if subset.engines is not None:
        # Once each before any a second time, and none both in training and in the test: those are apart already.
        lives, ends = (
            np.resize(draw.permutation(n), e) + 1 for n, e in ((100, subset.engines), (100, subset.engines - 1))
        )
        both = _six_conditions(np.concatenate((train := _drawn(train, lives), _drawn(test, ends))), draw)
        train, test, rul = both[: len(train)], both[len(train) :], rul[ends - 1]
    for part, rows in (("train", train), ("test", test)):
        np.savetxt(folder / f"{part}_{subset.name}.txt", rows, fmt=["%d", "%d", *["%.4f"] * 24])
    np.savetxt(folder / f"RUL_{subset.name}.txt", rul, fmt="%d")


def _evaluated(subset: str, folder: Path) -> tuple[float, float, float]:
    """Seconds on the wall and of processors, and the error."""
    command = [
        Path(sys.executable).with_name("hybrid"),
        "evaluate",
        "cmapss",
        str(folder),
        "--subset",
        subset,
        "--json",
    ]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    told = json.loads(process.stdout.read())
    _, status, used = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{subset} failed"
    return wall_s, used.ru_utime + used.ru_stime, float(told["rmse_capped"])


def _rows() -> Iterator[str]:
    if not SHARED.is_dir():
        yield "| `hybrid evaluate cmapss` | – | – | – | needs the public data sets beside the project |"
        return
    for subset in SUBSETS:
        with tempfile.TemporaryDirectory() as folder:
            _made(subset, Path(folder))
            took = sorted(_evaluated(subset.name, Path(folder)) for _ in range(_ROUNDS))
        wall_s, cpu_s, rmse = took[_ROUNDS // 2]
        size = (
            "" if subset.engines is None else f", in its size: {subset.engines} engines of {subset.of}, six conditions"
        )
        what = f"`hybrid evaluate cmapss --subset {subset.name}`{size}"
        told = f"rmse_capped {rmse:.2f}, {cpu_s:.0f} s of processors"
        yield f"| {what} ({told}) | {wall_s:.0f} s | {LIMIT_S:.0f} s | {wall_s / LIMIT_S:.2f}× | ≤ 1× |"


SPEC = Benchmark("evaluate_time", _rows)
