"""One reading taken into one life: the arithmetic of every feature, compiled.

Batch and incremental executors run this same code, so they agree to the last bit.

**Moments.** What is kept of a set of values z at ages x is their count, means and co-moments about the means,
updated value by value (Welford, Technometrics 1962) and merged set with set (Chan, Golub & LeVeque, The
American Statistician 1983). Nothing is ever subtracted out of a sum, so no digits are lost however long a life
gets, and a sensor that is stuck has a spread of exactly zero.

**Trailing windows.** A window of N = B·m readings is parted into blocks of B, counted from the life's first reading.
At any reading it is: the newest, growing block; m - 1 whole blocks; and the rest of the oldest block. When a block is
whole, the moments of the whole ones are merged, and the oldest block's readings are added to these one by one, newest
first, keeping each step. Every reading then costs one update and one merge, whatever N; memory grows with B + m.

**Layout.** The live state of a life is one float64 vector: rows of `LANES` sensors, so that one instruction does
several sensors and the compiler can see that rows do not overlap; then the ages of the newest readings.
"""

from __future__ import annotations

from math import nan, sqrt

import numpy as np
from numba import float64, int64, njit, uint64, void  # noqa: TID253 - whoever imports this computes features

# All that addresses a state is unsigned: a signed index may be negative, and asking whether it is keeps the compiler
# from doing several sensors at once. NumPy's unsigned and Python's signed numbers do not mix, so these are NumPy's.
U = np.uint64
ONE, TWO, THREE = U(1), U(2), U(3)
LANES, ABREAST = U(32), U(4)

# Numbers of a plan, by place.
INPUTS, SETTINGS, REGIMES, TILES, ROWS, SPAN, SPANS, AVERAGES, LEVEL, KINDS, LIFE, RING, DRIFT_OF = (
    U(n) for n in range(13)
)
FIXED = U(13)
# Of each span, one after the other.
B, M, SPREAD, MEANS, DEVIATES, SLOPES, NEWEST, BLOCKS, OLDEST, MEAN_KIND, DEVIATION_KIND, SLOPE_KIND = (
    U(n) for n in range(12)
)
PER_SPAN = U(12)
# Rows of a tile: z, then room to work.
Z, WORK, FIRST_ROW = U(0), U(1), U(4)
# Rows of moments. Since the life began, the start level and the exponential averages follow.
N, MEAN_Z, MEAN_X, SPREAD_Z, SPREAD_X, COMOMENT = (U(n) for n in range(6))
MOMENTS = U(6)
START_SUM, START_N, EMA = U(6), U(7), U(8)
# Of a life's numbers.
READINGS, STARTED, LATEST, LIFE_NUMBER = range(4)

_FADED = 1e-150
_Z_LIMIT = 100.0

_INNER = {"error_model": "numpy"}
_ENTRY = {"error_model": "numpy", "nogil": True, "cache": True}
# Given beforehand, so that there is one compilation and importing this module makes it, or loads it.
_V, _M, _C = float64[::1], float64[:, ::1], float64[:, :, ::1]
_I, _T = int64[::1], int64[:, ::1]
_PLAN = (uint64[::1], _V, float64, _M, _V, _M, _M)


@njit(inline="always", **_INNER)
def _put(a, at, out, to, sensors):
    for j in range(sensors):
        out[to + j] = a[at + j]


@njit(inline="always", **_INNER)
def _add(a, old, new, z_at, x, lanes):
    """The moments at `old` and one reading, at `new`. `old` is `new`, or lies elsewhere whole."""
    for j in range(lanes):
        z, n, mean_z = a[z_at + j], a[old + j], a[old + MEAN_Z * LANES + j]
        mean_x = a[old + MEAN_X * LANES + j]
        there = z == z
        w = 1.0 if there else 0.0
        n += w
        share = w / max(n, 1.0)
        ahead_z = z - mean_z if there else 0.0
        ahead_x = x - mean_x if there else 0.0
        mean_z += share * ahead_z
        mean_x += share * ahead_x
        behind_z = z - mean_z if there else 0.0
        a[new + j] = n
        a[new + MEAN_Z * LANES + j] = mean_z
        a[new + MEAN_X * LANES + j] = mean_x
        a[new + SPREAD_Z * LANES + j] = a[old + SPREAD_Z * LANES + j] + ahead_z * behind_z
        a[new + SPREAD_X * LANES + j] = a[old + SPREAD_X * LANES + j] + ahead_x * (x - mean_x)
        a[new + COMOMENT * LANES + j] = a[old + COMOMENT * LANES + j] + ahead_x * behind_z


@njit(inline="always", **_INNER)
def _add_to_mean(a, old, new, z_at, lanes):
    """As `_add`, count and mean only."""
    for j in range(lanes):
        z, n, mean_z = a[z_at + j], a[old + j], a[old + MEAN_Z * LANES + j]
        there = z == z
        w = 1.0 if there else 0.0
        n += w
        share = w / max(n, 1.0)
        ahead_z = z - mean_z if there else 0.0
        a[new + j] = n
        a[new + MEAN_Z * LANES + j] = mean_z + share * ahead_z


@njit(**_INNER)
def _merge(a, to, other, spread, lanes):
    """Merge the moments at `other` into those at `to`; without `spread`, count and mean only."""
    for j in range(lanes):
        n, m = a[to + j], a[other + j]
        both = n + m
        share = m / max(both, 1.0)
        weight = n * share
        ahead_z = a[other + MEAN_Z * LANES + j] - a[to + MEAN_Z * LANES + j]
        a[to + j] = both
        a[to + MEAN_Z * LANES + j] += share * ahead_z
        if spread:
            ahead_x = a[other + MEAN_X * LANES + j] - a[to + MEAN_X * LANES + j]
            a[to + MEAN_X * LANES + j] += share * ahead_x
            a[to + SPREAD_Z * LANES + j] += a[other + SPREAD_Z * LANES + j] + ahead_z * ahead_z * weight
            a[to + SPREAD_X * LANES + j] += a[other + SPREAD_X * LANES + j] + ahead_x * ahead_x * weight
            a[to + COMOMENT * LANES + j] += a[other + COMOMENT * LANES + j] + ahead_x * ahead_z * weight


@njit(**_INNER)
def _close_block(plan, span, a, base, ages, k, lanes):
    """The newest block is whole: work out what windows that end in the next block hold besides it."""
    size, blocks, spread = plan[span + B], plan[span + M], plan[span + SPREAD]
    width = (MOMENTS if spread else TWO) * LANES
    newest, whole, oldest = base + plan[span + NEWEST], base + plan[span + BLOCKS], base + plan[span + OLDEST]
    number = k // size
    kept = whole + ((number - ONE) % blocks) * width
    rest = oldest + (size - ONE) * width  # nothing is left of the oldest block: the whole ones alone
    for i in range(width):
        a[kept + i] = a[newest + i]
        a[newest + i] = 0.0
        a[rest + i] = 0.0
    for block in range(number + ONE - min(number + ONE, blocks), number):
        _merge(a, rest, whole + (block % blocks) * width, spread, lanes)
    ring, capacity = base + plan[RING], plan[SPAN]
    for i in range(size - ONE):
        place = size - ONE - i
        new = oldest + (place - ONE) * width
        old = new + width
        if k + place < size * blocks:  # the life began after it
            for j in range(width):
                a[new + j] = a[old + j]
            continue
        at = (k + place - size * blocks) % capacity
        if spread:
            _add(a, old, new, ring + at * LANES, a[ages + at], lanes)
        else:
            _add_to_mean(a, old, new, ring + at * LANES, lanes)


@njit(inline="always", **_INNER)
def _add_to_block(plan, span, a, base, ages, k, z_at, x, lanes):
    if k > U(0) and k % plan[span + B] == U(0):
        _close_block(plan, span, a, base, ages, k, lanes)
    newest = base + plan[span + NEWEST]
    if plan[span + SPREAD]:
        _add(a, newest, newest, z_at, x, lanes)
    else:
        _add_to_mean(a, newest, newest, z_at, lanes)


@njit(inline="always", **_INNER)
def _rolling(plan, span, a, base, k, sensors, lanes, out, first):
    """Statistics of one trailing window, from the newest block and what is left of the older ones."""
    spread = plan[span + SPREAD]
    p = base + plan[span + NEWEST]
    s = base + plan[span + OLDEST] + (k % plan[span + B]) * (MOMENTS if spread else TWO) * LANES
    work, inputs = base + WORK * LANES, plan[INPUTS]
    if not spread:
        for j in range(lanes):
            n, m = a[p + j], a[s + j]
            both, mean = n + m, a[p + MEAN_Z * LANES + j]
            mean += m / max(both, 1.0) * (a[s + MEAN_Z * LANES + j] - mean)
            a[work + j] = mean if both > 0 else nan
        _put(a, work, out, plan[span + MEAN_KIND] * inputs + first, sensors)
    else:
        for j in range(lanes):
            n, m = a[p + j], a[s + j]
            both, mean = n + m, a[p + MEAN_Z * LANES + j]
            share = m / max(both, 1.0)
            weight = n * share
            ahead_z = a[s + MEAN_Z * LANES + j] - mean
            ahead_x = a[s + MEAN_X * LANES + j] - a[p + MEAN_X * LANES + j]
            mean += share * ahead_z
            spread_z = a[p + SPREAD_Z * LANES + j] + (a[s + SPREAD_Z * LANES + j] + ahead_z * ahead_z * weight)
            spread_x = a[p + SPREAD_X * LANES + j] + (a[s + SPREAD_X * LANES + j] + ahead_x * ahead_x * weight)
            comoment = a[p + COMOMENT * LANES + j] + (a[s + COMOMENT * LANES + j] + ahead_x * ahead_z * weight)
            a[work + j] = mean if both > 0 else nan
            a[work + LANES + j] = sqrt(spread_z / (both - 1.0 if both > 1 else nan))
            a[work + TWO * LANES + j] = comoment / (spread_x if (both > 2) & (spread_x > 0) else nan)
        if plan[span + MEANS]:
            _put(a, work, out, plan[span + MEAN_KIND] * inputs + first, sensors)
        if plan[span + DEVIATES]:
            _put(a, work + LANES, out, plan[span + DEVIATION_KIND] * inputs + first, sensors)
        if plan[span + SLOPES]:
            _put(a, work + TWO * LANES, out, plan[span + SLOPE_KIND] * inputs + first, sensors)


@njit(inline="always", **_INNER)
def _since_start(plan, weights, a, base, x, sensors, lanes, out, first):
    life, work, inputs, z_at = base + plan[LIFE], base + WORK * LANES, plan[INPUTS], base + Z * LANES
    _add(a, life, life, z_at, x, lanes)
    averages, level = plan[AVERAGES], plan[LEVEL]
    kind = plan[KINDS] - THREE - averages
    for i in range(averages):
        value = life + (EMA + TWO * i) * LANES
        weight = weights[i]
        for j in range(lanes):
            z, gathered = a[z_at + j], a[value + LANES + j]
            there = z == z
            # A sensor silent for so long that its weights all but vanish keeps its average.
            keep = 1.0 - weight if (gathered > _FADED) | there else 1.0
            total = a[value + j] * keep + (weight * z if there else 0.0)
            gathered = gathered * keep + (weight if there else 0.0)
            a[value + j] = total
            a[value + LANES + j] = gathered
            a[work + j] = total / gathered if gathered > 0 else nan
        _put(a, work, out, (kind + i) * inputs + first, sensors)
    for j in range(lanes):
        z, n = a[z_at + j], a[life + START_N * LANES + j]
        counts = (z == z) & (n < float(level))
        total = a[life + START_SUM * LANES + j] + (z if counts else 0.0)
        n = n + (1.0 if counts else 0.0)
        a[life + START_SUM * LANES + j] = total
        a[life + START_N * LANES + j] = n
        a[work + j] = total / n if n > 0 else nan
    start = (kind + averages) * inputs + first
    _put(a, work, out, start, sensors)
    drift, mean = start + inputs, plan[DRIFT_OF] * inputs + first
    for j in range(sensors):
        out[drift + j] = out[mean + j] - out[start + j]
    for j in range(lanes):
        spread = a[life + SPREAD_X * LANES + j]
        moves = (a[life + N * LANES + j] > 2) & (spread > 0)
        a[work + j] = a[life + COMOMENT * LANES + j] / spread if moves else nan
    _put(a, work, out, drift + inputs, sensors)


@njit(inline="always", **_INNER)
def _regime(plan, centres, ranges, values, row):
    """Nearest centre by the settings that are there; -1 where none is, and there are several."""
    regimes, settings, inputs = plan[REGIMES], plan[SETTINGS], plan[INPUTS]
    if regimes == ONE:
        return 0
    nearest, least, there = -1, np.inf, False
    for regime in range(np.int64(regimes)):
        distance = 0.0
        for i in range(settings):
            value = values[row, inputs + i]
            if np.isfinite(value):
                there = True
                off = (value - centres[regime, i]) / ranges[i]
                distance += off * off
        if distance < least:
            nearest, least = regime, distance
    return nearest if there else -1


@njit(inline="always", **_INNER)
def _advance(plan, weights, unit_us, centres, ranges, level, scale, values, row, ts, a, origin, lives, slot, out):
    """Take a row of `values` into the life at `slot`, whose state begins at `origin`, and write the row's features."""
    inputs, capacity, k = plan[INPUTS], plan[SPAN], U(lives[slot, READINGS])
    if k == U(0):
        lives[slot, STARTED] = ts
    lives[slot, LATEST] = ts
    lives[slot, READINGS] += 1
    x = (ts - lives[slot, STARTED]) / unit_us
    features = plan[KINDS] * inputs
    to = row * (features + ONE)
    out[to + features] = x
    ages = origin + plan[TILES] * plan[ROWS] * LANES
    at = k % capacity
    regime = _regime(plan, centres, ranges, values, row)
    for tile in range(plan[TILES]):
        base, first = origin + tile * plan[ROWS] * LANES, tile * LANES
        sensors = min(LANES, inputs - first)
        lanes = (sensors + ABREAST - ONE) // ABREAST * ABREAST
        z_at = base + Z * LANES
        for j in range(lanes):
            a[z_at + j] = nan
        if regime >= 0:
            in_regime = U(regime)
            for j in range(sensors):
                value = values[row, first + j]
                z = (value - level[in_regime, first + j]) / scale[in_regime, first + j]
                z = z if abs(value) < np.inf else nan
                z = _Z_LIMIT if z > _Z_LIMIT else z
                a[z_at + j] = -_Z_LIMIT if z < -_Z_LIMIT else z
        _put(a, z_at, out, to + first, sensors)
        for i in range(plan[SPANS]):
            span = FIXED + i * PER_SPAN
            _add_to_block(plan, span, a, base, ages, k, z_at, x, lanes)
            _rolling(plan, span, a, base, k, sensors, lanes, out, to + first)
        _since_start(plan, weights, a, base, x, sensors, lanes, out, to + first)
        ring = base + plan[RING] + at * LANES
        for j in range(lanes):
            a[ring + j] = a[z_at + j]
    a[ages + at] = x


@njit(void(_PLAN[0], _V, uint64, int64, _V, _M, _M), **_ENTRY)
def restore(plan, a, origin, readings, tail_age, tail, sums):
    """Bring the live state at `origin` to where a checkpoint was taken, after so many readings of its life."""
    k, capacity, inputs = U(readings), plan[SPAN], plan[INPUTS]
    ages = origin + plan[TILES] * plan[ROWS] * LANES
    for i in range(origin, ages + capacity):
        a[i] = 0.0
    oldest = k + ONE - min(k + ONE, capacity)
    for row in range(oldest, k):
        a[ages + row % capacity] = tail_age[row + capacity - ONE - k]
    for tile in range(plan[TILES]):
        base, first = origin + tile * plan[ROWS] * LANES, tile * LANES
        sensors = min(LANES, inputs - first)
        for i in range(U(sums.shape[0])):
            for j in range(sensors):
                a[base + plan[LIFE] + i * LANES + j] = sums[i, first + j]
        for row in range(oldest, k):
            for j in range(sensors):
                a[base + plan[RING] + row % capacity * LANES + j] = tail[row + capacity - ONE - k, first + j]
        for i in range(plan[SPANS]):
            span = FIXED + i * PER_SPAN
            size = plan[span + B]
            newest, older = k - k % size, (plan[span + M] - ONE) * size
            for row in range(newest - min(newest, older), k):
                at = row % capacity
                z_at = base + plan[RING] + at * LANES
                _add_to_block(plan, span, a, base, ages, row, z_at, a[ages + at], sensors)


@njit(void(_PLAN[0], _V, uint64, int64, _V, _M, _M), **_ENTRY)
def checkpoint(plan, a, origin, readings, tail_age, tail, sums):
    """The inverse of `restore`: fill in what a checkpoint keeps of the live state at `origin`."""
    k, capacity, inputs = U(readings), plan[SPAN], plan[INPUTS]
    ages = origin + plan[TILES] * plan[ROWS] * LANES
    for i in range(capacity - ONE):
        there, at = k + i + ONE >= capacity, (k + i + ONE) % capacity
        tail_age[i] = a[ages + at] if there else nan
        for j in range(inputs):
            base = origin + j // LANES * plan[ROWS] * LANES
            tail[i, j] = a[base + plan[RING] + at * LANES + j % LANES] if there else nan
    for i in range(U(sums.shape[0])):
        for j in range(inputs):
            base = origin + j // LANES * plan[ROWS] * LANES
            sums[i, j] = a[base + plan[LIFE] + i * LANES + j % LANES]


@njit(void(*_PLAN, _M, _I, _I, _I, _I, _M, _C, _C, _V, _T, _M, _C, _C, _V), **_ENTRY)
def advance_lives(
    plan, weights, unit_us, centres, ranges, level, scale, values, ts, first, length, known,
    earlier_age, earlier_tail, earlier_sums, a, lives, tail_age, tail, sums, out,
):  # fmt: skip
    """All rows of some lives, life after life, each from its checkpoint (`known`) or from nothing (-1)."""
    for i in range(len(first)):
        if known[i] >= 0:
            e = known[i]
            restore(plan, a, U(0), lives[i, READINGS], earlier_age[e], earlier_tail[e], earlier_sums[e])
        else:
            a[:] = 0.0
        for row in range(U(first[i]), U(first[i] + length[i])):
            _advance(
                plan, weights, unit_us, centres, ranges, level, scale, values, row, ts[row], a, U(0), lives, i, out
            )
        checkpoint(plan, a, U(0), lives[i, READINGS], tail_age[i], tail[i], sums[i])


@njit(int64(*_PLAN, _M, _I, _I, _I, int64, _V, _T, _V), **_ENTRY)
def advance_readings(
    plan, weights, unit_us, centres, ranges, level, scale, values, ts, number, slots, size, live, lives, out
):  # fmt: skip
    """One reading after the other, each of any machine (its state, of `size`, lies at `slots`); stops before one that
    does not come after its machine's newest, and returns how many were taken in."""
    for i in range(len(ts)):
        slot = slots[i]
        seen = lives[slot, READINGS] > 0
        if seen and (
            number[i] < lives[slot, LIFE_NUMBER]
            or (number[i] == lives[slot, LIFE_NUMBER] and ts[i] <= lives[slot, LATEST])
        ):
            return i
        origin = U(slot) * U(size)
        if seen and number[i] > lives[slot, LIFE_NUMBER]:
            for j in range(origin, origin + U(size)):
                live[j] = 0.0
            lives[slot, READINGS] = 0
        lives[slot, LIFE_NUMBER] = number[i]
        _advance(
            plan, weights, unit_us, centres, ranges, level, scale, values, U(i), ts[i], live, origin, lives, slot, out
        )
    return len(ts)
