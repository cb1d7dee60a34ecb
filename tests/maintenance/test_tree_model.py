"""Trees without a runtime say what ONNX Runtime says, to the last bit, or are not taken."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backbone.errors import IntegrityError
from maintenance.cross_validation import build
from maintenance.onnx_export import export_onnx, export_probability, onnx_session
from maintenance.tree_ensemble import TreeEnsemble
from maintenance.tree_model import TreeModel

FINITE = st.floats(width=32, allow_nan=False)
EVIL = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, 3.4e38], np.float32)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[bytes, int]:
    """Any sum of trees, its nodes in any order; and how many columns it looks at."""
    columns, trees = draw(st.integers(1, 4)), draw(st.integers(1, 20))
    rows: list[dict[str, Any]] = []
    for tree in range(trees):
        inner = draw(st.integers(0, 6))
        nodes, free = [0], draw(st.permutations(range(1, 2 * inner + 1)))
        own: list[dict[str, Any]] = []
        for number in range(inner):
            at = nodes.pop(draw(st.integers(0, len(nodes) - 1)))
            yes, no = free[2 * number : 2 * number + 2]
            nodes += [yes, no]
            own.append({
                "treeids": tree, "nodeids": at, "modes": "BRANCH_LEQ", "featureids": draw(st.integers(0, columns - 1)),
                "values": draw(FINITE), "truenodeids": yes, "falsenodeids": no,
                "missing_value_tracks_true": draw(st.integers(0, 1)),
            })  # fmt: skip
        own += [
            {"treeids": tree, "nodeids": at, "modes": "LEAF", "featureids": 0, "values": 0.0, "truenodeids": 0,
             "falsenodeids": 0, "missing_value_tracks_true": 0}
            for at in nodes
        ]  # fmt: skip
        top = next(each for each in own if each["nodeids"] == 0)
        own.remove(top)
        rows += [top, *draw(st.permutations(own))]
    leaves = [(row["treeids"], row["nodeids"]) for row in rows if row["modes"] == "LEAF"]
    told = {f"nodes_{name}": [row[name] for row in rows] for name in rows[0]}
    weights = st.floats(-1e3, 1e3, width=32)
    told |= {
        "target_treeids": [tree for tree, _ in leaves],
        "target_nodeids": [node for _, node in leaves],
        "target_ids": [0] * len(leaves),
        "target_weights": [draw(weights) for _ in leaves],
    }
    if draw(st.booleans()):
        told["base_values"] = [draw(weights)]
    return _graph(told, columns), columns


def _graph(told: dict[str, Any], columns: int) -> bytes:
    from onnx import TensorProto, helper

    node = helper.make_node(
        "TreeEnsembleRegressor", ["features"], ["answer"], domain="ai.onnx.ml", **({"n_targets": 1} | told)
    )
    graph = helper.make_graph(
        [node],
        "trees",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, columns])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [None, 1])],
    )
    opsets = [helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("", 18)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def _runtime(onnx: bytes, X: np.ndarray) -> np.ndarray:
    answer: np.ndarray = onnx_session(onnx, threads=1).run(None, {"features": X})[0][:, 0]
    return answer


@settings(max_examples=150)
@given(graphs(), st.integers(0, 2**32 - 1), st.integers(1, 140))
def test_any_sum_of_trees_answers_as_the_runtime_does(made: tuple[bytes, int], seed: int, rows: int) -> None:
    onnx, columns = made
    drawn = np.random.default_rng(seed)
    X = drawn.normal(0, 10.0 ** drawn.integers(-3, 4), (rows, columns)).astype(np.float32)
    X[drawn.random(X.shape) < 0.2] = drawn.choice(EVIL)
    trees = TreeModel.from_onnx(onnx)
    assert trees is not None
    np.testing.assert_array_equal(TreeModel.from_bytes(trees.to_bytes()).predict(X), _runtime(onnx, X))


GRADIENT, EXTRA = "hist_gradient_boosting", "extra_trees"


@pytest.mark.parametrize("members", [(GRADIENT,), (EXTRA,), (GRADIENT, EXTRA), (EXTRA, EXTRA, GRADIENT)], ids="+".join)
def test_what_training_makes_of_trees_answers_as_the_runtime_does(members: tuple[str, ...]) -> None:
    drawn = np.random.default_rng(3)
    X = drawn.normal(size=(600, 12)).astype(np.float32)
    X[drawn.random(X.shape) < 0.1] = np.nan
    X[drawn.random(X.shape) < 0.01] = np.inf
    learnt = np.nan_to_num(X, nan=np.nan, posinf=1e6)
    onnx = export_onnx(build(members, 0).fit(learnt, drawn.uniform(0, 100, len(X))), X.shape[1])
    model = TreeModel.from_onnx(onnx)
    assert model is not None
    read = TreeModel.from_bytes(model.to_bytes())
    for rows in (X, X[:1], X[:0]):
        np.testing.assert_array_equal(read.predict(rows), _runtime(onnx, rows))


def test_what_is_more_than_a_sum_of_trees_is_left_to_the_runtime() -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier

    drawn = np.random.default_rng(3)
    X, y = drawn.normal(size=(80, 3)).astype(np.float32), drawn.uniform(0, 1, 80)
    classifier = HistGradientBoostingClassifier(max_iter=3).fit(X, y > 0.5)
    assert TreeModel.from_onnx(export_probability(classifier, 3)) is None
    for members in (("ridge",), (GRADIENT, "ridge")):
        assert TreeModel.from_onnx(export_onnx(build(members, 0).fit(X, y), 3)) is None


LEAF = {"modes": ["LEAF"], "treeids": [0], "nodeids": [0], "featureids": [0], "values": [0.0]}
ONE = {f"nodes_{name}": value for name, value in LEAF.items()}
ONE |= {"nodes_truenodeids": [0], "nodes_falsenodeids": [0]}
ONE |= {"target_treeids": [0], "target_nodeids": [0], "target_ids": [0], "target_weights": [2.5]}


@pytest.mark.parametrize(
    "other",
    [
        {"aggregate_function": "AVERAGE"},
        {"post_transform": "LOGISTIC"},
        {"nodes_modes": ["BRANCH_LT"]},
        {"n_targets": 2, "target_ids": [1]},
        {"target_treeids": [0, 0], "target_nodeids": [0, 0], "target_ids": [0, 0], "target_weights": [1.0, 2.0]},
        {"nodes_modes": ["BRANCH_LEQ"]},  # its own child
        {"base_values": [1.0, 2.0]},
        {"nodes_missing_value_tracks_true": [1, 0]},
    ],
    ids=str,
)
def test_graphs_that_mean_something_else_are_left_to_the_runtime(other: dict[str, Any]) -> None:
    plain = TreeModel.from_onnx(_graph(ONE, 1))
    assert plain is not None
    assert plain.predict(np.zeros((1, 1), np.float32)).tolist() == [2.5]
    assert TreeModel.from_onnx(_graph(ONE | other, 1)) is None


def test_trees_told_among_one_another_are_left_to_the_runtime() -> None:
    told = {name: value * 3 if name.startswith("nodes_") else value for name, value in ONE.items()}
    told |= {"nodes_treeids": [0, 1, 0], "nodes_nodeids": [0, 0, 1], "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"]}
    assert TreeModel.from_onnx(_graph(told, 1)) is None


def _trees() -> TreeModel:
    from sklearn.ensemble import HistGradientBoostingRegressor

    drawn = np.random.default_rng(3)
    X = drawn.normal(size=(80, 3)).astype(np.float32)
    trees = TreeModel.from_onnx(
        export_onnx(HistGradientBoostingRegressor(max_iter=4, random_state=0).fit(X, drawn.uniform(0, 1, 80)), 3)
    )
    assert trees is not None
    return trees


@pytest.mark.parametrize(
    ("column", "value"),
    [(1, 2 * 3), (1, -1), (2, 0), (2, -5), (2, 1 << 20)],
    ids=["reads beside the row", "reads before it", "goes round", "goes before", "goes beyond"],
)
def test_trees_that_lead_astray_are_refused(column: int, value: int) -> None:
    ((trees, _),) = _trees()._terms
    nodes = trees.nodes.copy()
    nodes[0, column] = value
    with pytest.raises(IntegrityError, match="No trees"):
        TreeEnsemble(nodes, trees.roots, trees.base, trees.columns)


def test_what_is_no_archive_of_trees_is_refused() -> None:
    for content in (b"", b"PK", _trees().to_bytes()[:-40]):
        with pytest.raises(IntegrityError):
            TreeModel.from_bytes(content)


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(IntegrityError, match="Compiled code was given"):
        _trees().predict(np.zeros((1, 4), np.float32))
