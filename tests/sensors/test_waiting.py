"""A tick looks once, or as long as it may wait."""

import threading
from pathlib import Path

import pytest

from sensors import waiting
from sensors.waiting import TICKS_WAIT, looks


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """While it is there, ticks wait."""
    named = tmp_path / "ticks_wait"
    named.touch()
    monkeypatch.setenv(TICKS_WAIT, str(named))
    monkeypatch.setattr(waiting, "LOOK_S", 0.01)
    return named


def test_a_tick_that_may_not_wait_looks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TICKS_WAIT, raising=False)
    assert len(list(looks())) == 1


def test_a_tick_looks_until_there_is_something_to_do(file: Path) -> None:
    found = threading.Event()
    threading.Timer(0.1, found.set).start()
    assert any(found.is_set() for _ in looks())
    assert file.exists()


def test_a_tick_ends_when_the_daemon_is_to_end(file: Path) -> None:
    seen = 0
    for _ in looks():
        seen += 1
        if seen == 3:
            file.unlink()
    assert seen == 3


def test_a_tick_ends_in_time(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LONGEST_S", 0.1)
    assert 1 < len(list(looks())) <= 11
    assert file.exists()
