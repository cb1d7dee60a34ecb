"""A folder whose writers are not trusted: what is exchanged between a look and a step is not followed, nor moved."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway import drop_folder, reasons
from gateway.drop_folder import DropFolder, Found, Obstacle


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DropFolder]:
    opened = DropFolder(tmp_path / "in", tmp_path / "own", settle_s=0, give_up_s=3600, max_bytes=1000)
    yield opened
    opened.close()


def found(folder: DropFolder, path: Path, content: bytes = b"content") -> Found:
    path.write_bytes(content)
    (due,) = folder.look()
    return due


def test_a_copy_is_what_the_file_held(folder: DropFolder, tmp_path: Path) -> None:
    due = found(folder, tmp_path / "in" / "a")
    copy = folder.snapshot(due)
    assert copy is not None
    (tmp_path / "in" / "a").write_bytes(b"another")
    assert copy.content.read() == b"content"
    assert list((tmp_path / "own").iterdir()) == []
    copy.content.close()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.symlink_to("/etc/passwd"), reasons.SYMBOLIC_LINK),
        (os.mkfifo, reasons.UNREADABLE_FILE),
        (Path.mkdir, reasons.UNREADABLE_FILE),
        (lambda path: path.write_bytes(bytes(1001)), reasons.TOO_LARGE),
    ],
)
def test_what_is_put_in_a_files_place_is_neither_followed_nor_waited_for(
    folder: DropFolder, tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
    path = tmp_path / "in" / "a"
    due = found(folder, path)
    path.unlink()
    make(path)
    with pytest.raises(Obstacle) as obstacle:
        folder.snapshot(due)
    assert obstacle.value.reason == reason


def test_of_very_many_files_some_are_looked_at_and_the_others_after_them(
    folder: DropFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drop_folder, "MOST_WATCHED", 3)
    for number in range(8):
        (tmp_path / "in" / str(number)).write_bytes(b"content")
    (tmp_path / "in" / ".hidden").write_bytes(b"content")
    put_away: list[str] = []
    for expected in (3, 3, 2, 0):
        due = folder.look()
        assert len(due) == len(folder.look()) == expected
        for each in due:
            assert folder.put_away(each, each.name)
            put_away.append(each.name)
    assert sorted(put_away) == [str(number) for number in range(8)]


def test_a_file_that_is_exchanged_is_not_read_as_the_one_that_was_found(folder: DropFolder, tmp_path: Path) -> None:
    path = tmp_path / "in" / "a"
    due = found(folder, path)
    path.rename(tmp_path / "elsewhere")
    path.write_bytes(b"another")
    assert folder.snapshot(due) is None
    assert folder.put_away(due, "0" * 64) is False
    assert folder.put_aside(due, Obstacle(reasons.BAD_NAME, "why"), None, {}) is False
    assert path.read_bytes() == b"another"
    assert list((tmp_path / "in" / "done").iterdir()) == list((tmp_path / "in" / "quarantine").iterdir()) == []


def test_a_file_that_is_exchanged_at_the_last_moment_is_put_back(
    folder: DropFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in" / "a"
    due = found(folder, path)
    rename, exchanged = os.rename, list[bool]()

    def late(*names: str, **folders: int) -> None:
        if not exchanged:
            exchanged.append(True)
            rename(path, tmp_path / "elsewhere")
            path.write_bytes(b"another")
        rename(*names, **folders)

    monkeypatch.setattr("gateway.drop_folder.os.rename", late)
    assert folder.put_away(due, "0" * 64) is False
    assert path.read_bytes() == b"another"
    assert list((tmp_path / "in" / "done").iterdir()) == []


@pytest.mark.parametrize("name", ["done", "quarantine"])
def test_where_files_go_is_no_link(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "in" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=name):
        DropFolder(tmp_path / "in", tmp_path / "own", settle_s=0, give_up_s=3600, max_bytes=1000)


def test_nothing_that_was_put_away_is_overwritten(folder: DropFolder, tmp_path: Path) -> None:
    for content in (b"one", b"two", b"three"):
        assert folder.put_away(found(folder, tmp_path / "in" / "a", content), "0" * 64)
        due = found(folder, tmp_path / "in" / "b", content)
        assert folder.put_aside(due, Obstacle(reasons.BAD_NAME, "why"), "0" * 64, {})
    kept = [path.read_bytes() for path in (tmp_path / "in" / "done").iterdir()]
    assert sorted(kept) == [b"one", b"three", b"two"]
    aside = list((tmp_path / "in" / "quarantine").iterdir())
    assert sorted(path.read_bytes() for path in aside if path.suffix != ".json") == [b"one", b"three", b"two"]
    assert len(aside) == 6
