"""`hybrid evaluate` on public data: files made up in their form, and the real ones where they lie beside this."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.resources.sources.examples.skab import HEADER

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def hybrid(*arguments: str) -> dict[str, float]:
    done = CliRunner().invoke(app, ["evaluate", *arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return dict(json.loads(done.stdout))


def experiment(path: Path, *, fault: float, labelled: bool = True, rows: int = 700, seed: int = 0) -> None:
    """Sensors at rest, and from row 550 on a flow and a vibration that stand `fault` deviations elsewhere."""
    random = np.random.default_rng(seed)
    begins = datetime(2020, 3, 9, 10, tzinfo=UTC)
    values = random.normal([0.03, 0.04, 1.3, 0.5, 79, 26, 230, 32], [0.002, 0.002, 0.1, 0.2, 0.2, 0.1, 5, 1], (rows, 8))
    values[550:] += fault * np.array([0.002, 0, 0, 0, 0, 0, 0, -1])
    labels = (np.arange(rows) >= 550).astype(float)
    lines = [
        ";".join([f"{begins + timedelta(seconds=n):%F %T}", *map(str, values[n].tolist())])
        + (f";{labels[n]};0.0" if labelled else "")
        for n in range(rows)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([HEADER if labelled else HEADER.rsplit(";", 2)[0], *lines]) + "\n")


def test_skab_learns_from_each_file_and_pools_what_it_finds(tmp_path: Path) -> None:
    experiment(tmp_path / "valve2" / "0.csv", fault=8, seed=1)
    experiment(tmp_path / "other" / "deep" / "9.csv", fault=6, seed=2)
    experiment(tmp_path / "anomaly-free" / "anomaly-free.csv", fault=0, labelled=False, seed=3)
    (tmp_path / "other" / "index.csv").write_text("a,b\n1,2\n")

    figures = hybrid("skab", str(tmp_path))

    assert figures["experiments"] == 2
    assert figures["readings_tested"] == 600
    assert figures["f1"] > 0.9
    assert figures["far_pct"] < 10
    assert figures["mar_pct"] < 10
    assert figures["unlabelled_far_pct"] < 10
    assert figures["f1_always"] == pytest.approx(2 * 150 / (2 * 150 + 150))


def test_skab_sees_nothing_where_nothing_is(tmp_path: Path) -> None:
    experiment(tmp_path / "0.csv", fault=0)

    figures = hybrid("skab", str(tmp_path))

    assert figures["mar_pct"] > 90
    assert figures["far_pct"] < 10
    assert figures["unlabelled_far_pct"] is None


def test_skab_without_labels_or_with_short_files_is_an_error(tmp_path: Path) -> None:
    experiment(tmp_path / "0.csv", fault=8, labelled=False)
    experiment(tmp_path / "1.csv", fault=8, rows=400)

    done = CliRunner().invoke(app, ["evaluate", "skab", str(tmp_path)])

    assert "None of 2 experiments has labels and more than 400 readings" in str(done.exception)


def azure(folder: Path, machines: int = 6) -> None:
    """A year of machines that raise error 1 a day before they fail at 06:00, every thirty days or so, and shake."""
    random = np.random.default_rng(0)
    begins = np.datetime64("2015-01-01T06", "h")
    hours = begins + np.arange(365 * 24 + 1)
    telemetry, errors, failures, replaced = [], [], [], []
    for machine in range(1, machines + 1):
        vibration = random.normal(40, 5, len(hours))
        day = int(random.integers(10, 40))
        while day < 365:
            fails = begins + day * 24
            errors.append(f'{_said(fails - 24)},{machine},"error1"')
            failures.append(f'{_said(fails)},{machine},"comp1"')
            replaced.append(f'{_said(fails)},{machine},"comp1"')
            vibration[(hours > fails - 48) & (hours <= fails)] += 12
            day += int(random.integers(20, 45))
        telemetry += [
            f"{_said(at)},{machine},170.0,450.0,100.0,{shake:.3f}" for at, shake in zip(hours, vibration, strict=True)
        ]
    heads = {
        "telemetry": "datetime,machineID,volt,rotate,pressure,vibration",
        "errors": "datetime,machineID,errorID",
        "failures": "datetime,machineID,failure",
        "maint": "datetime,machineID,comp",
        "machines": "machineID,model,age",
    }
    described = [f'{machine},"model1",{machine}' for machine in range(1, machines + 1)]
    rows = {"telemetry": telemetry, "errors": errors, "failures": failures, "maint": replaced, "machines": described}
    for part, head in heads.items():
        (folder / f"PdM_{part}.csv").write_text("\n".join([head, *rows[part]]) + "\n")


def _said(at: np.datetime64) -> str:
    return str(at.astype("datetime64[s]")).replace("T", " ")


def test_azure_foretells_what_announces_itself(tmp_path: Path) -> None:
    azure(tmp_path)

    figures = hybrid("azure-pdm", str(tmp_path))

    # A failure is announced on the day before, and nothing tells of it two days before: half of the positives.
    assert figures["pr_auc_48h"] > 8 * figures["positive_share_48h"]
    assert figures["pr_auc_48h"] > 0.45
    assert figures["recall_at_0_1_false_alarms_per_machine_month"] > 0.9
    assert figures["pr_auc_96h"] < figures["pr_auc_48h"]
    assert 0.04 < figures["positive_share_48h"] < 0.09
    assert max(figures["onnx_max_abs_diff_48h"], figures["onnx_max_abs_diff_96h"]) < 1e-3
    assert figures["failures"] > 12


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "skab").is_dir(), reason="SKAB's files are not beside the project (../shared)")
def test_skab_holds_what_the_project_promises() -> None:
    figures = hybrid("skab", str(DATA / "skab"))

    assert figures["experiments"] == 16
    assert figures["f1"] >= 0.80
    assert figures["far_pct"] <= 30


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "azure_pdm").is_dir(), reason="the data set is not beside the project (../shared)")
def test_azure_holds_what_the_project_promises() -> None:
    figures = hybrid("azure-pdm", str(DATA / "azure_pdm"))

    assert figures["pr_auc_48h"] >= 0.78
    # Higher would be too good: it was known a day early (0.98 with telemetry dated by its own day).
    assert figures["pr_auc_48h"] <= 0.9
    assert figures["pr_auc_96h"] >= 0.6
    assert figures["recall_at_0_1_false_alarms_per_machine_month"] >= 0.9
