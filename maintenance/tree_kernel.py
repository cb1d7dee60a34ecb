"""What an ensemble of decision trees answers, compiled.

Eight trees are walked side by side, a level at a time and without a branch: a processor then waits for none of them
alone, and guesses no turn wrongly. That is how to walk many trees fast (Asadi, Lin & de Vries, IEEE TKDE 2014).

A node is four numbers of four bytes: the threshold, twice the feature's column and one more where what is missing
turns left, the left child (the right one is next to it), and a leaf's weight. A leaf is its own left child, and every
value turns left there.
"""

from __future__ import annotations

from numba import float32, int32, int64, njit, types, void  # noqa: TID253 - imported to compile

from maintenance.kernel_entries import INNER, entry

_F, _I = types.CPointer(float32), types.CPointer(int32)


@njit(inline="always", **INNER)
def _next(nodes, numbers, X, row, at):
    turn = nodes[4 * at + 1]
    value = X[row + (turn >> 1)]
    left = (value <= numbers[4 * at]) | ((value != value) & (turn & 1 == 1))
    return nodes[4 * at + 2] + int64(not left)


@njit(inline="always", **INNER)
def _weight(numbers, at):
    return numbers[4 * at + 3]


@entry(void(_I, _F, _I, int64, _F, _F, int64, int64, _F))
def sum_trees(nodes, numbers, roots, trees, base, X, rows, columns, out):
    """`numbers` is `nodes`, taken for float32; `trees` is a multiple of eight. A row's weights are added up in the
    order of the trees."""
    for n in range(rows):
        row, total = n * columns, float32(0)
        for t in range(0, trees, 8):
            a, b, c, d = int64(roots[t]), int64(roots[t + 1]), int64(roots[t + 2]), int64(roots[t + 3])
            e, f, g, h = int64(roots[t + 4]), int64(roots[t + 5]), int64(roots[t + 6]), int64(roots[t + 7])
            before, now = int64(-1), a + b + c + d + e + f + g + h
            while now != before:  # children come after their parents
                a, b = _next(nodes, numbers, X, row, a), _next(nodes, numbers, X, row, b)
                c, d = _next(nodes, numbers, X, row, c), _next(nodes, numbers, X, row, d)
                e, f = _next(nodes, numbers, X, row, e), _next(nodes, numbers, X, row, f)
                g, h = _next(nodes, numbers, X, row, g), _next(nodes, numbers, X, row, h)
                before, now = now, a + b + c + d + e + f + g + h
            total += _weight(numbers, a)
            total += _weight(numbers, b)
            total += _weight(numbers, c)
            total += _weight(numbers, d)
            total += _weight(numbers, e)
            total += _weight(numbers, f)
            total += _weight(numbers, g)
            total += _weight(numbers, h)
        out[n] = total + base[0]
