"""The days after a blocked one do not rest on its readings; once it is mended, they do."""

from collections.abc import Iterator
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from backbone.windows import WindowRange
from hybrid_assets.features import newest_of_each_day, plant_readings, serving_baseline, stored_features
from maintenance.condition_features import compute_features
from maintenance.equipment_class import EquipmentClass, equipment_class_from_contract
from resources.home import Home
from resources.plant import Plant
from tests.scenarios.installation import Installation
from tests.scenarios.next_day import DAY, next_day
from tests.scenarios.played_daemon import PlayedDaemon, played_daemon
from tests.scenarios.test_bad_day import answered, until_idle

AFTER = DAY + timedelta(days=1)


@pytest.fixture
def daemon(fed_by_files: Installation) -> Iterator[tuple[PlayedDaemon, Home]]:
    with played_daemon(fed_by_files.home) as daemon:
        yield daemon, fed_by_files.home


def shaken(rows: pa.Table) -> pa.Table:
    """The readings with more vibration, each of which can be."""
    name = "vibration_mm_s"
    return rows.set_column(rows.column_names.index(name), name, pc.add(rows[name], 1.5))


def from_scratch(plant: Plant, cls: EquipmentClass, day: date) -> np.ndarray:
    """A day's features, as they are stored, from all readings that no check has blocked, without any checkpoint."""
    readings, _ = plant_readings(plant, cls)
    features, _ = compute_features(cls, serving_baseline(plant, cls), readings)
    mine = features.take(features.rows.ts.astype("datetime64[D]") == np.datetime64(day))
    return newest_of_each_day(mine).matrix.astype(np.float32)


@pytest.mark.slow
def test_days_after_it_are_served_again_without_it_and_once_mended_with_it(
    daemon: tuple[PlayedDaemon, Home],
) -> None:
    played, home = daemon
    plant, drop = played.plant(), home.drop_folder("north", "pump")
    cls = equipment_class_from_contract(plant.catalog.contracts["pump"])
    last = plant.table("pump", "telemetry").read("north", DAY - timedelta(days=1), DAY - timedelta(days=1))
    rows = next_day(last)
    machines = sorted(set(rows["equipment_id"].to_pylist()))
    silent = pc.is_in(rows["equipment_id"], value_set=pa.array(machines[: len(machines) // 2]))
    pq.write_table(shaken(rows.filter(pc.invert(silent))), drop / "half.parquet")
    assert played.run("pump_landing") == ["pump_serve"]
    pq.write_table(next_day(rows), drop / "after.parquet")
    assert played.run("pump_landing") == ["pump_serve"]

    def features() -> np.ndarray:
        return stored_features(plant, cls, WindowRange("north", AFTER, AFTER))[0].matrix

    resting_on_it = features()
    np.testing.assert_array_equal(resting_on_it, from_scratch(plant, cls, AFTER))

    assert "pump_fallback" in until_idle(played, "pump_quality")
    assert list(plant.verdicts("pump").blocked()) == [DAY]
    assert played.run("pump_landing") == ["pump_score"], (
        "stored already, and answered, but on readings that are blocked"
    )
    np.testing.assert_array_equal(features(), from_scratch(plant, cls, AFTER))
    assert not np.array_equal(features(), resting_on_it, equal_nan=True)
    assert answered(played, DAY)[1] == {"blocked"}
    assert "model:v1" in answered(played, AFTER)[0]
    assert played.run("pump_landing") == []
    assert until_idle(played, "pump_quality") == ["pump_quality"], "what was served again is judged again"
    assert list(plant.verdicts("pump").blocked()) == [DAY]

    pq.write_table(rows.filter(silent), drop / "rest.parquet")
    assert played.run("pump_landing") == ["pump_serve"]
    until_idle(played, "pump_quality")
    assert not plant.verdicts("pump").blocked()
    assert played.run("pump_landing") == ["pump_score"]
    np.testing.assert_array_equal(features(), from_scratch(plant, cls, AFTER))
    assert played.run("pump_landing") == []
