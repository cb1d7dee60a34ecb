"""NASA's C-MAPSS text files: 26 numbers a line, no header, and what is wrong with a line that has others.

Format: Saxena, Goebel, Simon, Eklund, "Damage propagation modeling for aircraft engine run-to-failure
simulation", PHM 2008. Files: `train_FD001.txt`, `test_FD001.txt`, `RUL_FD001.txt` and so on.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from backbone.errors import SourceError, UnknownName

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
SUBSETS = ("FD001", "FD002", "FD003", "FD004")
OPERATIONAL_SETTINGS = ("altitude", "mach", "tra")
SENSORS = (
    "t2", "t24", "t30", "t50", "p2", "p15", "p30", "nf", "nc", "epr", "ps30",
    "phi", "nrf", "nrc", "bpr", "farb", "htbleed", "nf_dmd", "pcnfr_dmd", "w31", "w32",
)  # fmt: skip
COLUMNS = ("cycle", *OPERATIONAL_SETTINGS, *SENSORS)
"""What follows the unit's number on a line, in the files' order."""
_FIELDS = 1 + len(COLUMNS)
_MOST_DIGITS = 5
"""Of a unit or cycle: a longer one is a broken line, and would stretch the calendar beyond reason."""


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no reading: its number from 1, and why."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """A file's good lines, as `read_units` gives them, its bad ones, and the SHA-256 of its bytes."""

    units: pa.Table
    bad: tuple[BadLine, ...]
    digest: str


def read_units(directory: Path, subset: str, split: Split) -> pa.Table:
    """All cycles of a train or test file: `equipment_id` (string), `cycle` (int64), settings and sensors (float64).

    Raises:
        SourceError: the file is missing, empty, or has a line that is no reading; names the line.
        UnknownName: there is no such subset.
    """
    parsed = parsed_file(directory, subset, split)
    if parsed.bad:
        path = path_of(directory, split, subset)
        raise SourceError(
            f"{path}, line {parsed.bad[0].number}: {parsed.bad[0].reason} ({len(parsed.bad)} bad lines in all).",
            next_step="A benchmark needs the whole file: copy it again from NASA's archive.",
        )
    return parsed.units


def read_rul(directory: Path, subset: str) -> pa.Table:
    """The true remaining cycles after each test unit's last one: `equipment_id` (string), `rul` (int64, cycles).

    Raises:
        SourceError: the file is missing, empty, or has a line that is no number of cycles; names the line.
        UnknownName: there is no such subset.
    """
    path = path_of(directory, "RUL", subset)
    lines = [line for line in _read(path).decode("ascii", "replace").splitlines() if line.strip()]
    for number, line in enumerate(lines, start=1):
        if not line.strip().isdecimal():
            raise SourceError(
                f"{path}, line {number}: {line.strip()[:40]!r} is no number of cycles.",
                next_step="Copy the file again from NASA's archive.",
            )
    ids = [_equipment_id("test", unit) for unit in range(1, len(lines) + 1)]
    return pa.table({"equipment_id": pa.array(ids, pa.string()), "rul": pa.array([int(x) for x in lines], pa.int64())})


def _equipment_id(split: Split, unit: int) -> str:
    return f"{split}-{unit:03d}"


def path_of(directory: Path, part: str, subset: str) -> Path:
    """Where NASA's archive keeps a file; `part` is `train`, `test` or `RUL`."""
    if subset not in SUBSETS:
        raise UnknownName("C-MAPSS subset", subset, SUBSETS)
    return directory / f"{part}_{subset}.txt"


def _read(path: Path) -> bytes:
    get_it = "Get NASA's C-MAPSS archive, unpack it, and give its folder as `directory`."
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}.", next_step=get_it) from error
    if not content.strip():
        raise SourceError(f"{path} is empty.", next_step=get_it)
    return content


def parsed_file(directory: Path, subset: str, split: Split) -> ParsedFile:
    """A train or test file, with its bad lines set apart.

    Raises:
        SourceError: the file is missing or holds no reading at all.
        UnknownName: there is no such subset.
    """
    path = path_of(directory, split, subset)
    content = _read(path)
    digest = hashlib.sha256(content).hexdigest()
    parsed = _parse(content, digest, split)
    if parsed.units.num_rows == 0:
        raise SourceError(
            f"{path} holds no reading; line {parsed.bad[0].number}: {parsed.bad[0].reason}.",
            next_step=f"Check that it is NASA's text file: {_FIELDS} numbers a line.",
        )
    return parsed


@lru_cache(maxsize=8)
def _parse(content: bytes, digest: str, split: Split) -> ParsedFile:
    """Sources are opened anew at every tick of the landing sensor, and parsing takes a while: hence the cache."""
    good: list[list[bytes]] = []
    bad: list[BadLine] = []
    for number, line in enumerate(content.splitlines(), start=1):
        parts = line.split()
        if reason := _defect(parts):
            bad.append(BadLine(number, reason))
        elif parts:
            good.append(parts)
    numbers = np.array(good, dtype=np.float64).reshape(-1, _FIELDS)
    ids = [_equipment_id(split, unit) for unit in numbers[:, 0].astype(int).tolist()]
    columns: dict[str, pa.Array] = {"equipment_id": pa.array(ids, pa.string())}
    columns["cycle"] = pa.array(numbers[:, 1].astype(np.int64))
    columns |= {name: pa.array(numbers[:, i]) for i, name in enumerate(COLUMNS[1:], start=2)}
    return ParsedFile(pa.table(columns), tuple(bad), digest)


def _defect(parts: list[bytes]) -> str | None:
    """Why a line is no reading; None for a good or a blank one."""
    if not parts:
        return None
    if len(parts) != _FIELDS:
        return f"{len(parts)} of {_FIELDS} columns"
    for name, part in zip(("unit", "cycle"), parts[:2], strict=True):
        if not part.isdigit() or len(part) > _MOST_DIGITS or int(part) < 1:
            return f"{name} is {part[:20].decode('ascii', 'replace')!r}, not a number from 1 to {10**_MOST_DIGITS - 1}"
    try:
        np.array(parts[2:], dtype=np.float64)
    except ValueError as error:
        return str(error)
    return None
