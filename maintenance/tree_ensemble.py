"""One ensemble of decision trees, walked by compiled code: the same sum as ONNX Runtime's, to the last bit."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any, Self

import numpy as np

from backbone.errors import IntegrityError

_LANES = 8
_THRESHOLD, _TURN, _LEFT, _WEIGHT = range(4)
_UNTOLD: Mapping[str, Any] = {
    "aggregate_function": b"SUM",
    "base_values": [],
    "n_targets": 1,
    "nodes_missing_value_tracks_true": [],
    "post_transform": b"NONE",
}
"""What a node of a graph leaves out, and ONNX then takes."""
_SUMMED = ("aggregate_function", "n_targets", "post_transform")


class TreeEnsemble:
    """Trees whose weights are added up.

    Args:
        nodes: (n, 4) int32, as `tree_kernel` has them.
        roots: (trees,) int32.
        base: is added to the sum, as float32.
        columns: of the rows it is asked about.

    Raises:
        IntegrityError: these are no trees; compiled code would read beside them, or walk on for ever.
    """

    def __init__(self, nodes: np.ndarray, roots: np.ndarray, base: float, columns: int) -> None:
        from maintenance import compiled_kernels

        if not _sound(nodes, roots, columns):
            raise IntegrityError(f"No trees over {columns} features.", next_step="Make them again from the model.")
        self.nodes, self.roots, self.base, self.columns = nodes, roots, base, columns
        # A leaf that weighs nothing: adding it changes no sum, not even that of zero below zero.
        nothing = np.array([[np.inf, 0, 0, -0.0]], np.float32).view(np.int32)
        nothing[0, _TURN], nothing[0, _LEFT] = 1, len(nodes)
        self._nodes = np.concatenate([nodes, nothing])
        self._roots = np.append(roots, np.full(-len(roots) % _LANES, len(nodes), np.int32))
        self._base = np.array([base], np.float32)
        pointer = compiled_kernels.pointer
        at = pointer(self._nodes, np.int32, *self._nodes.shape)
        roots_at = pointer(self._roots, np.int32, len(self._roots))
        self._where = at, at, roots_at, len(self._roots), pointer(self._base, np.float32, 1)
        self._sum, self._pointer = compiled_kernels.sum_trees, pointer

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(n,) float32, of (n, columns) float32. Holds the interpreter while it works: some microseconds a row."""
        n = len(X)
        out = np.empty(n, np.float32)
        pointer = self._pointer
        x = pointer(X, np.float32, n, self.columns)
        self._sum(*self._where, x, n, self.columns, pointer(out, np.float32, n))
        return out

    @classmethod
    def from_attributes(cls, told: Mapping[str, Any], columns: int, filled: np.ndarray | None = None) -> Self | None:
        """Of a `TreeEnsembleRegressor`; None where it is anything else than a sum.

        Args:
            filled: (columns,) float32, what stands for a missing value; None: trees see that it is missing.
        """
        told = {**_UNTOLD, **told}
        summed = all(told[name] == _UNTOLD[name] for name in _SUMMED)
        plain = {*told["nodes_modes"]} <= {b"BRANCH_LEQ", b"LEAF"} and {*told["target_ids"]} <= {0}
        plain &= len(told["nodes_missing_value_tracks_true"]) in (0, len(told["nodes_modes"]))
        plain &= len(base := told["base_values"] or [0.0]) == 1 and {*told["nodes_featureids"]} <= {*range(columns)}
        if not (summed and plain and {"nodes_values", "target_weights"} <= told.keys()):
            return None
        laid_out = _laid_out(told, filled)
        return None if laid_out is None else cls(*laid_out, base[0], columns)


def _laid_out(told: Mapping[str, Any], filled: np.ndarray | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Nodes and roots of a graph's trees, in their order; None where a node has two parents, or a leaf not one weight.

    Children are laid out next to each other, after their parents: a graph's own order is anything.
    """
    trees, yes, no = told["nodes_treeids"], told["nodes_truenodeids"], told["nodes_falsenodeids"]
    place = {name: n for n, name in enumerate(zip(trees, told["nodes_nodeids"], strict=True))}
    leaf = [mode == b"LEAF" for mode in told["nodes_modes"]]
    if [tree for tree, _ in groupby(trees)] != list(dict.fromkeys(trees)):
        return None  # among one another, the runtime takes them for other trees
    roots, order, left = list[int](), list[int](), list[int]()
    for _, tree in groupby(range(len(trees)), trees.__getitem__):
        roots.append(len(order))
        order.append(next(tree))
        while len(left) < len(order) <= len(trees):
            n = order[len(left)]
            left.append(len(left) if leaf[n] else len(order))
            order += [] if leaf[n] else [place[trees[n], yes[n]], place[trees[n], no[n]]]
    leaves = list(zip(told["target_treeids"], told["target_nodeids"], strict=True))
    if sorted(order) != list(range(len(trees))) or sorted(place[each] for each in leaves) != list(np.flatnonzero(leaf)):
        return None
    numbers = np.zeros((len(order), 4), np.float32)
    nodes, ends = numbers.view(np.int32), np.array(leaf)[order]
    weights = np.zeros(len(order), np.float32)
    weights[[place[each] for each in leaves]] = told["target_weights"]
    features, values = np.array(told["nodes_featureids"])[order], np.array(told["nodes_values"], np.float32)[order]
    missing = np.array(told["nodes_missing_value_tracks_true"] or [0] * len(order))[order]
    if filled is not None:
        missing = filled[features] <= values  # where what stands for it turns
    numbers[:, _THRESHOLD] = np.where(ends, np.inf, values)
    nodes[:, _TURN] = np.where(ends, 1, 2 * features + missing)
    nodes[:, _LEFT] = left
    numbers[:, _WEIGHT] = weights[order]
    return nodes, np.array(roots, np.int32)


def _sound(nodes: np.ndarray, roots: np.ndarray, columns: int) -> bool:
    """Whether every walk stays among these nodes and columns, and ends: children come after their parents."""
    if (nodes.dtype, roots.dtype, nodes.shape[1:], roots.ndim) != (np.int32, np.int32, (4,), 1) or columns < 1:
        return False
    at, turn, left = np.arange(len(nodes)), nodes[:, _TURN], nodes[:, _LEFT]
    leaf = (left == at) & (turn == 1) & (nodes.view(np.float32)[:, _THRESHOLD] == np.inf)
    inner = (left > at) & (left < len(nodes) - 1) & (turn >= 0) & (turn >> 1 < columns)
    return bool((leaf | inner).all() and ((roots >= 0) & (roots < len(nodes))).all())
