"""One reading taken into one life: the arithmetic of every feature, compiled.

Batch and incremental executors run this same code, so they agree to the last bit. Who computes features takes it from
`compiled_kernels`, which may have it without Numba.

**Moments.** What is kept of a set of values z at ages x is their count, means and co-moments about the means,
updated value by value (Welford, Technometrics 1962) and merged set with set (Chan, Golub & LeVeque, The
American Statistician 1983). Nothing is ever subtracted out of a sum, so no digits are lost however long a life
gets, and a sensor that is stuck has a spread of exactly zero.

**Trailing windows.** A window of N = B·m readings is parted into blocks of B, counted from the life's first reading.
At any reading it is: the newest, growing block; m - 1 whole blocks; and the rest of the oldest block. When a block is
whole, the moments of the whole ones are merged, and the oldest block's readings are added to these one by one, newest
first, keeping every fourth step; from there what is left of the block at a reading is at most three readings away.
Every reading then costs a few updates and one merge, whatever N; memory grows with B + m.

**Layout.** The live state of a life is one float64 vector: tiles of `LANES` sensors, each of rows of one number a
sensor, so that one instruction does them all and the compiler can see that rows do not overlap; then the ages of the
newest readings. Everything is passed as bare pointers, the C way, so that the compiled code needs nothing of Numba's.
"""

from __future__ import annotations

from math import nan, sqrt

import numpy as np
from numba import float64, int64, njit, types, uint64, void  # noqa: TID253 - imported to compile features

# isort: off
from maintenance.feature_layout import (
    AVERAGES, BLOCKS, CENTRES_AT, COMOMENT, DEVIATES, DEVIATION_KIND, DRIFT_OF, EMA, FIXED, FOUR, INPUTS, KINDS,
    LATEST, LEVEL, LEVELS_AT, LIFE, LIFE_NUMBER, MEAN_KIND, MEAN_X, MEAN_Z, MEANS, MOMENTS, NARROW, NARROW_TILES,
    NEWEST, OLDEST, ONE, PER_SPAN, RANGES_AT, READINGS, REGIMES, REST, RING, ROWS, SCALES_AT, SETTINGS, SLOPE_KIND,
    SLOPES, SPAN, SPANS, SPREAD, SPREAD_X, SPREAD_Z, START_N, START_SUM, STARTED, STATE, STEP, THREE, TWO, UNIT_US,
    WEIGHTS, WIDE, WIDE_TILES, WORK, B, M, N, U, Z,
)  # fmt: skip

# isort: on
from maintenance.kernel_entries import INNER, entry

_FADED = 1e-150
_Z_LIMIT = 100.0

_F, _I, _N = types.CPointer(float64), types.CPointer(int64), types.CPointer(uint64)


def _tile(lanes):
    """The code of a tile of so many sensors. With their number known, the compiler does several at once."""

    @njit(inline="always", **INNER)
    def _put(a, at, out, to, sensors):
        for j in range(sensors):
            out[to + j] = a[at + j]

    @njit(inline="always", **INNER)
    def _add(a, old, new, z_at, x):
        """The moments at `old` and one reading, at `new`. `old` is `new`, or lies elsewhere whole."""
        for j in range(lanes):
            z, n, mean_z = a[z_at + j], a[old + j], a[old + MEAN_Z * lanes + j]
            mean_x = a[old + MEAN_X * lanes + j]
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
            a[new + MEAN_Z * lanes + j] = mean_z
            a[new + MEAN_X * lanes + j] = mean_x
            a[new + SPREAD_Z * lanes + j] = a[old + SPREAD_Z * lanes + j] + ahead_z * behind_z
            a[new + SPREAD_X * lanes + j] = a[old + SPREAD_X * lanes + j] + ahead_x * (x - mean_x)
            a[new + COMOMENT * lanes + j] = a[old + COMOMENT * lanes + j] + ahead_x * behind_z

    @njit(inline="always", **INNER)
    def _add_to_mean(a, old, new, z_at):
        """As `_add`, count and mean only."""
        for j in range(lanes):
            z, n, mean_z = a[z_at + j], a[old + j], a[old + MEAN_Z * lanes + j]
            there = z == z
            w = 1.0 if there else 0.0
            n += w
            share = w / max(n, 1.0)
            ahead_z = z - mean_z if there else 0.0
            a[new + j] = n
            a[new + MEAN_Z * lanes + j] = mean_z + share * ahead_z

    @njit(**INNER)
    def _merge(a, to, other, spread):
        """Merge the moments at `other` into those at `to`; without `spread`, count and mean only."""
        for j in range(lanes):
            n, m = a[to + j], a[other + j]
            both = n + m
            share = m / max(both, 1.0)
            weight = n * share
            ahead_z = a[other + MEAN_Z * lanes + j] - a[to + MEAN_Z * lanes + j]
            a[to + j] = both
            a[to + MEAN_Z * lanes + j] += share * ahead_z
            if spread:
                ahead_x = a[other + MEAN_X * lanes + j] - a[to + MEAN_X * lanes + j]
                a[to + MEAN_X * lanes + j] += share * ahead_x
                a[to + SPREAD_Z * lanes + j] += a[other + SPREAD_Z * lanes + j] + ahead_z * ahead_z * weight
                a[to + SPREAD_X * lanes + j] += a[other + SPREAD_X * lanes + j] + ahead_x * ahead_x * weight
                a[to + COMOMENT * lanes + j] += a[other + COMOMENT * lanes + j] + ahead_x * ahead_z * weight

    @njit(**INNER)
    def _rest(plan, span, a, base, ages, k, place, steps, old, new):
        """To what is left of the oldest block after its readings up to `place`, at `old`, add the readings before, as
        many as there are steps; k is the first reading of the newest block. Returns where the result is: at `new`, or
        where it was if the life began after them."""
        ring, capacity = base + plan[RING] * lanes, plan[SPAN]
        before = plan[span + B] * plan[span + M]
        for i in range(steps):
            if k + place - i < before:
                break
            at = (k + place - i - before) % capacity
            if plan[span + SPREAD]:
                _add(a, old, new, ring + at * lanes, a[ages + at])
            else:
                _add_to_mean(a, old, new, ring + at * lanes)
            old = new
        return old

    @njit(**INNER)
    def _close_block(plan, span, a, base, ages, k):
        """The newest block is whole: work out what windows that end in the next block hold besides it."""
        size, blocks, spread = plan[span + B], plan[span + M], plan[span + SPREAD]
        width = (MOMENTS if spread else TWO) * lanes
        newest, whole = base + plan[span + NEWEST] * lanes, base + plan[span + BLOCKS] * lanes
        number = k // size
        rest = base + plan[span + OLDEST] * lanes  # nothing is left of the oldest block: the whole ones alone
        if blocks > ONE:
            kept = whole + (number - ONE) % (blocks - ONE) * width
            for i in range(width):
                a[kept + i] = a[newest + i]
        for i in range(width):
            a[newest + i] = 0.0
            a[rest + i] = 0.0
        for block in range(number + ONE - min(number + ONE, blocks), number):
            _merge(a, rest, whole + block % (blocks - ONE) * width, spread)
        for i in range((size - ONE) // STEP):
            old = rest + i * width
            new = old + width
            at = _rest(plan, span, a, base, ages, k, size - ONE - i * STEP, STEP, old, new)
            if at != new:  # the life began after it
                for j in range(width):
                    a[new + j] = a[old + j]

    @njit(inline="always", **INNER)
    def _add_to_block(plan, span, a, base, ages, k, z_at, x):
        if k > U(0) and k % plan[span + B] == U(0):
            _close_block(plan, span, a, base, ages, k)
        newest = base + plan[span + NEWEST] * lanes
        if plan[span + SPREAD]:
            _add(a, newest, newest, z_at, x)
        else:
            _add_to_mean(a, newest, newest, z_at)

    @njit(inline="always", **INNER)
    def _rolling(plan, span, a, base, ages, k, sensors, out, first):
        """Statistics of one trailing window, from the newest block and what is left of the older ones."""
        spread, size = plan[span + SPREAD], plan[span + B]
        p = base + plan[span + NEWEST] * lanes
        begun = k % size
        gone = (size - ONE - begun) // STEP
        kept = base + plan[span + OLDEST] * lanes + gone * (MOMENTS if spread else TWO) * lanes
        place = size - ONE - gone * STEP
        s = _rest(plan, span, a, base, ages, k - begun, place, place - begun, kept, base + REST * lanes)
        work, inputs = base + WORK * lanes, plan[INPUTS]
        if not spread:
            for j in range(lanes):
                n, m = a[p + j], a[s + j]
                both, mean = n + m, a[p + MEAN_Z * lanes + j]
                mean += m / max(both, 1.0) * (a[s + MEAN_Z * lanes + j] - mean)
                a[work + j] = mean if both > 0 else nan
            _put(a, work, out, plan[span + MEAN_KIND] * inputs + first, sensors)
        else:
            for j in range(lanes):
                n, m = a[p + j], a[s + j]
                both, mean = n + m, a[p + MEAN_Z * lanes + j]
                share = m / max(both, 1.0)
                weight = n * share
                ahead_z = a[s + MEAN_Z * lanes + j] - mean
                ahead_x = a[s + MEAN_X * lanes + j] - a[p + MEAN_X * lanes + j]
                mean += share * ahead_z
                spread_z = a[p + SPREAD_Z * lanes + j] + (a[s + SPREAD_Z * lanes + j] + ahead_z * ahead_z * weight)
                spread_x = a[p + SPREAD_X * lanes + j] + (a[s + SPREAD_X * lanes + j] + ahead_x * ahead_x * weight)
                comoment = a[p + COMOMENT * lanes + j] + (a[s + COMOMENT * lanes + j] + ahead_x * ahead_z * weight)
                a[work + j] = mean if both > 0 else nan
                a[work + lanes + j] = sqrt(spread_z / (both - 1.0 if both > 1 else nan))
                a[work + TWO * lanes + j] = comoment / (spread_x if (both > 2) & (spread_x > 0) else nan)
            if plan[span + MEANS]:
                _put(a, work, out, plan[span + MEAN_KIND] * inputs + first, sensors)
            if plan[span + DEVIATES]:
                _put(a, work + lanes, out, plan[span + DEVIATION_KIND] * inputs + first, sensors)
            if plan[span + SLOPES]:
                _put(a, work + TWO * lanes, out, plan[span + SLOPE_KIND] * inputs + first, sensors)

    @njit(inline="always", **INNER)
    def _since_start(plan, constants, a, base, x, sensors, out, first):
        life, work, inputs, z_at = base + plan[LIFE] * lanes, base + WORK * lanes, plan[INPUTS], base + Z * lanes
        _add(a, life, life, z_at, x)
        averages, level = plan[AVERAGES], plan[LEVEL]
        kind = plan[KINDS] - THREE - averages
        for i in range(averages):
            value = life + (EMA + TWO * i) * lanes
            weight = constants[WEIGHTS + i]
            for j in range(lanes):
                z, gathered = a[z_at + j], a[value + lanes + j]
                there = z == z
                # A sensor silent for so long that its weights all but vanish keeps its average.
                keep = 1.0 - weight if (gathered > _FADED) | there else 1.0
                total = a[value + j] * keep + (weight * z if there else 0.0)
                gathered = gathered * keep + (weight if there else 0.0)
                a[value + j] = total
                a[value + lanes + j] = gathered
                a[work + j] = total / gathered if gathered > 0 else nan
            _put(a, work, out, (kind + i) * inputs + first, sensors)
        for j in range(lanes):
            z, n = a[z_at + j], a[life + START_N * lanes + j]
            counts = (z == z) & (n < float(level))
            total = a[life + START_SUM * lanes + j] + (z if counts else 0.0)
            n = n + (1.0 if counts else 0.0)
            a[life + START_SUM * lanes + j] = total
            a[life + START_N * lanes + j] = n
            a[work + j] = total / n if n > 0 else nan
        start = (kind + averages) * inputs + first
        _put(a, work, out, start, sensors)
        drift, mean = start + inputs, plan[DRIFT_OF] * inputs + first
        for j in range(sensors):
            out[drift + j] = out[mean + j] - out[start + j]
        for j in range(lanes):
            spread = a[life + SPREAD_X * lanes + j]
            moves = (a[life + N * lanes + j] > 2) & (spread > 0)
            a[work + j] = a[life + COMOMENT * lanes + j] / spread if moves else nan
        _put(a, work, out, drift + inputs, sensors)

    @njit(**INNER)
    def advance(plan, constants, values, read, a, base, first, ages, k, x, regime, out, to):
        """Take the z-scores of a tile's sensors, from `first` on, into its moments, and write their features."""
        inputs, z_at = plan[INPUTS], base + Z * lanes
        sensors = min(lanes, inputs - first)
        for j in range(lanes):
            a[z_at + j] = nan
        if regime >= 0:
            level, scale = plan[LEVELS_AT] + U(regime) * inputs + first, plan[SCALES_AT] + U(regime) * inputs + first
            for j in range(sensors):
                value = values[read + first + j]
                z = (value - constants[level + j]) / constants[scale + j]
                z = z if abs(value) < np.inf else nan
                z = _Z_LIMIT if z > _Z_LIMIT else z
                a[z_at + j] = -_Z_LIMIT if z < -_Z_LIMIT else z
        _put(a, z_at, out, to + first, sensors)
        for i in range(plan[SPANS]):
            span = FIXED + i * PER_SPAN
            _add_to_block(plan, span, a, base, ages, k, z_at, x)
            _rolling(plan, span, a, base, ages, k, sensors, out, to + first)
        _since_start(plan, constants, a, base, x, sensors, out, to + first)
        ring = base + (plan[RING] + k % plan[SPAN]) * lanes
        for j in range(lanes):
            a[ring + j] = a[z_at + j]

    @njit(**INNER)
    def replay(plan, a, base, ages, k):
        """Bring a tile's windows to where they were after k readings, from the ages and the ring."""
        for i in range(plan[SPANS]):
            span = FIXED + i * PER_SPAN
            size = plan[span + B]
            newest, older = k - k % size, (plan[span + M] - ONE) * size
            for row in range(newest - min(newest, older), k):
                at = row % plan[SPAN]
                _add_to_block(plan, span, a, base, ages, row, base + (plan[RING] + at) * lanes, a[ages + at])

    return advance, replay


_advance_wide, _replay_wide = _tile(WIDE)
_advance_narrow, _replay_narrow = _tile(NARROW)


@njit(inline="always", **INNER)
def _regime(plan, constants, values, row):
    """Nearest centre by the settings that are there; -1 where none is, and there are several."""
    regimes, settings = plan[REGIMES], plan[SETTINGS]
    if regimes == ONE:
        return 0
    ranges, centre = plan[RANGES_AT], plan[CENTRES_AT]
    nearest, least, there = -1, np.inf, False
    for regime in range(np.int64(regimes)):
        distance = 0.0
        for i in range(settings):
            value = values[row + i]
            if np.isfinite(value):
                there = True
                off = (value - constants[centre + i]) / constants[ranges + i]
                distance += off * off
        centre += settings
        if distance < least:
            nearest, least = regime, distance
    return nearest if there else -1


@njit(inline="always", **INNER)
def _address(plan, origin, row, j):
    """Of one row's number of sensor j."""
    wide, rows = plan[WIDE_TILES] * WIDE, plan[ROWS]
    if j < wide:
        return origin + j // WIDE * WIDE * rows + row * WIDE + j % WIDE
    j -= wide
    return origin + (wide + j // NARROW * NARROW) * rows + row * NARROW + j % NARROW


@njit(inline="always", **INNER)
def _ages(plan, origin):
    return origin + (plan[WIDE_TILES] * WIDE + plan[NARROW_TILES] * NARROW) * plan[ROWS]


@njit(inline="always", **INNER)
def _advance(plan, constants, values, row, ts, a, origin, lives, life, out):
    """Take a row of `values` into the life whose state begins at `origin` and whose numbers begin at `life`, and write
    the row's features."""
    inputs, k = plan[INPUTS], U(lives[life + READINGS])
    if k == U(0):
        lives[life + STARTED] = ts
    lives[life + LATEST] = ts
    lives[life + READINGS] = np.int64(k + ONE)
    x = (ts - lives[life + STARTED]) / constants[UNIT_US]
    features = plan[KINDS] * inputs
    to, read = row * (features + ONE), row * (inputs + plan[SETTINGS])
    out[to + features] = x
    ages = _ages(plan, origin)
    regime = _regime(plan, constants, values, read + inputs)
    base, first = origin, U(0)
    for _ in range(plan[WIDE_TILES]):
        _advance_wide(plan, constants, values, read, a, base, first, ages, k, x, regime, out, to)
        base, first = base + plan[ROWS] * WIDE, first + WIDE
    for _ in range(plan[NARROW_TILES]):
        _advance_narrow(plan, constants, values, read, a, base, first, ages, k, x, regime, out, to)
        base, first = base + plan[ROWS] * NARROW, first + NARROW
    a[ages + k % plan[SPAN]] = x


@njit(**INNER)
def _restore(plan, a, origin, readings, which, tail_age, tail, sums):
    k, capacity, inputs = U(readings), plan[SPAN], plan[INPUTS]
    kept, counted = capacity - ONE, EMA + TWO * plan[AVERAGES]
    # Where the reading k would stand in the tail, were it longer.
    end = (which + ONE) * kept
    ages = _ages(plan, origin)
    for i in range(origin, origin + plan[STATE]):
        a[i] = 0.0
    for i in range(counted):
        for j in range(inputs):
            a[_address(plan, origin, plan[LIFE] + i, j)] = sums[(which * counted + i) * inputs + j]
    for row in range(k + ONE - min(k + ONE, capacity), k):
        at = row % capacity
        a[ages + at] = tail_age[end + row - k]
        for j in range(inputs):
            a[_address(plan, origin, plan[RING] + at, j)] = tail[(end + row - k) * inputs + j]
    base = origin
    for _ in range(plan[WIDE_TILES]):
        _replay_wide(plan, a, base, ages, k)
        base += plan[ROWS] * WIDE
    for _ in range(plan[NARROW_TILES]):
        _replay_narrow(plan, a, base, ages, k)
        base += plan[ROWS] * NARROW


@njit(**INNER)
def _checkpoint(plan, a, origin, readings, which, tail_age, tail, sums):
    k, capacity, inputs = U(readings), plan[SPAN], plan[INPUTS]
    kept, counted = capacity - ONE, EMA + TWO * plan[AVERAGES]
    ages = _ages(plan, origin)
    for i in range(kept):
        there, at = k + i + ONE >= capacity, (k + i + ONE) % capacity
        to = which * kept + i
        tail_age[to] = a[ages + at] if there else nan
        for j in range(inputs):
            tail[to * inputs + j] = a[_address(plan, origin, plan[RING] + at, j)] if there else nan
    for i in range(counted):
        for j in range(inputs):
            sums[(which * counted + i) * inputs + j] = a[_address(plan, origin, plan[LIFE] + i, j)]


@entry(void(_N, _F, _I, int64, _F, _F, _F))
def restore(plan, live, lives, machines, tail_age, tail, sums):
    """Bring the live states of so many machines to where their checkpoints were taken."""
    for i in range(U(machines)):
        _restore(plan, live, i * plan[STATE], lives[i * FOUR + READINGS], i, tail_age, tail, sums)


@entry(void(_N, _F, _I, _I, int64, _F, _F, _F))
def checkpoint(plan, live, lives, slots, n, tail_age, tail, sums):
    """The inverse of `restore`, of the n machines at `slots`: fill in what a checkpoint keeps."""
    for i in range(U(n)):
        slot = U(slots[i])
        _checkpoint(plan, live, slot * plan[STATE], lives[slot * FOUR + READINGS], i, tail_age, tail, sums)


@entry(void(_N, _F, _F, _I, _I, _I, _I, int64, _F, _F, _F, _F, _I, _F, _F, _F, _F))
def advance_lives(
    plan, constants, values, ts, first, length, known, n,
    earlier_age, earlier_tail, earlier_sums, a, lives, tail_age, tail, sums, out,
):  # fmt: skip
    """All rows of n lives, life after life, each from its checkpoint (`known`) or from nothing (-1)."""
    for i in range(U(n)):
        life = i * FOUR
        if known[i] >= 0:
            _restore(plan, a, U(0), lives[life + READINGS], U(known[i]), earlier_age, earlier_tail, earlier_sums)
        else:
            for j in range(plan[STATE]):
                a[j] = 0.0
        for row in range(U(first[i]), U(first[i] + length[i])):
            _advance(plan, constants, values, row, ts[row], a, U(0), lives, life, out)
        _checkpoint(plan, a, U(0), lives[life + READINGS], i, tail_age, tail, sums)


@entry(int64(_N, _F, _F, _I, _I, _I, int64, _F, _I, _F))
def advance_readings(plan, constants, values, ts, number, slots, n, live, lives, out):
    """n readings one after the other, each of any machine, whose state lies at `slots`; stops before one that
    does not come after its machine's newest, and returns how many were taken in."""
    for i in range(U(n)):
        origin, life = U(slots[i]) * plan[STATE], U(slots[i]) * FOUR
        if lives[life + READINGS] > 0:
            before = lives[life + LIFE_NUMBER]
            if number[i] < before or (number[i] == before and ts[i] <= lives[life + LATEST]):
                return np.int64(i)
            if number[i] > before:
                for j in range(origin, origin + plan[STATE]):
                    live[j] = 0.0
                lives[life + READINGS] = 0
        lives[life + LIFE_NUMBER] = number[i]
        _advance(plan, constants, values, i, ts[i], live, origin, lives, life, out)
    return n
