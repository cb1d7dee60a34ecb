"""A model of trees alone, asked without a runtime: the same answers as ONNX Runtime gives, to the last bit.

For where a few rows are asked about at a time, see docs/adr/0024. A runtime lets go of the interpreter while it works,
which then has to be waited for, longer than the work takes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from backbone.errors import IntegrityError
from maintenance.tree_ensemble import TreeEnsemble

_INPUT = "features"
_PARTS = ("nodes", "roots", "base", "weight")


class Term(NamedTuple):
    """A share of the answer: what an ensemble says, times a float32 weight."""

    trees: TreeEnsemble
    weight: np.float32


class _Other(Exception):
    """A graph, or a part of one, that is no sum of trees."""


class TreeModel:
    """The sum of its terms, added up in their order, as float32.

    Raises:
        IntegrityError: there is no term, or they are asked about rows of different widths.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        widths = {term.trees.columns for term in terms}
        if len(widths) != 1:
            raise IntegrityError(f"Trees over {sorted(widths)} features.", next_step="Make them again from the model.")
        (self.columns,) = widths
        self._terms = tuple(terms)

    @property
    def trees(self) -> int:
        """How many are walked a row."""
        return sum(len(term.trees.roots) for term in self._terms)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """(n,) float32, of (n, columns) float32, contiguous and writable."""
        first, *others = self._terms
        answer = first.trees.predict(X) * first.weight
        for term in others:
            answer += term.trees.predict(X) * term.weight
        return answer

    def to_bytes(self) -> bytes:
        """For `from_bytes`."""
        held: dict[str, Any] = {
            f"{name}.{n}": value
            for n, (trees, weight) in enumerate(self._terms)
            for name, value in zip(_PARTS, (trees.nodes, trees.roots, np.float32(trees.base), weight), strict=True)
        }
        file = io.BytesIO()
        np.savez(file, terms=len(self._terms), columns=self.columns, **held)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Raises `IntegrityError` if this is no model of trees."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as held:
                columns, terms = int(held["columns"]), list[Term]()
                for n in range(int(held["terms"])):
                    nodes, roots, base, weight = (held[f"{name}.{n}"] for name in _PARTS)
                    terms.append(Term(TreeEnsemble(nodes, roots, float(base), columns), np.float32(weight.item())))
            return cls(terms)
        except IntegrityError:
            raise
        except Exception as error:  # of a damaged archive, its reader raises whatever comes to its mind
            raise IntegrityError(
                f"This is no model of trees: {error!r}.", next_step="Make it again from the release's model."
            ) from error

    @classmethod
    def from_onnx(cls, onnx: bytes) -> Self | None:
        """The model of a graph; None where that is anything else than a weighted sum of trees.

        What stands for a missing value may be filled in first, the same in all rows.
        """
        from onnx import load_model_from_string

        graph = load_model_from_string(onnx).graph
        try:
            return cls(_Graph(graph).terms())
        except _Other:
            return None


class _Graph:
    """A graph, read from its answer back to its features."""

    def __init__(self, graph: Any) -> None:
        from onnx import numpy_helper

        (taken,) = graph.input
        self._columns = int(taken.type.tensor_type.shape.dim[1].dim_value)
        self._made = {name: node for node in graph.node for name in node.output}
        self._constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        self._answers = [each.name for each in graph.output]
        if taken.name != _INPUT or len(self._answers) != 1:
            raise _Other

    def terms(self) -> list[Term]:
        node = self._node(self._answers[0])
        return [self._term(name) for name in (node.input if node.op_type == "Sum" else self._answers)]

    def _node(self, name: str) -> Any:
        if name not in self._made:
            raise _Other
        return self._made[name]

    def _term(self, name: str) -> Term:
        node, weight = self._node(name), np.float32(1)
        if node.op_type == "Flatten" and _attributes(node).get("axis", 1) == 1:  # of one column
            node = self._node(node.input[0])
        if node.op_type == "Mul":
            name, factor = node.input
            weight, node = self._scalar(factor), self._node(name)
        if node.op_type != "TreeEnsembleRegressor":
            raise _Other
        trees = TreeEnsemble.from_attributes(_attributes(node), self._columns, self._filled(node.input[0]))
        if trees is None:
            raise _Other
        return Term(trees, weight)

    def _scalar(self, name: str) -> np.float32:
        value = self._constants.get(name)
        if value is None or value.dtype != np.float32 or value.size != 1:
            raise _Other
        return np.float32(value.reshape(-1)[0])

    def _filled(self, name: str) -> np.ndarray | None:
        """(columns,) what stands for a missing value before trees see it; None: nothing does."""
        if name == _INPUT:
            return None
        node = self._node(name)
        told = _attributes(node)
        values = np.array(told.get("imputed_value_floats", ()), np.float32)
        if node.op_type != "Imputer" or [*node.input] != [_INPUT] or not np.isnan(told.get("replaced_value_float", 0)):
            raise _Other
        if len(values) not in (1, self._columns) or np.isnan(values).any():
            raise _Other
        return np.broadcast_to(values, self._columns)


def _attributes(node: Any) -> Mapping[str, Any]:
    from onnx import helper

    return {each.name: helper.get_attribute_value(each) for each in node.attribute}
