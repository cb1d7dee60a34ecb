"""Source `files`: Parquet, CSV and JSON lines that people or other systems drop into a folder.

Content decides, not names or positions: a file's `txn` is the SHA-256 of its bytes, so the same content has
an effect once, however often and under whatever name it is dropped. Good rows of a damaged text file count;
each bad line is refused on its own. A file that gives no rows at all is refused whole, with the reason
beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from backbone.contracts import Contract
from backbone.errors import ContractError
from backbone.row_checks import decode
from backbone.settings import settings_from
from backbone.sources import Batch, RefusedBatch, Source, SourceContext, SourceSpec
from backbone.windows import day_until
from resources.sources.files.folder import DropFolder, DroppedFile
from resources.sources.files.formats import READERS, BadLine, Parsed, UnreadableError

MOST_BAD_LINES = 1000
"""A text file with more bad lines than this is refused whole: it is not damaged, it is something else."""


@dataclass(frozen=True, slots=True)
class FilesSettings:
    """The source's table in a site file.

    Attributes:
        settle_s: a file that changed within this time is still being written.
        max_bytes: a larger file is refused; it would have to fit into memory.
    """

    settle_s: Annotated[float, Field(ge=0, le=86_400)] = 2.0
    max_bytes: Annotated[int, Field(ge=1, le=2**40)] = 256 * 2**20


class _RefusedFileError(Exception):
    """The file as a whole; the text is the reason people read."""


class DroppedFiles:
    """The drop folder of one fleet.

    Args:
        now: the clock that says whether a file has settled.
    """

    def __init__(
        self,
        context: SourceContext,
        settings: FilesSettings,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._context, self._settings, self._now = context, settings, now
        self._folder = DropFolder(context.drop_folder)

    def batches(self, position: str | None, until: datetime) -> Iterator[Batch | RefusedBatch]:  # noqa: ARG002
        """See `backbone.sources.Source.batches`. Whatever lies in the folder is due; positions say nothing.

        A file's rows may be of any day. The batch's own day is the one most of them are of, else the day
        the file was dropped; never one outside the calendar or after `until`.

        Raises:
            SourceError: the folder cannot be listed.
        """
        if day_until(until) < self._context.first_day:
            return
        for file in self._folder.whole_files(self._now(), self._settings.settle_s):
            yield from self._batches_of(file, day_until(until))

    def taken_up(self, batch: Batch | RefusedBatch) -> None:
        """Moves the file to `taken/` or `refused/`.

        A refused line leaves it where it is: the file's own batch comes last, and moves it.
        """
        refusal = batch.reason if isinstance(batch, RefusedBatch) else None
        self._folder.put_away(batch.origin, batch.txn, refusal)

    def _batches_of(self, file: DroppedFile, until: date) -> Iterator[Batch | RefusedBatch]:
        contract = self._context.telemetry if file.stream == "telemetry" else self._context.maintenance
        dropped_on = self._in_calendar(file.modified.date(), until)
        try:
            parsed = self._parsed(file, contract)
            if parsed is None:
                return
            day = self._main_day(parsed.rows, contract, until) or dropped_on
        except _RefusedFileError as refusal:
            yield self._refused(file, file.txn, dropped_on, str(refusal))
            return
        for bad in parsed.bad:
            yield self._refused(file, f"{file.txn}:line{bad.number}", day, f"unreadable_line: {_said(bad)}")
        yield Batch(file.txn, file.stream, day, parsed.rows, file.origin, position=file.txn)

    def _parsed(self, file: DroppedFile, contract: Contract) -> Parsed | None:
        """What the file holds; None if it was taken back or written on while we looked."""
        if file.obstacle:
            raise _RefusedFileError(f"unreadable_file: {file.obstacle}")
        if file.size_b == 0:
            raise _RefusedFileError("empty_file: it has no content")
        if file.size_b > self._settings.max_bytes:
            raise _RefusedFileError(
                f"file_too_large: {file.size_b} bytes, the limit is {self._settings.max_bytes} (setting max_bytes)"
            )
        reader = READERS.get(file.path.suffix.lower())
        if reader is None:
            raise _RefusedFileError(
                f"unreadable_file: {file.path.suffix or 'a name without ending'} is no format we read; "
                f"use one of: {', '.join(READERS)}"
            )
        content = file.content()
        if content is None:
            return None
        if not content.strip():
            raise _RefusedFileError("empty_file: it holds nothing but blank lines")
        try:
            parsed = reader(content, contract)
        except UnreadableError as error:
            raise _RefusedFileError(f"unreadable_file: {error}") from error
        if len(parsed.bad) > MOST_BAD_LINES or (parsed.bad and not parsed.rows.num_rows):
            raise _RefusedFileError(f"unreadable_file: {len(parsed.bad)} bad lines; the first: {_said(parsed.bad[0])}")
        _check_schema(parsed.rows, contract)
        return parsed

    def _main_day(self, rows: pa.Table, contract: Contract, until: date) -> date | None:
        """The day of the calendar that most rows are of; None if there is no such row."""
        ts = next(c.name for c in contract.columns if c.key and c.logical_type == "timestamp")
        try:
            days = decode(contract, rows)[ts].cast(pa.date32(), safe=False)
        except pa.ArrowException as error:
            raise _RefusedFileError(f"wrong_schema: {str(error).partition(chr(10))[0]}") from error
        first, last = (pa.scalar(self._in_calendar(d, until)) for d in (self._context.first_day, until))
        days = days.filter(pc.and_(pc.greater_equal(days, first), pc.less_equal(days, last)))
        counts = sorted(((n["counts"], n["values"]) for n in pc.value_counts(days).to_pylist()), reverse=True)
        return counts[0][1] if counts else None

    def _in_calendar(self, day: date, until: date) -> date:
        return max(min(day, until, self._context.last_day or until), self._context.first_day)

    def _refused(self, file: DroppedFile, txn: str, day: date, reason: str) -> RefusedBatch:
        return RefusedBatch(txn, file.stream, day, reason, file.origin, position=file.txn)


def _said(bad: BadLine) -> str:
    return f"line {bad.number}: {bad.reason}"


def _check_schema(rows: pa.Table, contract: Contract) -> None:
    names = rows.column_names
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise _RefusedFileError(f"wrong_schema: column {', '.join(twice)} is there more than once")
    try:
        decode(contract, rows.slice(0, 0))
    except ContractError as error:
        raise _RefusedFileError(f"wrong_schema: {error.problem.removeprefix('wrong schema: ')}") from error
    if not rows.num_rows:
        raise _RefusedFileError("empty_file: it has columns but no rows")


def _open(context: SourceContext) -> Source:
    settings = settings_from(
        FilesSettings, context.settings, where=f"source files of {context.telemetry.name} at site {context.site}"
    )
    return DroppedFiles(context, settings)


SPEC = SourceSpec(
    name="files",
    summary="Parquet, CSV and JSON lines dropped into a folder, taken up by content, once.",
    cannot=(
        "see a text file cut off between two lines, or within a line's last number: it looks whole",
        "read compressed CSV or JSON, other separators than commas, or quoted line breaks",
        "tell a new version of a file from more data: rows sent before are refused as duplicates",
    ),
    open=_open,
)
