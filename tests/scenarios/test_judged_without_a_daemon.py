"""`hybrid run` judges what it served: a bad day is answered by the rules before the command ends."""

import time
from datetime import timedelta

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from resources.plant import Plant
from resources.state.verdicts import WHOLE, Verdict
from resources.stores.fingerprints import fingerprint, fingerprints
from sensors.quality import unjudged
from tests.scenarios.installation import Installation
from tests.scenarios.next_day import DAY, next_day
from tests.scenarios.test_quality_sensor import PRODUCTS


def judged_by_hand(plant: Plant) -> None:
    """Verdicts on all that is stored, so that only what comes later is due."""
    now = plant.clock.now()
    verdicts = [
        Verdict(product, day, content, "passed", {}, "by hand", now)
        for product in PRODUCTS
        for day, content in fingerprints(plant.table("pump", product), "north").items()
    ]
    for product in WHOLE:
        content = fingerprint(plant.table("pump", product), "north")
        verdicts.append(Verdict(product, plant.site.first_day, str(content), "passed", {}, "by hand", now))
    plant.verdicts("pump").record(verdicts)


@pytest.mark.slow
def test_a_bad_day_is_blocked_and_answered_and_no_worker_is_left(fed_by_files: Installation) -> None:
    installation = fed_by_files
    drop = installation.home.drop_folder("north", "pump")
    plant = installation.plant()
    judged_by_hand(plant)
    rows = next_day(plant.table("pump", "telemetry").read("north", DAY - timedelta(days=1), DAY - timedelta(days=1)))
    machines = sorted(set(rows["equipment_id"].to_pylist()))
    silent = pc.is_in(rows["equipment_id"], value_set=pa.array(machines[: len(machines) // 2]))
    pq.write_table(rows.filter(pc.invert(silent)), drop / "half.parquet")

    told = installation.hybrid("run", "--site", "north", checks=True)
    assert told["fleets"]["pump"]["windows_blocked"] == 1
    plant = installation.plant()
    answered = plant.advisories("pump").read("north", DAY, DAY)
    assert set(answered["fallback_reason"].to_pylist()) == {"blocked"}
    assert unjudged(plant, "pump", [*PRODUCTS, *WHOLE]) == {}, "what the rules answered is judged as well"
    deadline = time.monotonic() + 30
    while _served(installation):
        assert time.monotonic() < deadline, "a quality worker goes on"

    again = installation.hybrid("run", "--site", "north", checks=True)
    assert again["fleets"]["pump"]["windows_blocked"] == 1
    assert not list(installation.home.quality.glob("worker-*.sock")), "nothing was new, and nobody was asked"


def test_every_document_has_its_check_in_the_run_that_made_it(served: Installation) -> None:
    with dg.DagsterInstance.from_config(str(served.home.dagster)) as instance:
        for document, figure in {
            "operating_baseline": "fields",
            "trained_model": "rmse",
            "model_evaluation": "rules_rmse",
            "model_release": "version",
        }.items():
            asset = dg.AssetKey(["pump", document])
            key = dg.AssetCheckKey(asset, "holds_contract")
            (record,) = instance.event_log_storage.get_asset_check_execution_history(key, limit=5)
            event = record.event.dagster_event if record.event else None
            assert event is not None, document
            found = event.asset_check_evaluation_data
            assert (found.passed, record.partition) == (True, "north"), document
            assert figure in found.metadata, document
            made = instance.get_latest_materialization_event(asset)
            assert made is not None
            assert record.run_id == made.run_id, document


def _served(installation: Installation) -> bool:
    """Whether a worker holds its lock still: one that has ended lets go of it."""
    import filelock

    for path in installation.home.quality.glob("worker-*.lock"):
        try:
            with filelock.FileLock(path, timeout=0.2):
                pass
        except filelock.Timeout:
            return True
    return False
