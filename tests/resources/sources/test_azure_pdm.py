"""Microsoft's data set, on files in its form and, where they lie beside the project, on the real ones."""

import shutil
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from backbone.contracts import Contract
from backbone.errors import ConfigurationError, SourceError
from backbone.row_checks import decode, row_check
from backbone.sources import SourceContext
from resources.sources.azure_pdm import COLUMNS, SPEC, read_failures, read_readings
from tests.resources.sources.examples import azure_pdm as example

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "azure_pdm"
real = [pytest.mark.shared, pytest.mark.skipif(not REAL.is_dir(), reason="the data set is not beside the project")]
DAILY = "PdM_telemetry_daily_mean_m1-100.parquet"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    example.context(tmp_path)
    return tmp_path


def by_machine(readings: pa.Table, machine: str) -> list[dict[str, object]]:
    return readings.filter(pc.equal(readings["equipment_id"], machine)).to_pylist()


def test_a_reading_is_the_mean_of_a_day_that_is_over(folder: Path) -> None:
    first, second, _ = by_machine(read_readings(folder), "machine-001")

    assert first["ts"] == datetime(2015, 1, 2, 6, 1, tzinfo=UTC)
    # Of the hours 07:00 to 06:00: the lone one at 06:00 of the first day is no day.
    assert first["volt"] == pytest.approx(170 + np.mean(range(24)))
    assert second["ts"] == datetime(2015, 1, 3, 6, 1, tzinfo=UTC)


def test_what_is_known_at_six_counts_and_what_comes_later_does_not(folder: Path) -> None:
    one, two = (by_machine(read_readings(folder), f"machine-00{n}") for n in (1, 2))

    assert [r["error1"] for r in one] == [1, 0, 0]
    assert [r["error3"] for r in two] == [0, 1, 0]
    assert [round(r["comp4_age"], 2) for r in one] == [170.0, 0.0, 1.0]
    assert [r["comp1_age"] for r in one] == [None, None, None]
    assert {(r["model"], r["years"]) for r in one} == {(3, 18)}


def test_components_that_fail_in_one_hour_are_one_failure(folder: Path) -> None:
    assert read_failures(folder).to_pylist() == [
        {
            "equipment_id": "machine-001",
            "ts": datetime(2015, 1, 3, 6, tzinfo=UTC),
            "event": "failure",
            "failure_mode": "comp1, comp4",
        }
    ]


@pytest.mark.parametrize("cut", [datetime(2015, 1, 2, 12), datetime(2015, 1, 3, 12)])  # noqa: DTZ001 - as in the files
def test_no_reading_changes_when_later_rows_are_gone(folder: Path, cut: datetime) -> None:
    whole = read_readings(folder)
    for part in ("telemetry", "errors", "maint"):
        path = folder / f"PdM_{part}.csv"
        head, *lines = path.read_text().splitlines()
        kept = [line for line in lines if datetime.fromisoformat(line[:19]) <= cut]
        path.write_text("\n".join([head, *kept]) + "\n")

    earlier = read_readings(folder)

    assert earlier.num_rows
    assert earlier.equals(whole.filter(pc.less(whole["ts"], pa.scalar(cut.replace(tzinfo=UTC), whole["ts"].type))))


@pytest.mark.parametrize("part", ["telemetry", "errors", "failures", "maint", "machines"])
def test_a_missing_or_broken_file_is_named(folder: Path, part: str) -> None:
    path = folder / f"PdM_{part}.csv"
    path.write_text("nothing\nof,the,kind\n")

    with pytest.raises(SourceError, match=f"PdM_{part}"):
        read_readings(folder), read_failures(folder)
    path.unlink()
    with pytest.raises(SourceError, match=f"PdM_{part}"):
        read_readings(folder), read_failures(folder)


def test_a_machine_nobody_described_is_named(folder: Path) -> None:
    (folder / "PdM_machines.csv").write_text('"machineID","model","age"\n1,"model3",18\n')

    with pytest.raises(SourceError, match="machine 2"):
        read_readings(folder)


def test_other_content_has_another_name(folder: Path) -> None:
    source = SPEC.open(example.context(folder))
    before = [b.txn for b in source.batches(None, datetime(2030, 1, 1, tzinfo=UTC))]
    path = folder / "PdM_telemetry.csv"
    path.write_text(path.read_text().replace("100.5", "101.5"))

    after = [b.txn for b in source.batches(None, datetime(2030, 1, 1, tzinfo=UTC))]

    assert len(after) == len(before) > 0
    assert not set(after) & set(before)


def test_a_calendar_that_does_not_cover_it_is_said(folder: Path) -> None:
    context = example.context(folder)
    late = SourceContext(
        "late", context.telemetry, context.maintenance, date(2015, 1, 3), None, folder, {"directory": str(folder)}
    )

    with pytest.raises(ConfigurationError, match="first_day = 2015-01-02"):
        list(SPEC.open(late).batches(None, datetime(2016, 1, 1, tzinfo=UTC)))


class TestRealFiles:
    pytestmark = real

    def test_all_of_it_is_read_and_holds_its_contract(self, contracts: dict[str, Contract]) -> None:
        readings, failures = read_readings(REAL), read_failures(REAL)

        assert (readings.num_rows, failures.num_rows) == (36_500, 719)
        check = row_check(contracts["azure_machine"])
        refused = check(decode(contracts["azure_machine"], readings), date(2015, 1, 1), date(2016, 1, 2))
        assert refused.null_count == readings.num_rows
        assert pc.max(failures["ts"]).as_py() < pc.max(readings["ts"]).as_py()

    def test_hourly_telemetry_gives_the_same_as_daily_means(self, tmp_path: Path) -> None:
        for part in ("errors", "failures", "maint", "machines"):
            shutil.copy(REAL / f"PdM_{part}.csv", tmp_path)
        hourly = pq.read_table(REAL / "PdM_telemetry_hourly_m1-20_2015Q1.parquet")
        text = pc.strftime(hourly["datetime"].cast(pa.timestamp("s")), "%Y-%m-%d %H:%M:%S")
        pacsv.write_csv(hourly.set_column(0, "datetime", text), tmp_path / "PdM_telemetry.csv")

        mine, all_of_it = read_readings(tmp_path), read_readings(REAL)

        key = pc.binary_join_element_wise(mine["equipment_id"], pc.cast(mine["ts"], pa.string()), "|")
        theirs = pc.binary_join_element_wise(all_of_it["equipment_id"], pc.cast(all_of_it["ts"], pa.string()), "|")
        same = all_of_it.filter(pc.is_in(theirs, value_set=key.combine_chunks()))
        assert mine.num_rows == same.num_rows == 20 * 89
        for column in COLUMNS:
            np.testing.assert_allclose(mine[column].to_numpy(), same[column].to_numpy(), rtol=1e-9)
