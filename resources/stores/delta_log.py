"""A Delta table's log, as files: what is in it, and what each of them says (https://delta.io/specifications)."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

LOG = "_delta_log"
_NOT_TORN = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM, errno.ESTALE)
"""Errors that say nothing about what a file holds."""
_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint.*\.parquet")


def commits(path: Path) -> list[tuple[int, Path]]:
    """Version and entry of each commit of a table that its log still has, rising."""
    return _numbered(path / LOG, _COMMIT)


def checkpoints(path: Path) -> dict[int, Path]:
    """Version → checkpoint, rising."""
    return dict(_numbered(path / LOG, _CHECKPOINT))


def is_readable(file: Path) -> bool:
    """Whether all of a Parquet file can be read: a torn one may well have its length, with zeros in it."""
    try:
        _forget_cached(file)
        with pq.ParquetFile(file) as parquet:
            for _ in parquet.iter_batches():  # a porter that finds a table of years reads it some rows at a time
                pass
    except pa.ArrowException:
        return False
    except OSError as error:
        if error.errno in _NOT_TORN:
            raise
        return False
    return True


def _forget_cached(file: Path) -> None:
    """Have the system read from the disk what it may still have in memory, where it can be told: what it could not
    write it may keep there, and count as written."""
    if hasattr(os, "posix_fadvise"):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def added(path: Path, actions: Iterable[Mapping[str, Any]]) -> Iterator[Path]:
    return (path / unquote(action["add"]["path"]) for action in actions if "add" in action)


def entries(file: Path) -> list[Any] | None:
    """What a file of JSON lines says; None where it says nothing, or is cut short."""
    try:
        _forget_cached(file)
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] or None
    except ValueError:
        return None


def _numbered(log: Path, pattern: re.Pattern[str]) -> list[tuple[int, Path]]:
    if not log.is_dir():
        return []
    matches = ((pattern.fullmatch(file.name), file) for file in log.iterdir())
    return sorted((int(match[1]), file) for match, file in matches if match)
