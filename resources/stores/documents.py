"""Small JSON documents kept under the digest of what they say, with a pointer to the one in use."""

from __future__ import annotations

import os
from pathlib import Path

from backbone.errors import IntegrityError
from resources.stores.opened import Size, note_read, note_written
from resources.stores.tables import storage_errors


class DocumentStore:
    """Documents of one kind for one site. A document never changes; the pointer does, atomically."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, name: str, text: str) -> None:
        """Keep a document and make it the one in use."""
        self._path.mkdir(parents=True, exist_ok=True)
        with storage_errors(self._path):
            self._write(f"{name}.json", text)
            self._write("current", name)
        note_written(self._path, name, {None: Size(len(text.encode()), 1)})

    def current(self) -> str | None:
        """Name of the document in use; None if there never was one."""
        pointer = self._path / "current"
        return pointer.read_text(encoding="utf-8") if pointer.exists() else None

    def get(self, name: str) -> str:
        path = self._path / f"{name}.json"
        if not path.exists():
            raise IntegrityError(f"{path} is missing.", next_step="Materialize what it holds again.")
        text = path.read_text(encoding="utf-8")
        note_read(self._path, name, size=Size(len(text.encode()), 1))
        return text

    def _write(self, name: str, text: str) -> None:
        partial = self._path / f".{name}.{os.getpid()}"
        with partial.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(self._path / name)
