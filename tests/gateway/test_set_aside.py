"""What is no record any more is kept for people to look at, but not for ever; what may be missed never goes."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from cli.reconcile import reconcile
from gateway.frames import FRAME_HEAD
from gateway.porter.porter import Porter
from gateway.set_aside import DAMAGED, KEPT_S, MOST_BYTES, SetAside, remove_old, set_aside
from gateway.settings import SpoolSettings
from gateway.spool import Spool
from tests.gateway.porter.floor import Floor, reading
from tests.gateway.porter.released_plant import ReleasedPlant

WIDE = SpoolSettings(1, 0.1)
NOW_S = 2_000_000_000.0


def file(path: Path, *, age_s: float = 0.0, size: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.truncate(path, size)
    os.utime(path, (NOW_S - age_s, NOW_S - age_s))
    return path


def test_torn_ends_go_when_they_are_old_and_damaged_parts_never(tmp_path: Path) -> None:
    old, young = file(tmp_path / "a.spool.9.torn", age_s=KEPT_S + 60), file(tmp_path / "b.spool.7.torn", age_s=60)
    others = [file(tmp_path / "a.spool", age_s=2 * KEPT_S), file(tmp_path / DAMAGED / "a.spool.3", age_s=2 * KEPT_S)]
    assert set_aside(tmp_path) == SetAside(2, 20, 1, 10)
    assert remove_old(tmp_path, NOW_S) == [old.name]
    assert all(path.exists() for path in (young, *others))
    assert set_aside(tmp_path) == SetAside(1, 10, 1, 10)


def test_of_many_torn_ends_the_newest_stay(tmp_path: Path) -> None:
    ends = [file(tmp_path / f"{n}.spool.0.torn", age_s=60 * (9 - n), size=MOST_BYTES // 4) for n in range(9)]
    assert sorted(remove_old(tmp_path, NOW_S)) == [path.name for path in ends[:5]]
    assert [path for path in ends if path.exists()] == ends[5:]
    assert remove_old(tmp_path, NOW_S) == []


def test_a_torn_end_stays_where_records_were_given_out_that_are_not_there(tmp_path: Path) -> None:
    with Spool(tmp_path, WIDE) as spool:
        spool.append([b"first", b"acknowledged"])
        (path,) = tmp_path.glob("*.spool")
    os.truncate(path, path.stat().st_size - 3)
    with Spool(tmp_path, WIDE, at_least=2) as spool:
        assert [(gap.begin, gap.end, gap.certain) for gap in spool.gaps] == [(1, 2, True)]
        assert spool.append([b"next"]) == 3
    assert set_aside(tmp_path).damaged_bytes == FRAME_HEAD + len(b"acknowledged") - 3
    remove_old(tmp_path, NOW_S + 10 * KEPT_S)
    assert set_aside(tmp_path) == SetAside(0, 0, 1, FRAME_HEAD + len(b"acknowledged") - 3)


def test_the_porter_removes_what_is_old(tmp_path: Path) -> None:
    floor = Floor(tmp_path)
    floor.land(floor.spool([reading(0)]))
    torn = file(floor.folders.spool / "a.spool.9.torn")
    os.utime(torn, (0, 0))
    porter: Porter = floor.porter()
    porter.tidy()
    porter.close()
    assert not torn.exists()
    assert floor.positions()["pump"] == [0]


def test_reconcile_names_what_was_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = ReleasedPlant(tmp_path)
    monkeypatch.setenv("HYBRID_HOME", str(made.plant.catalog.home.root))
    with Spool(made.folders.spool, WIDE) as spool:
        spool.append([replace(reading(0)).to_bytes()])
    file(made.folders.spool / DAMAGED / "a.spool.3", size=77)
    assert reconcile("north", as_json=False) == 0
    assert "no records any more, beside the spool: 1 damaged parts of 77 bytes in all" in capsys.readouterr().out
