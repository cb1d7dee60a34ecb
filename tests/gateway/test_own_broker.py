"""The embedded broker's port, kept between two starts where the disk lets it be."""

from __future__ import annotations

from pathlib import Path

from gateway.own_broker import EMBEDDED, OwnBroker

SOURCES = [{"url": EMBEDDED}]


def test_it_is_on_its_port_again_and_does_not_write_it_anew(tmp_path: Path) -> None:
    port = tmp_path / "kept" / "port"
    with OwnBroker(SOURCES, port).up() as first:
        written = port.stat()
    with OwnBroker(SOURCES, port).up() as again:
        assert again == first
    assert (port.stat().st_ino, port.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)


def test_it_serves_where_its_port_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("not a folder")
    with OwnBroker(SOURCES, tmp_path / "kept" / "port").up() as (table,):
        assert table["url"].startswith("mqtt://127.0.0.1:")
