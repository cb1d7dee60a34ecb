"""What a dropped file holds, row by row: a program of its own, so that a file can harm nothing but its reading.

    python -m gateway.file_rows '{"name": ..., <the fields of Bounds>}' < file

It bounds its own memory and time, reads the file from standard input twice, and writes lines to standard output:

    {"rows": n}                           first, when all of the file was found readable
    {"reason": ..., "detail": ...}        instead: the file as a whole is not; nothing follows
    R "equipment" <tab> {payload}         a row as a reading, what `gateway.decoding` reads, `seq` counted from 1
    L reason <tab> base64                 a line that is no row, as it stands there
    E                                     last

*Rows.* Columns `equipment_id` and `ts`; all others are `values`. A line of JSON may be a reading with `values` of its
own instead. In CSV, what looks like a number is one, nothing at all is null, and all else is text. In Parquet, NaN is
null, as many writers have it.
"""

from __future__ import annotations

import base64
import csv
import gzip
import json
import math
import os
import re
import resource
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import IO, Any

import orjson

from gateway import reasons
from gateway.decoding import MAX_BYTES, Refusal, decode

MOST_BAD_LINES = 1000
"""A text with more lines that are no rows is not damaged, it is something else."""
EQUIPMENT, TS = "equipment_id", "ts"
_MEMBERS = 1000
_BATCH = 1000
_MAGIC_BYTES = 512
_PARQUET = b"PAR1"
_LARGEST_FOOTER = 16 << 20
_GZIP = b"\x1f\x8b"
_ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06", b"7z\xbc\xaf\x27\x1c", b"Rar!", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
_ARCHIVE_NAME = re.compile(r"\.(zip|tar|tgz|gz|bz2|xz|zst|7z|rar|jar|whl)$", re.IGNORECASE)
_EXECUTABLE_NAME = re.compile(r"\.(pickle|pkl|joblib|pt|pth|exe|dll|so|sh|py|pyc)$", re.IGNORECASE)
_EXECUTABLES = (b"\x7fELF", b"MZ\x90\x00", b"#!")
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_LOOSE_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_WHOLE = re.compile(r"[0-9]{1,18}")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much reading a file may take.

    Attributes:
        session: of all readings.
        inflated: bytes of a text, or of a Parquet file's columns.
        cells: rows × columns, of Parquet.
        memory: bytes.
        cpu_s: of a processor, for both readings.
    """

    session: str
    inflated: int
    rows: int
    columns: int
    cells: int
    memory: int
    cpu_s: int


class Unreadable(Exception):
    """The file as a whole.

    Args:
        reason: of `gateway.reasons`.
        detail: for who dropped it.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class BadLine:
    reason: str
    raw: bytes


Row = Mapping[str, Any]
"""`equipment_id`, `ts`, `values`, and what else of a reading a line of JSON had."""
Rows = Iterator[Row | BadLine]
Reader = Callable[[IO[bytes], Bounds], Rows]


def rows(name: str, content: IO[bytes], bounds: Bounds) -> Rows:
    """The rows of a file.

    Args:
        content: seekable, at its beginning.

    Raises:
        Unreadable: the file as a whole; maybe not before some of its rows.
    """
    size, start = content.seek(0, os.SEEK_END), _start(content)
    if not size:
        raise Unreadable(reasons.UNREADABLE_FILE, "it is empty")
    ending, compressed = name.lower(), False
    if ending.endswith(".gz"):
        ending, compressed = ending[:-3], True
    reader = next((r for end, r in READERS.items() if ending.endswith(end) and not (compressed and r is parquet)), None)
    if _EXECUTABLE_NAME.search(ending) or _is_executable(start):
        raise Unreadable(
            reasons.EXECUTABLE_FORMAT, "it could run code when it is opened; drop the data as CSV or Parquet"
        )
    if start.startswith(_GZIP) and compressed:
        try:
            with gzip.GzipFile(fileobj=content) as inflating:
                within = inflating.read(_MAGIC_BYTES)
        except (OSError, EOFError, zlib.error) as error:
            raise Unreadable(reasons.UNREADABLE_FILE, f"its compression is damaged: {error}") from error
        content.seek(0)
        if _is_archive(within) or within.startswith(_GZIP):
            raise Unreadable(reasons.NESTED_ARCHIVE, "it is an archive in an archive; drop the files themselves")
        if _is_executable(within):
            raise Unreadable(reasons.EXECUTABLE_FORMAT, "it could run code when it is opened")
    elif _is_archive(start) or start.startswith(_GZIP):
        raise _archive(content)
    elif compressed:
        raise Unreadable(reasons.UNREADABLE_FILE, "it is not compressed, as its name says")
    if reader is None:
        raise Unreadable(reasons.UNREADABLE_FILE, f"no format we read; name it with one of: {', '.join(READERS)}")
    if compressed:
        with gzip.GzipFile(fileobj=content) as inflating:
            yield from reader(inflating, bounds)  # type: ignore[arg-type]
    else:
        yield from reader(content, bounds)


def comma_separated(content: IO[bytes], bounds: Bounds) -> Rows:
    """CSV: UTF-8, commas, a header. No line breaks within quotes."""
    header: list[str] | None = None
    for line in _lines(content, bounds):
        fields, why = _fields(line)
        if header is None:
            if fields is None:
                raise Unreadable(reasons.UNREADABLE_FILE, f"its header cannot be read: {why}")
            header = [field.strip() for field in fields]
            _check_columns(header, bounds)
        elif fields is None or len(fields) != len(header):
            yield BadLine(why or reasons.NOT_A_READING, line)
        else:
            values = dict(zip(header, fields, strict=True))
            equipment, ts = values.pop(EQUIPMENT).strip(), values.pop(TS).strip()
            read: dict[str, Any] = {EQUIPMENT: equipment, TS: int(ts) if _WHOLE.fullmatch(ts) else ts}
            yield read | {"values": {name: _value(text.strip()) for name, text in values.items()}}


def json_lines(content: IO[bytes], bounds: Bounds) -> Rows:
    """One JSON object a line."""
    for line in _lines(content, bounds):
        verdict = decode(line)
        if isinstance(verdict, Refusal) and verdict.reason != reasons.NOT_A_READING:
            yield BadLine(verdict.reason, line)
            continue
        found = orjson.loads(line)
        if not isinstance(found, dict) or not isinstance(found.get(EQUIPMENT), str):
            yield BadLine(reasons.NOT_A_READING, line)
            continue
        if isinstance(found.get("values"), dict):
            yield found
            continue
        values = {name: value for name, value in found.items() if name not in (EQUIPMENT, TS)}
        yield {EQUIPMENT: found[EQUIPMENT], TS: found.get(TS), "values": values}


def parquet(content: IO[bytes], bounds: Bounds) -> Rows:
    """Apache Parquet with flat columns. What its footer says is believed only if it is not too much."""
    size = content.seek(0, os.SEEK_END)
    content.seek(max(size - 8, 0))
    tail = content.read()
    if _start(content)[:4] != _PARQUET or tail[4:] != _PARQUET:
        raise Unreadable(reasons.UNREADABLE_FILE, "it is no complete Parquet file")
    footer = int.from_bytes(tail[:4], "little")
    if footer > min(size - 12, _LARGEST_FOOTER):
        raise Unreadable(reasons.UNREADABLE_FILE, f"its footer claims {footer} bytes")
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(
            content,
            page_checksum_verification=True,
            pre_buffer=False,
            thrift_string_size_limit=_LARGEST_FOOTER,
            thrift_container_size_limit=1_000_000,
        )
        about = file.metadata
        groups = [about.row_group(n) for n in range(about.num_row_groups)]
        claimed = max(about.num_rows, sum(group.num_rows for group in groups))
        if claimed > bounds.rows or claimed * about.num_columns > bounds.cells:
            raise Unreadable(
                reasons.TOO_MANY_ROWS,
                f"{claimed} rows × {about.num_columns} columns; at most {bounds.rows} rows, {bounds.cells} values",
            )
        if (inflated := sum(group.total_byte_size for group in groups)) > bounds.inflated:
            raise Unreadable(reasons.COMPRESSION_BOMB, f"it inflates to {inflated} bytes, at most {bounds.inflated}")
        schema = file.schema_arrow
        _check_columns(schema.names, bounds)
        for field in schema:
            if pa.types.is_nested(field.type) or pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
                raise Unreadable(reasons.UNREADABLE_FILE, f"column {field.name!r} is of type {field.type}")
        in_microseconds = pa.schema(  # what is finer needs pandas to become an object
            [f.with_type(pa.timestamp("us", f.type.tz)) if pa.types.is_timestamp(f.type) else f for f in schema]
        )
        count = 0
        for batch in file.iter_batches(_BATCH, use_threads=False):
            batch.validate(full=True)
            batch = batch.cast(in_microseconds, safe=False)
            count += batch.num_rows
            if count > claimed:
                raise Unreadable(reasons.TOO_MANY_ROWS, f"it holds more than the {claimed} rows that it claims")
            for read in batch.to_pylist():
                equipment, ts = read.pop(EQUIPMENT), read.pop(TS)
                yield {EQUIPMENT: _plain(equipment), TS: _plain(ts), "values": {k: _plain(v) for k, v in read.items()}}
        if count != about.num_rows:
            raise Unreadable(reasons.UNREADABLE_FILE, f"it holds {count} rows and claims {about.num_rows}")
    except (MemoryError, pa.ArrowMemoryError) as error:
        raise Unreadable(reasons.COMPRESSION_BOMB, "reading it takes more memory than it may") from error
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        said = str(error).partition("\n")[0][:200]
        raise Unreadable(reasons.UNREADABLE_FILE, f"it is no complete Parquet file: {said}") from error


READERS: dict[str, Reader] = {
    ".csv": comma_separated,
    ".ndjson": json_lines,
    ".jsonl": json_lines,
    ".json": json_lines,
    ".parquet": parquet,
}
"""By the end of the name; all but Parquet may be compressed with gzip, and end in `.gz`."""


def main(given: str) -> None:
    """See the module."""
    asked = json.loads(given)
    name = asked.pop("name")
    bounds = Bounds(**asked)
    # Of Arrow: other memory pools take much more than they use, and threads have memory of their own.
    os.environ |= {"ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1", "ARROW_IO_THREADS": "1"}
    os.nice(10)  # a reading that waits to be answered goes first
    resource.setrlimit(resource.RLIMIT_DATA, (bounds.memory, bounds.memory))
    resource.setrlimit(resource.RLIMIT_CPU, (bounds.cpu_s, bounds.cpu_s))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    content, out = sys.stdin.buffer, sys.stdout.buffer
    try:
        count = checked(name, content, bounds)
    except Unreadable as error:
        out.write(orjson.dumps({"reason": error.reason, "detail": error.detail}) + b"\n")
        return
    except MemoryError:
        told = {"reason": reasons.COMPRESSION_BOMB, "detail": "reading it takes more memory than it may"}
        out.write(orjson.dumps(told) + b"\n")
        return
    out.write(orjson.dumps({"rows": count}) + b"\n")
    for number, row in enumerate(rows(name, content, bounds), 1):
        out.write(_written(row, number, bounds.session) + b"\n")
    out.write(b"E\n")
    out.flush()


def checked(name: str, content: IO[bytes], bounds: Bounds) -> int:
    """How many rows and bad lines there are, once all of them were read.

    Raises:
        Unreadable: the file as a whole is not to be read.
    """
    count = bad = 0
    first = ""
    for count, row in enumerate(rows(name, content, bounds), 1):
        if count > bounds.rows:
            raise Unreadable(reasons.TOO_MANY_ROWS, f"it has more than {bounds.rows} rows")
        if len(_written(row, count, bounds.session)) > 2 * MAX_BYTES:
            raise Unreadable(reasons.TOO_LARGE, f"row {count} has more than {MAX_BYTES >> 10} KiB")
        if isinstance(row, BadLine):
            bad += 1
            first = first or f"{row.reason} in {row.raw[:80]!r}"
        if bad > MOST_BAD_LINES:
            break
    if not count:
        raise Unreadable(reasons.UNREADABLE_FILE, "it has no rows")
    if bad > MOST_BAD_LINES or bad == count:
        raise Unreadable(reasons.UNREADABLE_FILE, f"{bad} lines are no rows; the first: {first}")
    return count


def _written(row: Row | BadLine, number: int, session: str) -> bytes:
    if isinstance(row, BadLine):
        return b"L" + row.reason.encode() + b"\t" + base64.b64encode(row.raw)
    reading = {**row, "seq": number, "session": session}
    equipment = reading.pop(EQUIPMENT)
    return b"R" + orjson.dumps(equipment if isinstance(equipment, str) else "") + b"\t" + orjson.dumps(reading)


def _start(content: IO[bytes]) -> bytes:
    content.seek(0)
    start = content.read(_MAGIC_BYTES)
    content.seek(0)
    return start


def _is_archive(start: bytes) -> bool:
    return start.startswith(_ARCHIVES) or start[257:262] == b"ustar"


def _is_executable(start: bytes) -> bool:
    return start.startswith(_EXECUTABLES) or _PICKLE.match(start) is not None


def _archive(content: IO[bytes]) -> Unreadable:
    """Why an archive is put aside, by the worst that is in it; nothing is unpacked."""
    found = {reasons.UNREADABLE_FILE: "it is an archive; drop the files themselves"}
    for name, is_link in _members(content):
        parts = re.split(r"[/\\]", name)
        if (
            ".." in parts
            or name.startswith(("/", "\\"))
            or re.match(r"[A-Za-z]:", name)
            or not name.isprintable()
            or max(map(len, parts)) > 255
        ):
            found[reasons.BAD_NAME] = f"it is an archive with a member that is named {name[:80]!r}"
        if is_link:
            found[reasons.SYMBOLIC_LINK] = f"it is an archive with a link, {name[:80]!r}"
        if _ARCHIVE_NAME.search(name):
            found[reasons.NESTED_ARCHIVE] = f"it is an archive with another in it, {name[:80]!r}"
    worst = next(r for r in (reasons.BAD_NAME, reasons.SYMBOLIC_LINK, reasons.NESTED_ARCHIVE, *found) if r in found)
    return Unreadable(worst, found[worst])


def _members(content: IO[bytes]) -> Iterator[tuple[str, bool]]:
    """Names, and whether they are links, as far as they can be read."""
    start = _start(content)
    try:
        if start.startswith(b"PK"):
            with zipfile.ZipFile(content) as packed:
                for info in packed.infolist()[:_MEMBERS]:
                    yield info.orig_filename, (info.external_attr >> 28) == 0xA
        elif start[257:262] == b"ustar":
            with tarfile.open(fileobj=content, mode="r:") as packed_tar:
                for _, member in zip(range(_MEMBERS), packed_tar, strict=False):
                    yield member.name, member.issym() or member.islnk()
        elif start.startswith(_GZIP):
            with gzip.GzipFile(fileobj=content) as inflating:
                within = inflating.read(_MAGIC_BYTES)
            if _is_archive(within) or within.startswith(_GZIP):
                yield "archive.gz", False
    except (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile, tarfile.TarError, NotImplementedError):
        return


def _lines(content: IO[bytes], bounds: Bounds) -> Iterator[bytes]:
    """Lines that are not blank, without their ends."""
    inflated, first = 0, True
    try:
        while line := content.readline(MAX_BYTES + 1):
            inflated += len(line)
            if inflated > bounds.inflated:
                raise Unreadable(
                    reasons.COMPRESSION_BOMB, f"it has more than {bounds.inflated} bytes when it is inflated"
                )
            if len(line) > MAX_BYTES:
                raise Unreadable(reasons.TOO_LARGE, f"it has a line of more than {MAX_BYTES >> 10} KiB")
            if first:
                line, first = line.removeprefix(_BYTE_ORDER_MARK), False
            if stripped := line.rstrip(b"\r\n"):
                yield stripped
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable(reasons.UNREADABLE_FILE, f"its compression is damaged: {error}") from error


def _fields(line: bytes) -> tuple[list[str] | None, str]:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return None, reasons.INVALID_UTF8
    if text.count('"') % 2 or "\0" in text:
        return None, reasons.NOT_A_READING
    try:
        return next(csv.reader([text], strict=True)), ""
    except (csv.Error, StopIteration):
        return None, reasons.NOT_A_READING


def _check_columns(names: list[str], bounds: Bounds) -> None:
    if len(names) > bounds.columns:
        raise Unreadable(reasons.TOO_MANY_ROWS, f"it has {len(names)} columns, at most {bounds.columns}")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Unreadable(reasons.UNREADABLE_FILE, f"column {', '.join(map(repr, twice))} is there more than once")
    if missing := [name for name in (EQUIPMENT, TS) if name not in names]:
        raise Unreadable(reasons.UNREADABLE_FILE, f"it has no column {' and no column '.join(missing)}")


def _value(text: str) -> Any:
    """What a field of CSV means."""
    if not text:
        return None
    if _NUMBER.fullmatch(text):
        return orjson.Fragment(text)  # as it is written: what no float can hold is the judge's to refuse
    if _LOOSE_NUMBER.fullmatch(text):
        return _plain(float(text))
    return text


def _plain(value: Any) -> Any:
    """A value of Parquet as JSON has it."""
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return value if math.isfinite(value) else orjson.Fragment("Infinity")
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, date):
        return value.isoformat()
    return value if value is None or isinstance(value, bool | int | str) else str(value)


if __name__ == "__main__":
    main(sys.argv[1])
