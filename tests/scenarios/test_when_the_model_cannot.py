"""When the newest release cannot be trusted, an older one or the rules answer, and say so."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from quality.reconciliation import reconcile
from tests.scenarios.installation import Installation


def newest(installation: Installation) -> pa.Table:
    day = max(d for d, _, _ in reconcile(installation.plant(), "pump"))
    installation.hybrid("run", "--site", "north", "--from", str(day), "--to", str(day))
    return installation.plant().advisories("pump").read("north", day, day)


def registry(installation: Installation) -> Path:
    return installation.home.store("on_prem") / "pump" / "registry" / "north"


@pytest.mark.parametrize("tampering", ["corrupt", "unsigned"])
def test_a_release_that_does_not_verify_is_answered_by_the_rules(
    copied: Callable[[], Installation], tampering: str
) -> None:
    installation = copied()
    release = registry(installation) / "v0001"
    if tampering == "corrupt":
        model = release / "bundle" / "model.onnx"
        model.write_bytes(model.read_bytes()[:-20] + b"x" * 20)
    else:
        (release / "bundle.sig").unlink()
    rows = newest(installation)
    assert set(rows["served_by"].to_pylist()) == {"rules"}
    assert set(rows["fallback_reason"].to_pylist()) == {"unverified"}
    assert all(rows["degraded"].to_pylist())
    findings = installation.hybrid("doctor", ok=False)["findings"]
    assert any(f["level"] == "wrong" and "verif" in f["found"] + f["next_step"] for f in findings)


@pytest.mark.slow
def test_nightly_training_makes_no_release_that_is_no_better(copied: Callable[[], Installation]) -> None:
    """The same data again gives the same model, which is no better than itself; the release stays."""
    installation = copied()
    report = installation.hybrid("run", "--site", "north", "--train")
    assert [s["step"] for s in report["steps"]] == ["train"]
    assert report["fleets"]["pump"]["releases"] == 1
    plant = installation.plant()
    documents = plant.evaluations("pump")
    assert documents.current() is not None
    assert '"passed": false' in documents.get(str(documents.current()))
