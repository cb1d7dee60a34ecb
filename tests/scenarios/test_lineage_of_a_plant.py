"""What a plant's runs tell the world: valid events, in which every advisory can be followed back to its readings."""

import copy
from collections import Counter
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from backbone.contracts import schema_fields
from backbone.lineage.events import canonical
from hybrid_assets.fleet import Fleet
from maintenance.equipment_class import equipment_class_from_contract
from resources.plant import Catalog
from tests.openlineage_validator import assert_valid
from tests.scenarios.installation import Installation
from tests.scenarios.lineage import (
    Event,
    assert_what_is_read_was_written,
    events_of_home,
    inputs,
    of_asset,
    runs_of_home,
    version,
)

pytestmark = pytest.mark.timeout(900)
"""The plant is served once, by whoever asks first; the validator takes a while over a thousand events."""

FIRST_WINDOW, WINDOW = "2025-01-01|north", "2025-02-10|north"
NEWEST = date(2025, 3, 1)


@pytest.fixture(scope="session")
def told(served_once: tuple[Installation, object]) -> list[Event]:
    """Events of a plant that has taken up, trained, released and served sixty windows."""
    return events_of_home(served_once[0].home)


@pytest.fixture
def fleet(served: Installation) -> Fleet:
    catalog = Catalog(served.home)
    cls = equipment_class_from_contract(catalog.contracts["pump"])
    return Fleet(cls, tuple(catalog.with_class("pump")), catalog.contracts)


def thinned(events: list[Event]) -> list[Event]:
    """All events; a job's column lineage, which is long and the same each time, in the first that has it only."""
    found, seen = copy.deepcopy(events), set()
    for event in found:
        for made in event["outputs"]:
            if event["job"]["name"] in seen:
                made["facets"].pop("columnLineage", None)
            elif "columnLineage" in made["facets"]:
                seen.add(event["job"]["name"])
    return found


def one(events: list[Event]) -> Event:
    (event,) = events
    return event


def test_events_hold_the_standard_and_our_schemas(told: list[Event], tmp_path: Path) -> None:
    """All but those of windows that are like others."""
    some = (FIRST_WINDOW, WINDOW, f"{NEWEST}|north")
    partitions = [e["run"]["facets"]["hybrid_run"].get("partition") for e in told]
    assert len({p for p in partitions if p is not None and "|" in p}) == 60
    few = [e for e, p in zip(told, partitions, strict=True) if p is None or "|" not in p or p in some]
    assert_valid(thinned(few), tmp_path)
    kinds = Counter(e["run"]["facets"]["hybrid_run"]["kind"] for e in told)
    assert kinds["asset"] == 2 * (3 * 60 + 5 + 5 * 60)
    assert Counter(e["run"]["facets"]["hybrid_run"]["kind"] for e in few)["asset"] == 2 * (3 * 3 + 5 + 5 * 3)


@pytest.mark.slow
def test_every_event_holds_the_standard_and_our_schemas(told: list[Event], tmp_path: Path) -> None:
    assert_valid(thinned(told), tmp_path)


def test_an_advisory_is_followed_to_its_readings_by_versions(told: list[Event]) -> None:
    advised = one(of_asset(told, "pump/advisories", window=WINDOW))
    forecast = one(of_asset(told, "pump/prognoses", window=WINDOW))
    features = one(of_asset(told, "pump/condition_features", window=WINDOW))
    stored = one(of_asset(told, "pump/telemetry", window=WINDOW))
    assert set(inputs(advised)) == {"pump/prognoses", "pump/rule_assessments"}
    assert version(inputs(advised)["pump/prognoses"]) == version(forecast["outputs"][0])
    assert version(inputs(forecast)["pump/condition_features"]) == version(features["outputs"][0])
    assert version(inputs(features)["pump/telemetry"]) == version(stored["outputs"][0])
    landed = inputs(stored)["north/telemetry"]
    batches = landed["inputFacets"]["hybrid_offsets"]["batches"]
    assert any("2025-02-10" in batch["batch"] for batch in batches)
    rows = stored["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"]
    assert sum(batch["rows"] for batch in batches) == rows
    assert landed["facets"]["lineage"]["inputs"] == [
        {"namespace": "simulator://", "name": "north/pump", "type": "DATASET"}
    ]


def test_a_prognosis_is_followed_to_the_training_data_of_its_release(told: list[Event]) -> None:
    forecast = one(of_asset(told, "pump/prognoses", window=WINDOW))
    release = one(of_asset(told, "pump/model_release"))
    trained = one(of_asset(told, "pump/trained_model"))
    learnt_from = one(of_asset(told, "pump/training_set"))
    model = release["outputs"][0]
    assert model["facets"]["datasetType"]["datasetType"] == "MODEL"
    assert version(inputs(forecast)["registry/north"]) == version(model) == "1"
    training_run = trained["run"]["facets"]["hybrid_run"]["dagsterRunId"]
    assert model["facets"]["hybrid_model"]["trainingRun"] == training_run
    assert version(inputs(release)["trained_model/north"]) == version(trained["outputs"][0]) == training_run
    assert version(inputs(trained)["pump/training_set"]) == version(learnt_from["outputs"][0])
    assert {"pump/telemetry", "pump/maintenance_history"} <= set(inputs(learnt_from))


def test_every_version_that_is_read_was_written_before(told: list[Event]) -> None:
    assert_what_is_read_was_written(told)


def test_what_is_read_and_written_is_counted_in_bytes_and_files(told: list[Event]) -> None:
    made = [d for e in told if e["eventType"] == "COMPLETE" for d in e["outputs"] if "version" in d["facets"]]
    counts = [d["outputFacets"]["outputStatistics"] for d in made]
    assert all((c["size"] > 0) == (c["fileCount"] > 0) == (c.get("rowCount", 1) > 0) for c in counts)
    stored = one(of_asset(told, "pump/telemetry", window=WINDOW))["outputs"][0]
    files = list(Path(stored["name"]).glob("site=north/date=2025-02-10/*.parquet"))
    size = stored["outputFacets"]["outputStatistics"]["size"]
    assert size == sum(file.stat().st_size for file in files)
    features = inputs(one(of_asset(told, "pump/condition_features", window=WINDOW)))["pump/telemetry"]
    read = features["inputFacets"].get("inputStatistics")
    assert read is None or read["size"] == size
    learnt_from = inputs(one(of_asset(told, "pump/training_set")))["pump/telemetry"]["inputFacets"]["inputStatistics"]
    assert learnt_from["size"] > size
    assert learnt_from["fileCount"] >= 60


def test_every_run_says_what_its_process_had(told: list[Event]) -> None:
    ends = [e for e in told if e["run"]["facets"]["hybrid_run"]["kind"] == "run" and e["eventType"] == "COMPLETE"]
    assert ends
    for event in ends:
        variables = event["run"]["facets"]["environmentVariables"]["environmentVariables"]
        assert "HYBRID_HOME" in {variable["name"] for variable in variables}


def test_schemas_are_those_of_the_contracts(told: list[Event], fleet: Fleet) -> None:
    made_here = {asset: contract for asset, contract in fleet.contracts.items() if asset != "dead_letters"}
    for asset, contract in made_here.items():  # the plant has no gateway
        made = of_asset(told, f"pump/{asset}")
        assert made, asset
        facet = made[0]["outputs"][0]["facets"]["schema"]
        fields = [{k: v for k, v in f.items() if k != "ordinal_position"} for f in facet["fields"]]
        assert fields == schema_fields(contract)
        assert made[0]["outputs"][0]["facets"]["hybrid_contract"]["contract"] == contract.id


def test_columns_come_from_columns_that_exist(told: list[Event], fleet: Fleet) -> None:
    columns = {f"pump/{asset}": {c.name for c in contract.columns} for asset, contract in fleet.contracts.items()}
    told_of = set()
    for event in told:
        for made in event["outputs"] if event["eventType"] == "COMPLETE" else ():
            facet = made["facets"].get("columnLineage", {"fields": {}})
            known = inputs(event)
            for column, sources in facet["fields"].items():
                told_of.add((event["job"]["name"], column))
                assert column in columns[event["job"]["name"]]
                for source in sources["inputFields"]:
                    symlink = next(d for d in known.values() if d["name"] == source["name"])["facets"]["symlinks"]
                    upstream = symlink["identifiers"][0]["name"]
                    if not upstream.startswith("pump/landing"):
                        assert source["field"] in columns[upstream], (upstream, source["field"])
    assert ("pump/advisories", "rul") in told_of
    assert ("pump/condition_features", "vibration_mm_s.last") in told_of


def test_what_crossed_a_zone_and_where_work_was_placed_is_told(told: list[Event]) -> None:
    stored = one(of_asset(told, "pump/telemetry", window=WINDOW))["run"]["facets"]
    (crossing,) = stored["hybrid_crossings"]["crossings"]
    assert crossing["from"].startswith("edge:")
    assert crossing["to"].startswith("on_prem:")
    trained = one(of_asset(told, "pump/trained_model"))["run"]["facets"]
    assert trained["hybrid_placement"]["location"] == "cloud"
    assert any(c["rejected"] for c in trained["hybrid_placement"]["candidates"])
    assert [c["what"] for c in trained["hybrid_crossings"]["crossings"]] == ["pump/training_set"]
    released = one(of_asset(told, "pump/model_release"))["run"]["facets"]
    assert [c["what"] for c in released["hybrid_crossings"]["crossings"]] == ["pump/model_release"]


def test_who_answered_is_told(told: list[Event]) -> None:
    answer = one(of_asset(told, "pump/advisories", window=WINDOW))["run"]["facets"]["hybrid_answer"]
    assert answer["servedBy"] == {"model:v1": answer["rows"]}
    assert (answer["degraded"], answer["fallbackReasons"], answer["holds"]) == (0, {}, True)
    asked = one(of_asset(told, "pump/prognoses", window=WINDOW))["run"]["facets"]["hybrid_answer"]
    assert set(asked["releases"]) == {"1"}


def test_quarantined_rows_are_a_data_set_of_their_own(told: list[Event]) -> None:
    refused = of_asset(told, "pump/telemetry_quarantine")
    rows = [e["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] for e in refused]
    assert sum(rows) > 0
    step = one(of_asset(told, "pump_ingestion"))
    pairs = {Path(e["name"]).name: e["inputs"] for e in step["job"]["facets"]["lineage"]["entries"]}
    assert [Path(d["name"]).name for d in pairs["telemetry"]] == ["telemetry"]
    assert [Path(d["name"]).name for d in pairs["maintenance_history"]] == ["maintenance"]
    assert len(pairs["telemetry_quarantine"]) == 2


def test_jobs_say_whose_they_are_and_where_they_are_written(told: list[Event]) -> None:
    job = one(of_asset(told, "pump/advisories", window=WINDOW))["job"]["facets"]
    assert job["ownership"]["owners"] == [{"name": "team:reliability", "type": "OWNER"}]
    assert job["sourceCodeLocation"]["path"] == "hybrid_assets/assets/advisories.py"
    assert job["jobType"]["jobType"] == "ASSET"
    assert "rules" in job["documentation"]["description"]


@pytest.mark.slow
def test_failover_and_a_failed_run_that_the_rules_stand_in_for(
    copied: Callable[[], Installation], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "v3ry-secret-indeed"  # noqa: S105
    monkeypatch.setenv("HYBRID_BROKER_PASSWORD", secret)
    installation = copied()
    site = installation.home.sites / "north.toml"
    text = site.read_text()
    broken = text.replace(
        'name = "plant-server"\nkind = "in_process"',
        'name = "plant-server"\nkind = "faulty"\nwraps = { kind = "in_process" }\nrefuse = 1.0',
    )
    assert broken != text
    site.write_text(broken)
    before, day = runs_of_home(installation.home), str(NEWEST)
    window = f"{day}|north"
    assert installation.run("run", "--site", "north", "--from", day, "--to", day).returncode == 0
    failed_over = events_of_home(installation.home, since=before)
    assert_valid(failed_over, tmp_path)
    placed = one(of_asset(failed_over, "pump/prognoses", window=window))["run"]["facets"]["hybrid_placement"]
    assert [t["target"] for t in placed["failedTries"]] == ["plant-server"]
    assert placed["target"] != "plant-server"

    # Nothing can be written where prognoses lie; what is told of it must not tell the secret in its name.
    before = runs_of_home(installation.home)
    prognoses = installation.home.store("on_prem") / "pump" / "prognoses"
    prognoses.rename(prognoses.with_name(f"password={secret}"))
    prognoses.write_text("not a folder")
    assert installation.run("run", "--site", "north", "--from", day, "--to", day).returncode != 0
    failed = events_of_home(installation.home, since=before)
    assert_valid(failed, tmp_path)
    error = one(of_asset(failed, "pump/prognoses", "FAIL", window))["run"]["facets"]["errorMessage"]
    assert "prognoses" in error["message"]
    assert "Traceback" in error["stackTrace"] or "File" in error["stackTrace"]
    assert of_asset(failed, "pump/condition_features", window=window), "what went before is made"
    assert not of_asset(failed, "pump/prognoses", "COMPLETE")
    answer = one(of_asset(failed, "pump/advisories", window=window))["run"]["facets"]["hybrid_answer"]
    assert set(answer["servedBy"]) <= {"rules", "safe_default"}
    assert answer["because"] == "error"
    everything = b"".join(canonical(e) for e in [*failed_over, *failed]).decode()
    assert secret not in everything
    assert "HYBRID_BROKER_PASSWORD" in everything


def test_a_release_that_does_not_verify_is_passed_over_and_its_reason_told(
    copied: Callable[[], Installation], tmp_path: Path
) -> None:
    installation = copied()
    (installation.home.store("on_prem") / "pump" / "registry" / "north" / "v0001" / "bundle.sig").unlink()
    before, day = runs_of_home(installation.home), str(NEWEST)
    installation.hybrid("run", "--site", "north", "--from", day, "--to", day)
    found = events_of_home(installation.home, since=before)
    assert_valid(found, tmp_path)
    answer = one(of_asset(found, "pump/advisories", window=f"{day}|north"))["run"]["facets"]["hybrid_answer"]
    assert set(answer["fallbackReasons"]) == {"unverified"}
    assert set(answer["servedBy"]) == {"rules"}
    assert answer["degraded"] == answer["rows"]
    assert "registry/north" not in inputs(one(of_asset(found, "pump/prognoses", window=f"{day}|north")))
