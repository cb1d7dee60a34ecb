"""Dead letters as people see them: an asset that counts them, and a check that warns where there are many."""

import itertools
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from backbone.row_checks import row_check
from backbone.windows import WindowRange
from hybrid_assets.definitions import build_definitions
from maintenance.data_products import contracts_of
from maintenance.equipment_class import equipment_class_from_contract
from resources.dead_letters import LETTERS
from resources.home import Home
from sensors.dead_letters import MOST_AGAIN
from tests.scenarios.installation import Installation
from tests.scenarios.played_daemon import PlayedDaemon, numbers, played_daemon

SITE = """
[calendar]
first_day = 2025-12-01
"""
GATEWAY = """
[fleets.pump]
source = { kind = "gateway" }
[gateway]
name = "gw-1"
[gateway.fleets.pump]
equipment = ["P-*"]
"""
KEY = dg.AssetKey(["pump", "dead_letters"])


@pytest.fixture
def daemon(installation: Installation) -> Iterator[PlayedDaemon]:
    installation.add_site("north", SITE)
    site = installation.home.sites / "north.toml"
    site.write_text(site.read_text() + GATEWAY)
    with played_daemon(installation.home) as daemon:
        yield daemon


def come(daemon: PlayedDaemon, *letters: dict[str, Any], serial: int) -> None:
    now = daemon.plant().clock.now()
    common = {"site": "north", "gateway": "gw-1", "spool": "s", "source": "press", "equipment": "P-1",
              "equipment_class": "pump", "reason": "invalid_json", "digest": "sha256:0", "raw": b"{secret",
              "received_at": now, "traceparent": None}  # fmt: skip
    rows = [common | {"position": serial * 100 + n} | told for n, told in enumerate(letters)]
    rows = [row | {"date": row["received_at"].date()} for row in rows]
    daemon.plant().dead_letters().add(pa.Table.from_pylist(rows, LETTERS), "gw-1", serial)


def stored(daemon: PlayedDaemon, day: date, rows: int) -> None:
    at = [datetime(day.year, day.month, day.day, tzinfo=UTC)] * rows
    table = pa.table({"equipment_id": ["P-1"] * rows, "ts": pa.array(at, pa.timestamp("us", tz="UTC"))})
    daemon.plant().table("pump", "telemetry").replace(WindowRange("north", day, day), table, run_id="r")


def told(daemon: PlayedDaemon) -> tuple[dict[str, Any], dict[str, Any], bool]:
    """Metadata of the asset and of its check in the run that the sensor asks for, and whether the check passed."""
    (request,) = daemon.tick("pump_dead_letters")
    done = daemon.execute(request)
    assert done.success
    (made,) = done.asset_materializations_for_node("pump_dead_letter_count")
    (check,) = done.get_asset_check_evaluations()
    assert check.severity == dg.AssetCheckSeverity.WARN
    return {name: value.value for name, value in made.metadata.items()}, numbers(check), bool(check.passed)


def test_what_could_not_be_used_is_told_by_reason_and_source_and_too_much_of_it_warns(daemon: PlayedDaemon) -> None:
    plant = daemon.plant()
    today = plant.clock.now().date()
    stored(daemon, today, 198)
    come(daemon, {"reason": "not_finite"}, {"equipment_class": None, "equipment": "X|9", "source": "lathe"}, serial=1)
    seen, counted, passed = told(daemon)
    assert (seen["letters"], seen["letters_today"]) == (2, 2)
    assert seen["reasons"] == {"not_finite": 1, "invalid_json": 1}
    assert "| invalid_json | lathe | 1 |" in seen["by_reason_and_source"]
    assert "| invalid_json | lathe | X\\|9 | sha256:0 |" in seen["newest"]
    assert (counted["letters"], counted["readings"], counted["observed"], passed) == (2, 198, 0.01, True)
    come(daemon, {}, {}, {"equipment_class": "turbofan"}, serial=2)
    seen, counted, passed = told(daemon)
    assert (seen["letters"], counted["letters"], passed) == (4, 4, False), "another class's own are told there"
    assert "secret" not in str(seen)
    stored_rows = plant.table("pump", "dead_letters").read("north")
    contract = contracts_of(equipment_class_from_contract(plant.contract("pump")), plant.catalog.contracts)[
        "dead_letters"
    ]
    assert stored_rows.select(contract.arrow_schema.names).schema.equals(contract.arrow_schema)
    assert row_check(contract)(stored_rows, today, today).null_count == stored_rows.num_rows == 4


def test_a_day_for_which_more_comes_is_counted_anew_and_others_stay(daemon: PlayedDaemon) -> None:
    yesterday = daemon.plant().clock.now() - timedelta(days=1)
    come(daemon, {"received_at": yesterday - timedelta(days=1)}, {}, serial=1)
    assert told(daemon)[0]["letters"] == 2
    come(daemon, {"received_at": yesterday}, {}, serial=2)
    seen, counted, _ = told(daemon)
    assert (seen["letters"], seen["letters_today"], counted["letters"]) == (4, 2, 3)


def test_the_sensor_asks_once_for_what_came_and_again_when_the_day_is_over(daemon: PlayedDaemon) -> None:
    assert daemon.tick("pump_dead_letters") == [], "neither served nor written to"
    come(daemon, {}, serial=1)
    assert told(daemon)[2] is False
    assert daemon.tick("pump_dead_letters") == []
    daemon.wait(days=2)
    seen, counted, passed = told(daemon)
    assert (seen["letters"], counted["letters"], passed) == (1, 0, True), "what is over warns no more"


def test_a_count_that_failed_is_made_again_and_not_for_ever(
    daemon: PlayedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    come(daemon, {}, serial=1)
    requests = []
    with monkeypatch.context() as broken:
        broken.setattr("hybrid_assets.dead_letters._metadata", lambda *_: 1 / 0)
        while found := daemon.tick("pump_dead_letters"):
            requests += found
            assert not daemon.execute(*found).success
    assert len({request.run_key for request in requests}) == len(requests) == 1 + MOST_AGAIN
    come(daemon, {}, serial=2)
    assert told(daemon)[0]["letters"] == 2, "as soon as another comes"


def judged(daemon: PlayedDaemon) -> dict[tuple[str, str], bool]:
    """Window and check → whether it passed, of what the quality sensor asks for."""
    (request,) = daemon.tick("pump_quality")
    done = daemon.execute(request)
    assert done.success
    checks = done.get_asset_check_evaluations()
    assert {(check.asset_key, check.partition) for check in checks} == {(KEY, None)}
    return {(numbers(check)["window"], check.check_name): check.passed for check in checks}


def test_each_day_of_them_is_held_to_their_contract(daemon: PlayedDaemon) -> None:
    today = daemon.plant().clock.now().date()
    come(
        daemon, {}, {"reason": "not_finite"}, {"received_at": daemon.plant().clock.now() - timedelta(days=1)}, serial=1
    )
    told(daemon)
    checks = ("schema", "not_null", "in_range", "unique")
    days = (str(today - timedelta(days=1)), str(today))
    assert judged(daemon) == dict.fromkeys(itertools.product(days, checks), True)
    assert daemon.tick("pump_quality") == []
    table = daemon.plant().table("pump", "dead_letters")
    row = table.read("north", today, today).slice(0, 1).to_pylist()[0] | {"letters": 0}
    rows = pa.Table.from_pylist([row, row | {"digest": None}], table.read("north").schema)
    table.replace(WindowRange("north", today, today), rows, run_id="r")
    assert judged(daemon) == {(days[1], name): name == "schema" for name in checks}


def test_only_plants_with_a_gateway_have_them(installation: Installation) -> None:
    installation.add_site("north", SITE + '[fleets.pump]\nsource = { kind = "files" }\n')
    installation.add_site("hangar", SITE + '[fleets.turbofan]\nsource = { kind = "files" }\n')
    graph = build_definitions(Home(installation.home.root)).resolve_asset_graph()
    assert dg.AssetKey(["turbofan", "dead_letters"]) not in graph.get_all_asset_keys()
    assert {key.asset_key for key in graph.asset_check_keys} <= graph.get_all_asset_keys()
    partitions = graph.get(KEY).partitions_def
    assert partitions is not None
    assert partitions.get_partition_keys() == ["riverside"]
    (telemetry,) = graph.get(KEY).parent_keys
    assert telemetry == dg.AssetKey(["pump", "telemetry"])
    windows = graph.get(telemetry).partitions_def
    assert windows is not None
    came = windows.subset_with_partition_keys(["2025-12-01|north", "2025-12-01|riverside"])
    mapped = graph.get_partition_mapping(KEY, telemetry).get_downstream_partitions_for_partitions(
        came, windows, partitions
    )
    assert set(mapped.get_partition_keys()) == {"riverside"}
