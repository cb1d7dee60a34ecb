"""Features of 20 sensors, every statistic and window there is by default: ours, pandas and Polars.

Each measurement is a process of its own, so that its peak memory is its own; who comes first alternates. The peers are
handed z-scores and ages and no sensor of theirs is ever silent, which lets them share counts and sums of ages between
sensors; ours finds regimes and z-scores itself, and counts every sensor for itself. All three are checked against each
other before anything is measured.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from backbone.odcs import contract_from_odcs
from benchmarks.measure import Benchmark, line
from maintenance.baseline import OperatingBaseline
from maintenance.equipment_class import EquipmentClass, equipment_class_from_contract

if TYPE_CHECKING:
    from maintenance.readings import Readings

SENSORS, LIFE, REGIMES = 20, 500, 3
ROUNDS: Mapping[int, int] = {100_000: 3, 300_000: 3, 1_000_000: 1}
SINGLE = 50_000
PLANT = 1_000
ROOT = Path(__file__).parents[1]


def equipment_class() -> EquipmentClass:
    """20 sensors and a setting, with the feature settings that a class has where it names none."""

    def column(name: str, role: str) -> dict[str, Any]:
        custom = [{"property": "unit", "value": "1"}, {"property": "role", "value": role}]
        return {"name": name, "logicalType": "number", "customProperties": custom}

    keys = [
        {"name": "equipment_id", "logicalType": "string", "primaryKey": True},
        {"name": "ts", "logicalType": "timestamp", "primaryKey": True},
    ]
    columns = [*(column(f"s{j}", "input") for j in range(SENSORS)), column("speed", "setting")]
    rul = {"property": "remainingUsefulLife", "value": {"unit": "hour", "seconds": 3600, "cap": 100}}
    schema = [{"name": "telemetry", "properties": keys + columns}]
    return equipment_class_from_contract(
        contract_from_odcs({"id": "machine", "version": "1.0.0", "schema": schema, "customProperties": [rul]})
    )


def readings_of(cls: EquipmentClass, rows: int) -> tuple[OperatingBaseline, Readings]:
    """Machines of 500 hourly readings each, in three regimes."""
    from maintenance.readings import Readings, Rows

    random = np.random.default_rng(3)
    number = np.arange(rows)
    regime = random.integers(0, REGIMES, rows)
    level = random.normal(0, 50, (REGIMES, SENSORS))
    values = np.empty((rows, SENSORS + 1))
    random.standard_normal(out=(z := np.empty((rows, SENSORS))))
    values[:, :SENSORS] = 2.0 * z + level[regime]
    values[:, SENSORS] = 1000.0 * regime
    machines = np.array([f"m{n:06d}" for n in range(-(-rows // LIFE))], dtype=object)
    ts = np.datetime64("2025-01-01", "us") + (number % LIFE) * np.timedelta64(3_600_000_000, "us")
    where = Rows(machines, number // LIFE, ts, np.zeros(rows, dtype=np.int64))
    return _baseline(cls, level), Readings(where, (*cls.contract.inputs, "speed"), values)


def _baseline(cls: EquipmentClass, level: np.ndarray) -> OperatingBaseline:
    return OperatingBaseline(
        ("speed",),
        cls.contract.inputs,
        1000.0 * np.arange(REGIMES)[:, None],
        np.array([2000.0]),
        np.full(REGIMES, 1 / REGIMES),
        level,
        np.full(level.shape, 2.0),
    )


def _ours(rows: int) -> Callable[[], np.ndarray]:
    from maintenance.condition_features import compute_features

    cls = equipment_class()
    baseline, readings = readings_of(cls, rows)
    return lambda: compute_features(cls, baseline, readings)[0].matrix


def _z(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    baseline, readings = readings_of(equipment_class(), rows)
    return readings.rows.machine, np.arange(rows) % LIFE * 1.0, baseline.transform(readings)


def _pandas(rows: int) -> Callable[[], Any]:
    import pandas as pd

    how = equipment_class().features
    machine, age, z = _z(rows)

    def slope(n: Any, sums: tuple[Any, Any, Any, Any]) -> Any:
        x, xx, sum_z, sum_xz = sums
        spread = xx - x * x / n
        return (sum_xz - sum_z * (x / n)) / np.where(n > 2, spread, np.nan)

    def work() -> list[Any]:
        frame = pd.DataFrame(z, copy=False)
        x = pd.Series(age)
        xz, xs = frame.mul(x, axis=0), pd.DataFrame({"x": x, "xx": x * x})
        count = frame.groupby(machine).cumcount().to_numpy()[:, None] + 1

        def rolled(of: Any, n: int) -> Any:
            return of.groupby(machine).rolling(n, min_periods=1)

        made = [z, *(means := [rolled(frame, n).mean().to_numpy() for n in how.means])]
        made += [rolled(frame, n).std().to_numpy() for n in how.deviations]
        for n in how.slopes:
            both, sum_z, sum_xz = (rolled(of, n).sum().to_numpy() for of in (xs, frame, xz))
            made.append(slope(np.minimum(count, n), (both[:, [0]], both[:, [1]], sum_z, sum_xz)))
        made += [frame.groupby(machine).ewm(alpha=w).mean().to_numpy() for w in how.averages]
        early = pd.DataFrame(np.where(count <= how.level_readings, z, 0.0))
        first = early.groupby(machine).cumsum().to_numpy()
        start = first / np.minimum(count, how.level_readings)
        both, sum_z, sum_xz = (of.groupby(machine).cumsum().to_numpy() for of in (xs, frame, xz))
        made += [start, means[0] - start, slope(count, (both[:, [0]], both[:, [1]], sum_z, sum_xz))]
        return [*made, age[:, None]]

    return work


def _polars(rows: int) -> Callable[[], Any]:
    import polars as pl

    how = equipment_class().features
    machine, age, z = _z(rows)
    names = [f"s{j}" for j in range(SENSORS)]
    table = pl.DataFrame({"machine": machine, "x": age, **{s: z[:, j] for j, s in enumerate(names)}})
    x, k = pl.col("x"), pl.col("k")

    def over(expression: Any) -> Any:
        return expression.over("machine")

    def slope(n: Any, sum_x: Any, sum_xx: Any, sum_z: Any, sum_xz: Any) -> Any:
        return pl.when(n > 2).then((sum_xz - sum_z * sum_x / n) / (sum_xx - sum_x * sum_x / n))

    def work() -> Any:
        shared = [over(x.cum_sum()).alias("x_all"), over((x * x).cum_sum()).alias("xx_all")]
        for n in how.slopes:
            shared.append(over(x.rolling_sum(n, min_samples=1)).alias(f"x_{n}"))
            shared.append(over((x * x).rolling_sum(n, min_samples=1)).alias(f"xx_{n}"))
        made: list[Any] = []

        def add(kind: str, of: Callable[[Any], Any]) -> None:
            made.extend(of(pl.col(s)).alias(f"{s}.{kind}") for s in names)

        add("last", lambda s: s)
        for n in how.means:
            add(f"mean_{n}", lambda s, n=n: over(s.rolling_mean(n, min_samples=1)))
        for n in how.deviations:
            add(f"std_{n}", lambda s, n=n: over(s.rolling_std(n, min_samples=2)))
        for n in how.slopes:
            add(
                f"slope_{n}",
                lambda s, n=n: slope(
                    pl.min_horizontal(k, pl.lit(n)),
                    pl.col(f"x_{n}"),
                    pl.col(f"xx_{n}"),
                    over(s.rolling_sum(n, min_samples=1)),
                    over((x * s).rolling_sum(n, min_samples=1)),
                ),
            )
        for w in how.averages:
            add(f"ema_{w}", lambda s, w=w: over(s.ewm_mean(alpha=w)))
        early = k <= how.level_readings

        def start(s: Any) -> Any:
            return over(pl.when(early).then(s).otherwise(0.0).cum_sum()) / pl.min_horizontal(
                k, pl.lit(how.level_readings)
            )

        add("start", start)
        add("drift", lambda s: over(s.rolling_mean(how.means[0], min_samples=1)) - start(s))
        add("trend", lambda s: slope(k, pl.col("x_all"), pl.col("xx_all"), over(s.cum_sum()), over((x * s).cum_sum())))
        counted = table.lazy().with_columns(k=over(pl.int_range(1, pl.len() + 1)))
        return counted.with_columns(*shared).select(*made, x.alias("age")).collect()

    return work


def _single(readings: int) -> dict[str, float]:
    """Microseconds of one reading through the incremental executor, z-scoring included; thousands of machines."""
    from maintenance.incremental_features import IncrementalFeatures

    cls = equipment_class()
    baseline, all_readings = readings_of(cls, readings)
    live = IncrementalFeatures(cls, baseline)
    # Machine by machine would find every state in the processor's cache; a plant's readings come from all in turn.
    turn = np.argsort(all_readings.rows.ts, kind="stable")
    names = all_readings.rows.machines
    slots = np.array([live.slot(n) for n in names])[all_readings.rows.machine]
    ts, out = all_readings.rows.ts.view(np.int64), np.empty((1, live.width))
    spent = np.empty(readings)
    for place, row in enumerate(turn):
        one = slice(row, row + 1)
        began = time.thread_time_ns()
        live.take(slots[one], ts[one], all_readings.rows.life[one], all_readings.values[one], out)
        spent[place] = time.thread_time_ns() - began
    return {
        "cpu_s": float(np.median(spent)) / 1e9,
        "p99_s": float(np.quantile(spent, 0.99)) / 1e9,
        "machines": len(names),
        "kilobytes": live.bytes_per_machine / 1e3,
    }


def _plant(machines: int, checkpoint: Path) -> dict[str, float]:
    """A process that has the features of so many machines live, every window of theirs full; leaves a checkpoint."""
    from gateway.exchange import FleetState, MaintenanceEvents, write_state
    from maintenance.incremental_features import IncrementalFeatures

    cls = equipment_class()
    baseline, values = _baseline(cls, np.zeros((REGIMES, SENSORS))), np.empty((machines, SENSORS + 1))
    random, before = np.random.default_rng(3), _held()
    live = IncrementalFeatures(cls, baseline)
    slots = np.array([live.slot(f"m{n:06d}") for n in range(machines)])
    life, out = np.zeros(machines, dtype=np.int64), np.empty((machines, live.width))
    spent = []
    for hour in range(2 * cls.features.span):
        random.standard_normal(out=values)
        ts, began = np.full(machines, hour * 3_600_000_000), time.thread_time()
        live.take(slots, ts, life, values, out)
        spent.append((time.thread_time() - began) / machines)
    assert np.isfinite(out).all()
    full, whole = spent[cls.features.span :], _held()
    state = live.checkpoint()
    kept = {field.name: getattr(state, field.name) for field in fields(state)}
    events = MaintenanceEvents(np.array([], dtype=object), np.array([], dtype="datetime64[us]"))
    write_state(checkpoint, FleetState(cls.name, baseline.to_json(), "2025-01-01", kept, events))
    return {"bytes": whole - before, "whole": whole, "cpu_s": statistics.median(full)}


def _start(checkpoint: Path) -> dict[str, float]:
    """A process that goes on from their checkpoint: what it takes to answer its first reading."""
    from gateway.exchange import read_state
    from maintenance.feature_state import FeatureState
    from maintenance.incremental_features import IncrementalFeatures

    cls = equipment_class()
    fleet = read_state(checkpoint)
    assert fleet is not None
    assert fleet.checkpoint is not None
    state = FeatureState(**fleet.checkpoint)
    live = IncrementalFeatures(cls, OperatingBaseline.from_json(fleet.baseline), state)
    later = state.latest[:1].view(np.int64) + 1
    answer = live.take(np.zeros(1, dtype=np.int64), later, state.life[:1], np.zeros((1, SENSORS + 1)))
    assert np.isfinite(answer).all()
    return {"answered": time.time(), "cpu_s": time.process_time(), "bytes": _peak()}


def _load() -> dict[str, float]:
    """What it takes until the compiled code is there."""
    import maintenance.condition_features

    before, began = _held(), time.process_time()
    import maintenance.compiled_kernels  # noqa: F401

    spent = time.process_time() - began
    return {"cpu_s": spent, "bytes": _held() - before, "linked": float("numba" not in sys.modules)}


WORK: Mapping[str, Callable[[int], Callable[[], Any]]] = {"ours": _ours, "pandas": _pandas, "polars": _polars}


def _child(who: str, rows: int) -> dict[str, float]:
    if who == "single":
        return _single(rows)
    if who in ("plant", "start"):
        return _plant(rows, Path(sys.argv[3])) if who == "plant" else _start(Path(sys.argv[3]))
    if who == "load":
        return _load()
    WORK[who](2 * LIFE)()  # what is imported or loaded at the first call
    work = WORK[who](rows)
    before, began = _held(), time.process_time()
    kept = work()
    spent = time.process_time() - began
    del kept
    return {"cpu_s": spent, "bytes": _peak(), "before": before}


def _held() -> int:
    """Bytes of memory that the process holds now."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()


def _peak() -> int:
    """Bytes of memory that the process has held at most. (`ru_maxrss` starts with what its parent held.)"""
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024


def _measured(who: str, rows: int = 0, *more: str) -> dict[str, float]:
    asked = [sys.executable, "-m", "benchmarks.features", who, str(rows), *more]
    told = subprocess.run(asked, cwd=ROOT, check=True, capture_output=True, text=True)
    return json.loads(told.stdout)


def _agree() -> None:
    """The three give the same features, before it is told how fast."""
    rows = 4 * LIFE
    ours = _ours(rows)()
    for name, theirs in (
        ("pandas", np.concatenate(_pandas(rows)(), axis=1)),
        ("polars", _polars(rows)().cast(float).to_numpy()),
    ):
        np.testing.assert_allclose(theirs, ours, rtol=1e-6, atol=1e-6, err_msg=name)


def _rows() -> Iterator[str]:
    _agree()
    _measured("load")  # compiles where nothing is compiled yet
    kept: dict[int, dict[str, dict[str, float]]] = {}
    for rows, rounds in ROUNDS.items():
        told: dict[str, list[dict[str, float]]] = {who: [] for who in WORK}
        for number in range(rounds):
            for who in list(WORK) if number % 2 else reversed(WORK):
                told[who].append(_measured(who, rows))
        kept[rows] = {
            who: {k: statistics.median(t[k] for t in runs) for k in ("cpu_s", "bytes", "before")}
            for who, runs in told.items()
        }
        of = kept[rows]
        what = f"features, {rows:,} × {SENSORS} sensors"
        for peer, limit in (("pandas", 7), ("polars", 3)):
            ours_s, peer_s = of["ours"]["cpu_s"], of[peer]["cpu_s"]
            yield line(f"{what} / {peer}, CPU ({peer_s / ours_s:.1f} times as fast)", ours_s, peer_s, f"≤ 1/{limit}×")
        better = min(("pandas", "polars"), key=lambda who: of[who]["bytes"])
        yield _memory(f"{what} / {better}, peak memory of the process", of["ours"]["bytes"], of[better]["bytes"])
        above = {who: of[who]["bytes"] - of[who]["before"] for who in WORK}
        better = min(("pandas", "polars"), key=above.__getitem__)
        yield _memory(f"{what} / {better}, the same above what it held before", above["ours"], above[better])
    (small, first), *larger = kept.items()
    for rows, of in larger:
        ours, peer = of["ours"]["cpu_s"] / rows, first["ours"]["cpu_s"] / small
        yield line(f"a million rows at {rows:,} / at {small:,}, CPU", ours * 1e6, peer * 1e6, "linear")
        a_row = {n: (kept[n]["ours"]["bytes"] - kept[n]["ours"]["before"]) / n for n in (rows, small)}
        yield _memory(f"a million rows at {rows:,} / at {small:,}, memory", a_row[rows] * 1e6, a_row[small] * 1e6)
    single = [_measured("single", SINGLE) for _ in range(3)]
    one = {k: statistics.median(s[k] for s in single) for k in single[0]}
    what = f"one reading of one of {one['machines']:.0f} machines, {SENSORS} sensors, CPU"
    yield f"| {what} / 20 µs | {one['cpu_s'] * 1e6:.1f} µs | 20 µs | {one['cpu_s'] / 20e-6:.2f}× | ≤ 1× |"
    yield f"| the same, 99th percentile | {one['p99_s'] * 1e6:.1f} µs | 20 µs | {one['p99_s'] / 20e-6:.2f}× | told |"
    yield f"| state of one machine | {one['kilobytes']:.0f} kB | | | told |"
    with TemporaryDirectory() as scratch:
        checkpoint = str(Path(scratch) / "checkpoint.npz")
        plant, starts = _measured("plant", PLANT, checkpoint), []
        for _ in range(5):
            began = time.time()
            starts.append(one := _measured("start", 0, checkpoint))
            one["wall_s"] = one["answered"] - began
    start = {k: statistics.median(one[k] for one in starts) for k in starts[0]}
    what = f"features of {PLANT:,} machines × {SENSORS} sensors, every window full"
    yield f"| {what}: memory | {plant['bytes'] / 1e6:.0f} MB | | | told |"
    yield f"| the process with them | {plant['whole'] / 1e6:.0f} MB | | | told |"
    what = "one reading of theirs, taken in with one of each other machine, CPU"
    yield f"| {what} | {plant['cpu_s'] * 1e6:.1f} µs | | | told |"
    what = "a process that goes on from their checkpoint, from its start to its first answer"
    yield f"| {what}, wall time / 1 s | {start['wall_s']:.2f} s | 1 s | {start['wall_s']:.2f}× | ≤ 1× |"
    yield f"| the same, CPU | {start['cpu_s']:.2f} s | | | told |"
    yield f"| the same, peak memory | {start['bytes'] / 1e6:.0f} MB | | | told |"
    loads = [_measured("load") for _ in range(5)]
    load = {k: statistics.median(one[k] for one in loads) for k in loads[0]}
    how = "from a library" if load["linked"] else "through Numba"
    what = f"loading the compiled features, {how}, once a process"
    yield f"| {what}, CPU | {load['cpu_s'] * 1e3:.0f} ms | | | told |"
    yield f"| the same, memory | {load['bytes'] / 1e6:.1f} MB | | | told |"


def _memory(what: str, ours: float, peer: float) -> str:
    limit = "linear" if "/ at" in what else "≤ 1×"
    return f"| {what} | {ours / 1e6:,.0f} MB | {peer / 1e6:,.0f} MB | {ours / peer:.2f}× | {limit} |"


SPEC = Benchmark("features", _rows)

if __name__ == "__main__":
    print(json.dumps(_child(sys.argv[1], int(sys.argv[2]))))
