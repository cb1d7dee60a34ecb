"""SKAB's files, on some in their form and, where they lie beside the project, on the real ones."""

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from backbone.contracts import Contract
from backbone.errors import ConfigurationError, SourceError
from backbone.row_checks import decode, row_check
from backbone.sources import SourceContext
from resources.sources.skab import SPEC, read_experiments
from tests.resources.sources.examples import skab as example

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "skab"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    example.context(tmp_path)
    return tmp_path


def test_every_experiment_below_a_folder_is_read_with_its_labels(folder: Path) -> None:
    (folder / "notes.csv").write_text("who,what\nme,nothing\n")

    first, second = read_experiments(folder)

    assert (first.name, second.name) == ("valve1-0", "valve1-1")
    assert first.readings.num_rows == 30
    assert first.anomalous is not None
    assert first.anomalous.tolist() == [False] * 20 + [True] * 10
    assert "anomaly" not in first.readings.column_names


def test_a_file_without_labels_is_read_without(folder: Path) -> None:
    (folder / "anomaly-free").mkdir()
    lines = (folder / "valve1" / "0.csv").read_text().splitlines()
    quiet = "\n".join(line.rsplit(";", 2)[0] for line in lines)
    (folder / "anomaly-free" / "anomaly-free.csv").write_text(quiet + "\n")

    free, *labelled = read_experiments(folder)

    assert free.anomalous is None
    assert free.readings.drop_columns("equipment_id").equals(labelled[0].readings.drop_columns("equipment_id"))


def test_nothing_to_read_or_a_broken_file_is_said(folder: Path) -> None:
    with pytest.raises(SourceError, match="no directory"):
        read_experiments(folder / "valve9")
    (folder / "empty").mkdir()
    with pytest.raises(SourceError, match="has the columns"):
        read_experiments(folder / "empty")
    broken = folder / "valve1" / "1.csv"
    broken.write_text(broken.read_text().replace("1.3302", "much", 1))
    with pytest.raises(SourceError, match=r"1\.csv is no experiment"):
        read_experiments(folder)


def test_other_content_has_another_name(folder: Path) -> None:
    source = SPEC.open(example.context(folder))
    before = [b.txn for b in source.batches(None, datetime(2030, 1, 1, tzinfo=UTC))]
    path = folder / "valve1" / "0.csv"
    path.write_text(path.read_text().replace("233.1", "233.2"))

    after = [b.txn for b in source.batches(None, datetime(2030, 1, 1, tzinfo=UTC))]

    assert len(after) == len(before) > 0
    assert not set(after) & set(before)


def test_a_calendar_that_does_not_cover_it_is_said(folder: Path) -> None:
    context = example.context(folder)
    late = SourceContext(
        "late", context.telemetry, context.maintenance, date(2021, 1, 1), None, folder, {"directory": str(folder)}
    )

    with pytest.raises(ConfigurationError, match="first_day = 2020-03-09"):
        list(SPEC.open(late).batches(None, datetime(2022, 1, 1, tzinfo=UTC)))


@pytest.mark.shared
@pytest.mark.skipif(not REAL.is_dir(), reason="SKAB's files are not beside the project")
def test_the_real_files_are_read_and_hold_their_contract(contracts: dict[str, Contract]) -> None:
    experiments = read_experiments(REAL)
    check = row_check(contracts["pump_testbed"])

    assert len(experiments) == 17
    assert sum(e.anomalous is None for e in experiments) == 1
    for experiment in experiments:
        rows = decode(contracts["pump_testbed"], experiment.readings)
        assert check(rows, date(2020, 1, 1), date(2020, 12, 31)).null_count == rows.num_rows
        if experiment.anomalous is not None:
            assert not experiment.anomalous[:400].any()
            assert 0.2 < np.mean(experiment.anomalous) < 0.5
