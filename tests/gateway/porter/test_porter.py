"""What a gateway has spooled lands, all of it and once, whatever happens in between."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backbone.errors import ConfigurationError, IntegrityError, StorageFull, Transient
from gateway.porter.edge_copies import Copied, EdgeCopies
from gateway.porter.landing_note import LandingNote
from gateway.porter.porter import MOST_RECORDS
from gateway.porter.service import Told, serve
from gateway.records import Record
from gateway.settings import SpoolSettings
from resources.dead_letters import NAME as LETTERS
from resources.stores.durable import confirmed, take_back_torn
from resources.stores.tables import adds
from resources.stores.upkeep import MANY_FILES
from tests.gateway.porter.floor import NOW, SITE, Floor, landings, letter, microseconds, reading

STEPS = ("noted", "landed pump", "landed turbofan", "landed dead letters", "confirmed", "told")
MIXED = [
    reading(0),
    reading(1, equipment="T-1"),
    letter(2),
    reading(3, source="other/press", session="a/b"),
    replace(reading(4), equipment="X-9"),
    replace(reading(5), raw=b'{"ts": 1e999}'),
    reading(6, equipment="T-2"),
]
WHERE = {"pump": [0, 3], "turbofan": [1, 6], "dead_letters": [2, 4, 5]}


@pytest.fixture
def floor(tmp_path: Path) -> Floor:
    return Floor(tmp_path)


def test_readings_land_by_fleet_and_dead_letters_with_their_reasons(floor: Floor) -> None:
    up_to = floor.spool(MIXED)
    (landed,) = floor.land(up_to)
    told = {"landed": 7, "readings": 4, "dead_letters": 3, "fleets": {"pump": 2, "turbofan": 2}, "absent": 0}
    assert landed.to_dict() == told
    assert floor.positions() == WHERE
    letters = {row["position"]: row for row in floor.dead_letters().to_pylist()}
    assert {n: row["reason"] for n, row in letters.items()} == {
        2: "invalid_json",
        4: "unregistered_equipment",
        5: "not_finite",
    }
    assert letters[4]["equipment_class"] is None, "no fleet has it"
    assert letters[2] == {
        "site": "north",
        "date": NOW.date(),
        "gateway": "gw-1",
        "spool": letters[4]["spool"],
        "position": 2,
        "source": "press",
        "equipment": "P-1",
        "equipment_class": "pump",
        "reason": "invalid_json",
        "digest": f"sha256:{hashlib.sha256(MIXED[2].raw).hexdigest()}",
        "raw": MIXED[2].raw,
        "received_at": NOW,
        "traceparent": "00-ab-cd-01",
    }


def test_a_landed_row_says_whose_it_is_and_when_the_gateway_had_it(floor: Floor) -> None:
    floor.land(floor.spool(MIXED))
    first, other = floor.rows().to_pylist()
    assert first["reading_id"] == "press//0"
    assert other["reading_id"] == "other%2Fpress/a%2Fb/3"
    assert first["received_at"] == datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert (first["equipment_id"], first["flow_m3_h"], first["speed_rpm"]) == ("P-1", 180.5, 1450.0)
    assert first["ts"] == datetime.fromisoformat(json.loads(MIXED[0].raw)["ts"])
    assert first["batch"].startswith("gateway:north:gw-1:")
    assert first["batch"].endswith(":0-7:pump")
    assert first["defect"] is None


def test_what_was_kept_for_long_is_historical(floor: Floor) -> None:
    records = [reading(0), reading(1, age_s=61), reading(2, age_s=59), reading(3, is_historical=True)]
    floor.land(floor.spool(records))
    assert floor.rows()["is_historical"].to_pylist() == [False, True, False, True]


def test_a_clock_that_was_ahead_is_told_however_late_its_reading_lands(floor: Floor) -> None:
    ahead = json.dumps({"ts": "2026-01-01T01:00:00Z", "seq": 1, "values": {}}).encode()
    up_to = floor.spool([replace(reading(0, age_s=0), raw=ahead), reading(1)])
    floor.clock.sleep(7200)
    floor.land(up_to)
    assert floor.rows()["defect"].to_pylist() == ["ahead_of_clock", None]


def test_nothing_lands_that_the_gateway_has_not_told_of(floor: Floor) -> None:
    assert floor.land(0) == []
    up_to = floor.spool([reading(n) for n in range(5)])
    assert floor.land(up_to - 2)[0].readings == {"pump": 3}
    assert floor.positions()["pump"] == [0, 1, 2]
    assert floor.land(up_to)[0].readings == {"pump": 2}
    assert floor.positions()["pump"] == [0, 1, 2, 3, 4]


class Killed(Exception):
    pass


def dies_at(step: str) -> Callable[[str], None]:
    def reached(done: str) -> None:
        if done == step:
            raise Killed(step)

    return reached


@pytest.mark.parametrize("step", STEPS)
def test_after_a_crash_at_any_step_all_is_there_once(floor: Floor, step: str) -> None:
    floor.land(floor.spool(MIXED[:3]))
    up_to = floor.spool(MIXED[3:])
    porter = floor.porter(dies_at(step))
    with pytest.raises(Killed):
        porter.land(up_to)
    porter.close()
    up_to = floor.spool([reading(7), letter(8)])  # the gateway goes on meanwhile
    floor.land(up_to)
    assert floor.positions() == {"pump": [0, 3, 7], "turbofan": [1, 6], "dead_letters": [2, 4, 5, 8]}
    assert len(set(floor.rows()["reading_id"].to_pylist())) == 3


@pytest.mark.parametrize("step", STEPS)
def test_a_range_that_was_begun_is_landed_as_it_was_begun(floor: Floor, step: str) -> None:
    """The site's file changes just when the porter has crashed."""
    up_to = floor.spool(MIXED)
    porter = floor.porter(dies_at(step))
    with pytest.raises(Killed):
        porter.land(up_to)
    porter.close()
    floor.fleets = {"pump": ("P-*", "X-*"), "turbofan": ("T-1",)}
    floor.land(floor.spool([reading(7, equipment="X-9"), replace(MIXED[6], raw=reading(8).raw)]))
    found = floor.positions()
    assert found == {"pump": [0, 3, 7], "turbofan": [1, 6], "dead_letters": [2, 4, 5, 8]}


@pytest.mark.parametrize("step", STEPS)
def test_without_its_note_a_porter_asks_the_tables(floor: Floor, step: str) -> None:
    floor.land(floor.spool(MIXED[:3]))
    porter = floor.porter(dies_at(step))
    up_to = floor.spool(MIXED[3:])
    with pytest.raises(Killed):
        porter.land(up_to)
    porter.close()
    floor.folders.landing.unlink()
    up_to = floor.spool([reading(7), letter(8)])
    landed = floor.land(up_to)
    assert landed[-1].position == up_to
    assert floor.positions() == {"pump": [0, 3, 7], "turbofan": [1, 6], "dead_letters": [2, 4, 5, 8]}


def test_a_damaged_note_is_refused_with_what_to_do(floor: Floor) -> None:
    floor.land(floor.spool(MIXED))
    floor.folders.landing.write_bytes(b"\0" * 40)
    with pytest.raises(IntegrityError, match="Remove the file"):
        floor.porter()


def test_ranges_are_bounded_and_land_in_their_order(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.porter import porter

    monkeypatch.setattr(porter, "MOST_RECORDS", 10)
    landed = floor.land(floor.spool([reading(n) for n in range(25)]))
    assert [one.position for one in landed] == [10, 20, 25]
    assert floor.positions()["pump"] == list(range(25))
    assert [batch.split(":")[4] for batch in dict.fromkeys(floor.rows()["batch"].to_pylist())] == [
        "0-10",
        "10-20",
        "20-25",
    ]


def test_a_bounded_number_of_bytes_is_landed_at_a_time(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    from gateway.porter import porter

    monkeypatch.setattr(porter, "MOST_BYTES", 3 * len(letter(1).to_bytes()))
    assert [one.position for one in floor.land(floor.spool([letter(n) for n in range(1, 8)]))] == [3, 6, 7]


def test_landing_keeps_to_its_rate(floor: Floor) -> None:
    floor.spool_settings = replace(floor.spool_settings, drain_per_s=1000.0)
    floor.land(floor.spool([reading(n) for n in range(3000)]))
    assert floor.clock.passed_s == pytest.approx(3.0)
    assert MOST_RECORDS > 3000


def test_what_the_spool_let_go_of_is_told_and_not_waited_for(floor: Floor) -> None:
    floor.spool_settings = SpoolSettings(max_mib=0.02, segment_mib=0.005, on_full="drop_oldest", drain_per_s=1e9)
    floor.land(floor.spool([reading(n) for n in range(3)]))
    up_to = floor.spool([reading(n) for n in range(3, 60)])
    for n in range(60, 200, 20):
        up_to = floor.spool([reading(k) for k in range(n, n + 20)])
    (landed,) = floor.land(up_to)
    there = floor.positions()["pump"]
    gone = sorted(set(range(up_to)) - set(there))
    assert there[:3] == [0, 1, 2]
    assert landed.absent == len(gone) > 0
    assert gone == list(range(3, 3 + len(gone)))
    note = LandingNote.read(floor.folders.landing)
    assert [(a.begin, a.end, a.why) for a in note.absent] == [(3, 3 + len(gone), "dropped")]


def test_what_the_disk_lost_is_told_as_lost(floor: Floor) -> None:
    up_to = floor.spool([reading(n) for n in range(100)])
    floor.spool([reading(200)])  # a later file, which says where the one before ends
    (first, *_) = sorted(floor.folders.spool.glob("*.spool"))
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 1
    first.write_bytes(content)
    (landed,) = floor.land(up_to)
    there = floor.positions()["pump"]
    (gone,) = set(range(up_to)) - set(there)
    assert landed.absent == 1
    assert [(a.begin, a.end, a.why) for a in LandingNote.read(floor.folders.landing).absent] == [
        (gone, gone + 1, "lost")
    ]


def test_another_spool_begins_anew_and_nothing_of_it_is_taken_for_known(floor: Floor) -> None:
    import shutil

    floor.land(floor.spool(MIXED))
    shutil.rmtree(floor.folders.spool)
    floor.land(floor.spool(MIXED[:2]))
    assert floor.positions() == {"pump": [0, 0, 3], "turbofan": [1, 1, 6], "dead_letters": [2, 4, 5]}
    note = LandingNote.read(floor.folders.landing)
    assert list(note.before.values()) == [7]
    assert note.landed == 2


def test_bytes_that_are_no_record_are_kept_as_they_are(floor: Floor) -> None:
    from gateway.spool import Spool

    with Spool(floor.folders.spool, floor.spool_settings) as spool:
        up_to = spool.append([b"\xff\x00nothing", reading(1).to_bytes()])
    floor.land(up_to)
    (kept,) = floor.dead_letters().to_pylist()
    assert (kept["reason"], kept["raw"], kept["position"]) == ("unreadable_record", b"\xff\x00nothing", 0)
    assert floor.positions()["pump"] == [1]


def test_a_value_of_another_type_than_the_contract_has_by_now_is_a_dead_letter(floor: Floor) -> None:
    odd = json.loads(reading(1).raw)
    odd["values"]["flow_m3_h"] = "much"
    records = [reading(0), replace(reading(1), raw=json.dumps(odd).encode()), reading(2)]
    floor.land(floor.spool(records))
    assert floor.positions() == {"pump": [0, 2], "turbofan": [], "dead_letters": [1]}
    assert floor.dead_letters()["reason"].to_pylist() == ["wrong_type:flow_m3_h"]


def test_a_second_porter_is_refused(floor: Floor) -> None:
    porter = floor.porter()
    with pytest.raises(ConfigurationError, match="Another porter"):
        floor.porter()
    porter.close()
    floor.porter().close()


def test_a_full_disk_is_told_and_nothing_is_lost(tmp_path: Path, full_disk: Path) -> None:
    floor = Floor(full_disk)
    up_to = floor.spool(MIXED)
    ballast = full_disk / "ballast"
    porter = floor.porter()
    fill(ballast)
    with pytest.raises(StorageFull):
        porter.land(up_to)
    assert porter.position == 0
    ballast.unlink()
    assert [one.position for one in landings(porter, up_to)] == [7]
    porter.close()
    assert floor.positions() == WHERE


def fill(ballast: Path) -> None:
    """Until nothing is left on its disk."""
    with ballast.open("wb", buffering=0) as stream:
        size = 1 << 16
        while size:
            try:
                stream.write(bytes(size))
            except OSError:
                size //= 2


def test_what_the_disk_does_not_confirm_has_not_landed(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    up_to = floor.spool(MIXED)
    porter = floor.porter()
    failing = [True]

    def fsync(descriptor: int, really: Callable[[int], None] = os.fsync) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink()
        if failing[0] and name.suffix == ".parquet":
            failing[0] = False
            os.truncate(name, 10)  # what the system could not write it may forget
            raise OSError(5, "Input/output error")
        really(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(Transient, match="does not confirm"):
        porter.land(up_to)
    assert porter.position == 0
    assert [one.position for one in landings(porter, up_to)] == [7]
    porter.close()
    assert floor.positions() == WHERE


def test_what_a_power_failure_tore_is_landed_again(floor: Floor) -> None:
    floor.land(floor.spool(MIXED[:2]))
    up_to = floor.spool(MIXED[2:])
    porter = floor.porter(dies_at("landed dead letters"))
    with pytest.raises(Killed):
        porter.land(up_to)
    porter.close()
    newest = max(floor.landing("pump").path("telemetry").rglob("*.parquet"), key=lambda p: p.stat().st_mtime_ns)
    os.truncate(newest, newest.stat().st_size // 2)
    (floor.letters.path / "_delta_log" / f"{0:020d}.json").write_bytes(b"")
    floor.land(up_to)
    assert floor.positions() == WHERE


def test_days_of_many_files_are_tidied_up_and_what_that_took_is_confirmed(floor: Floor) -> None:
    up_to = floor.spool([reading(n, age_s=-60) for n in range(35)] + [reading(35, age_s=86_400)])
    porter = floor.porter()
    for position in range(1, up_to + 1):
        porter.land(position)
    assert porter.tidy() == {"pump": [NOW.date()]}
    assert porter.tidy() == {}
    porter.close()
    assert LandingNote.read(floor.folders.landing).landed == up_to
    assert floor.positions()["pump"] == list(range(up_to))
    path = floor.landing("pump").path("telemetry")
    assert confirmed(path) == up_to, "the merging is the commit after theirs"
    assert take_back_torn(path) == []
    floor.land(floor.spool([reading(36)]))
    assert floor.positions()["pump"] == list(range(up_to + 1))


def no_releases(fleet: str) -> Copied:
    raise AssertionError(fleet)


def test_however_often_something_lands_a_day_lies_in_few_files(floor: Floor) -> None:
    up_to = floor.spool([reading(n) if n % 2 else letter(n) for n in range(3 * MANY_FILES)])
    told, porter = Told(), floor.porter()

    def say(message: Mapping[str, Any]) -> None:
        told.position = message["landed"] + 2
        told.ended = told.position > up_to

    serve(porter, EdgeCopies(floor, floor.folders, {}, no_releases), told, say)
    porter.close()
    assert floor.positions() == {"pump": list(range(1, up_to, 2)), "turbofan": [], LETTERS: list(range(0, up_to, 2))}
    for path in (floor.landing("pump").path("telemetry"), floor.letters.path):
        assert adds(path, SITE).num_rows <= MANY_FILES + 1
        assert len(list(path.rglob("*.parquet"))) > 3 * MANY_FILES / 2, "for a day, for those who still read them"


def test_gateways_share_tables_and_mend_each_others_crashes(tmp_path: Path) -> None:
    one, other = Floor(tmp_path, name="gw-1"), Floor(tmp_path, name="gw-2")
    one.land(one.spool(MIXED[:3]))
    other.land(other.spool(MIXED[:1]))
    porter = one.porter(dies_at("landed pump"))
    up_to = one.spool(MIXED[3:])
    with pytest.raises(Killed):
        porter.land(up_to)
    porter.close()
    newest = max(one.landing("pump").path("telemetry").rglob("*.parquet"), key=lambda p: p.stat().st_mtime_ns)
    os.truncate(newest, newest.stat().st_size // 2)  # and the power failed
    other.land(other.spool(MIXED[1:]))
    one.land(up_to)
    assert one.positions() == other.positions() == WHERE
    assert one.rows().num_rows == 4


@dataclass(frozen=True)
class Life:
    """Of a porter: what came before it, where it died, and whether its note was lost then."""

    kinds: str
    dies_at: str
    note_lost: bool


LIVES = st.lists(
    st.builds(Life, st.text("pTx", min_size=1, max_size=4), st.sampled_from([*STEPS, "never"]), st.booleans()),
    min_size=1,
    max_size=4,
)


@pytest.mark.slow
@settings(max_examples=25)
@given(lives=LIVES)
def test_whatever_porters_die_of_all_is_there_once(tmp_path_factory: pytest.TempPathFactory, lives: list[Life]) -> None:
    floor = Floor(tmp_path_factory.mktemp("floor"))
    kinds = ""
    for life in lives:
        records = [
            letter(n) if kind == "x" else reading(n, equipment="P-1" if kind == "p" else "T-1")
            for n, kind in enumerate(life.kinds, len(kinds))
        ]
        kinds += life.kinds
        up_to = floor.spool(records)
        porter = floor.porter(dies_at(life.dies_at))
        with suppress(Killed):
            list(landings(porter, up_to))
        porter.close()
        if life.note_lost:
            floor.folders.landing.unlink(missing_ok=True)
    floor.land(up_to)
    expected = {
        table: [n for n, kind in enumerate(kinds) if kind == of]
        for table, of in (("pump", "p"), ("turbofan", "T"), ("dead_letters", "x"))
    }
    assert floor.positions() == expected


@pytest.mark.slow
def test_kill_9_between_every_pair_of_steps(floor: Floor) -> None:
    """One spool, killed at each step in turn: what lived on goes on from there, while more comes in."""
    kept: list[Record] = []
    for step in STEPS:
        n = len(kept)
        new = [reading(n), reading(n + 1, equipment="T-1"), letter(n + 2), reading(n + 3, source="other")]
        up_to, kept = floor.spool(new), kept + new
        command = [sys.executable, "-m", "tests.gateway.porter.floor", str(floor.root), str(up_to), step, "1"]
        died = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[3])
        assert died.returncode == -9, died.stderr
    floor.land(up_to)
    found = floor.positions()
    assert sorted(position for table in found.values() for position in table) == list(range(len(kept)))
    ids = [*floor.rows()["reading_id"].to_pylist(), *floor.rows("turbofan")["reading_id"].to_pylist()]
    expected = [f"{r.source}//{json.loads(r.raw)['seq']}" for r in kept if r.reason is None]
    assert sorted(ids) == sorted(expected)
    raws = floor.dead_letters()["raw"].to_pylist()
    assert sorted(raws) == sorted(r.raw for r in kept if r.reason is not None)


def test_days_of_an_outage_land_on_their_own_days(floor: Floor) -> None:
    day_s = 86_400
    records = [reading(n, age_s=day_s * (3 - n) + 1) for n in range(3)]
    floor.land(floor.spool(records))
    rows = floor.rows()
    assert [day.day for day in pc.cast(rows["ts"], "date32").to_pylist()] == [28, 29, 30]
    assert rows["date"].to_pylist() == [ts.date() for ts in rows["ts"].to_pylist()]
    assert rows["is_historical"].to_pylist() == [True] * 3
    assert microseconds(rows["received_at"].to_pylist()[0]) == records[0].received_us
