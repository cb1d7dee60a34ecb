"""Compiled kernels from a library and through Numba; arrays that compiled code must not be given."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from backbone.errors import IntegrityError
from maintenance import compiled_kernels, kernel_code
from maintenance.baseline import fit_baseline
from maintenance.condition_features import compute_features
from maintenance.incremental_features import IncrementalFeatures
from maintenance.link_kernels import link
from tests.maintenance.test_incremental_features import CLASSES, by_reading, same_states
from tests.maintenance.ugly import Ugliness, ugly_readings

ROOT = Path(__file__).parents[2]
UGLY = Ugliness(missing=0.05, fallen_silent=0.05, stuck=0.05, infinite=0.02)


@pytest.mark.skipif(not kernel_code.library_path().is_file(), reason="make install has linked no library here")
@pytest.mark.parametrize(
    ("state", "heavy"),
    [("state", "[]"), ("FeatureState.from_arrow(cls, baseline.id, state.to_arrow())", "['pyarrow']")],
)
def test_a_process_that_takes_in_readings_loads_neither_compiler_nor_dataframes(state: str, heavy: str) -> None:
    code = f"""
import sys
import numpy as np
from benchmarks.features import SENSORS, _baseline, equipment_class
from maintenance.feature_state import FeatureState
from maintenance.incremental_features import IncrementalFeatures

cls, one = equipment_class(), np.ones(1, dtype=np.int64)
baseline = _baseline(cls, np.zeros((3, SENSORS)))
live = IncrementalFeatures(cls, baseline)
live.take(one * live.slot("m0"), one, one, np.zeros((1, SENSORS + 1)))
state = live.checkpoint()
IncrementalFeatures(cls, baseline, {state}).take(one * 0, one + 1, one, np.zeros((1, SENSORS + 1)))
print(sorted({{name.partition(".")[0] for name in sys.modules}} & {{"numba", "llvmlite", "pyarrow", "pandas"}}))
"""
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == heavy


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_a_library_computes_what_numba_computes_to_the_last_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link(tmp_path / "kernels.so", "cc")
    computed = []
    for entries in (kernel_code.from_library(tmp_path / "kernels.so"), kernel_code.from_numba()):
        for name, entry in entries.items():
            monkeypatch.setattr(compiled_kernels, name, entry)
        for cls in CLASSES.values():
            readings = ugly_readings(cls, 7, UGLY)
            baseline = fit_baseline(cls, readings)
            whole, last = compute_features(cls, baseline, readings)
            single, live = by_reading(cls, baseline, readings, restarts=2)
            np.testing.assert_array_equal(single, whole.matrix)
            same_states(live, last)
            computed.append(whole.matrix)
    half = len(CLASSES)
    for linked, through_numba in zip(computed[:half], computed[half:], strict=True):
        np.testing.assert_array_equal(linked, through_numba)


def test_a_library_is_for_one_processor_and_one_text_of_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = kernel_code.library_path()
    monkeypatch.setattr(kernel_code, "_processor", lambda: "another")
    elsewhere = kernel_code.library_path()
    for name in kernel_code.SOURCES:
        shutil.copy(kernel_code.HERE / name, tmp_path)
    monkeypatch.setattr(kernel_code, "HERE", tmp_path)
    same = kernel_code.library_path()
    with (tmp_path / kernel_code.SOURCES[-1]).open("a") as source:
        source.write("\n")

    assert here.name != elsewhere.name == same.name != kernel_code.library_path().name


@pytest.mark.parametrize(
    "wrong",
    [
        {"values": np.zeros((1, 3), dtype=np.float32)},
        {"values": np.zeros((1, 2))},
        {"values": np.zeros((2, 3))},
        {"values": np.zeros((1, 6))[:, ::2]},
        {"ts_us": np.zeros(1)},
        {"slots": np.zeros(1, dtype=np.int32)},
        {"out": np.zeros((1, 5))},
        {"out": np.broadcast_to(0.0, (1, 5))},
    ],
    ids=lambda wrong: "-".join(f"{k} {a.dtype} {a.shape}" for k, a in wrong.items()),
)
def test_arrays_of_another_type_or_shape_are_refused_and_change_nothing(wrong: dict[str, np.ndarray]) -> None:
    cls = CLASSES["few"]
    readings = ugly_readings(cls, 1, Ugliness(), machines=2, lives=1)
    baseline = fit_baseline(cls, readings)
    live = IncrementalFeatures(cls, baseline)
    one = np.zeros(1, dtype=np.int64)
    right = {"slots": one + live.slot("m0"), "ts_us": one, "life": one, "values": readings.values[:1].copy()}

    with pytest.raises(IntegrityError, match="Compiled code was given"):
        live.take(**(right | wrong))

    assert not len(live.checkpoint())
    live.take(**right)
    assert len(live.checkpoint()) == 1
