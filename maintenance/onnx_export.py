"""A fitted scikit-learn estimator as ONNX, checked to give the same answers."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from backbone.errors import IntegrityError

PARITY_TOLERANCE = 1e-2
"""Largest difference allowed between the two, in RUL units: far below any error that matters."""
_OPSET = {"": 18, "ai.onnx.ml": 3}


def export_onnx(model: Any, columns: int) -> bytes:
    """The model as a graph with one input `features` (n, columns) float32 and one output (n, 1) float32."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    graph = to_onnx(model, initial_types=[("features", FloatTensorType([None, columns]))], target_opset=_OPSET)
    return graph.SerializeToString()


def export_probability(model: Any, columns: int) -> bytes:
    """A classifier of two classes in the same form; the output is the probability of the second one."""
    from onnx import TensorProto, helper, numpy_helper
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    exported = to_onnx(
        model,
        initial_types=[("features", FloatTensorType([None, columns]))],
        target_opset=_OPSET,
        options={"zipmap": False},
    )
    graph = exported.graph
    _, both = (output.name for output in graph.output)
    graph.initializer.append(numpy_helper.from_array(np.array([1], dtype=np.int64), "second_class"))
    graph.node.append(helper.make_node("Gather", [both, "second_class"], ["probability"], axis=1))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None, 1]))
    return exported.SerializeToString()


def onnx_session(onnx: bytes, threads: int) -> Any:
    """A session on the CPU; `threads` 0: as many as the machine has.

    Raises:
        IntegrityError: the bytes are no model this runtime can load.
    """
    # Version 1.32 keeps a device identifier and reports its use unless told not to, before its first import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # An arena takes a megabyte at once, and keeps the most that it ever held; one row's answer takes a few bytes.
    options.enable_cpu_mem_arena = threads != 1
    try:
        return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions share no base of their own
        raise IntegrityError(
            f"The ONNX model does not load: {error}", next_step="Release it again from its training run."
        ) from error


def check_parity(expected: np.ndarray, onnx: bytes, X: np.ndarray, tolerance: float = PARITY_TOLERANCE) -> float:
    """Largest difference between what a model says of all rows of X, (n,), and what its ONNX form does.

    Raises:
        IntegrityError: it exceeds the tolerance.
    """
    exported = onnx_session(onnx, threads=0).run(None, {"features": X})[0][:, 0]
    difference = float(np.abs(expected - exported).max())
    if not difference <= tolerance:
        raise IntegrityError(
            f"The exported model differs from the trained one by up to {difference:.3g}, more than {tolerance:g}.",
            next_step="Leave the candidate out of the class's models, or mend its ONNX form.",
        )
    return difference
