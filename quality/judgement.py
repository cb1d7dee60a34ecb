"""Windows of a plant are judged: their rows are read, held to the contract's rules, and what was found comes back.

No Dagster in here: checks, commands and benchmarks judge the same way.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from backbone.contracts import Contract
from backbone.windows import WindowRange
from quality.data_docs import Page, page_name, result_of
from quality.drift import DriftReference
from quality.findings import Finding, findings_of
from quality.profiles import DRIFT_DAYS, KNOWN_DAYS
from quality.reconciliation import reconcile
from quality.requests import Batch, Outcome
from quality.warm import Validated
from quality.window_batches import Windows, batches_of
from resources.landing import AHEAD_OF_CLOCK
from resources.plant import Plant
from resources.state.verdicts import WHOLE, Verdict
from resources.stores.fingerprints import fingerprint, fingerprints
from resources.stores.tables import WindowTable

_LOOKS_BACK = {"completeness": KNOWN_DAYS, "stuck_sensors": KNOWN_DAYS, "rising": KNOWN_DAYS, "drift": DRIFT_DAYS}
"""Rule → days before a window that it takes into account."""
_EVENTS = pa.schema([("equipment_id", pa.string()), ("ts", pa.timestamp("us", tz="UTC"))])


class Validator(Protocol):
    def validate(self, batches: Sequence[Batch]) -> Validated: ...


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was found, of which content, and who evaluated it.

    Attributes:
        judged: (product, day) → the fingerprint of what was judged there.
    """

    findings: list[Finding]
    judged: Mapping[tuple[str, date], str]
    validated: Validated
    pages: Mapping[tuple[str, date], Page]

    def and_of(self, other: Judgement) -> Judgement:
        """This one, with what another found in other windows."""
        return replace(
            self,
            findings=[*self.findings, *other.findings],
            judged={**self.judged, **other.judged},
            pages={**self.pages, **other.pages},
        )

    def verdicts(self, run_id: str, at: datetime) -> list[Verdict]:
        """The verdict of each window of each product."""
        found = []
        for (product, day), content in self.judged.items():
            mine = [f for f in self.findings if (f.product, f.day) == (product, day)]
            failed = {f.rule.kind: f.observed for f in mine if f.status == "failed"}
            standing = "blocked" if any(f.blocks for f in mine) else "warned" if failed else "passed"
            found.append(Verdict(product, day, content, standing, failed, run_id, at))  # type: ignore[arg-type]
        return found


def judge(
    plant: Plant,
    equipment_class: str,
    contracts: Mapping[str, Contract],
    days: WindowRange,
    validator: Validator,
    *,
    cap: float,
) -> Judgement:
    """Judge some windows of some products.

    Args:
        contracts: of the products to judge, by their names. A product that was never stored is left out.
        cap: the longest remaining useful life that a prognosis can be of.
    """
    stored = {name: c for name, c in contracts.items() if plant.table(equipment_class, name).exists}
    # Before the rows are read: whatever is written from here on is judged again.
    judged = {at: content for name in stored for at, content in _content(plant, equipment_class, name, days).items()}
    reader = _Reader(plant, equipment_class, days, cap)
    batches: list[Batch] = []
    prepared = []
    for name, contract in stored.items():
        windows = reader.windows(name, contract)
        asked, errors = batches_of(contract, windows)
        batches += [Batch(f"{name}/{b.name}", b.rows, b.expectations) for b in asked]
        prepared.append((name, contract, windows, asked, errors))
    validated = validator.validate(batches)
    findings: list[Finding] = []
    pages: dict[tuple[str, date], Page] = {}
    for name, contract, windows, asked, errors in prepared:
        own = [
            o.of_batch(o.batch.removeprefix(f"{name}/")) for o in validated.outcomes if o.batch.startswith(f"{name}/")
        ]
        findings += findings_of(contract, windows, asked, [*own, *errors])
        told = [*own, *errors]
        pages |= {(name, day): _page(plant, equipment_class, name, day, asked, told) for day in windows.days}
    return Judgement(findings, judged, validated, pages)


def _content(plant: Plant, equipment_class: str, product: str, days: WindowRange) -> dict[tuple[str, date], str]:
    """What is stored now of what is to be judged."""
    table, site = plant.table(equipment_class, product), plant.site
    if product in WHOLE:
        return {(product, site.first_day): fingerprint(table, site.name) or ""}
    held = fingerprints(table, site.name)
    return {(product, day): held.get(day, "") for day in days}


def _page(
    plant: Plant, equipment_class: str, product: str, day: date, batches: Sequence[Batch], outcomes: Sequence[Outcome]
) -> Page:
    rows = {b.name: b.rows.filter(pc.equal(b.rows["date"], pa.scalar(day))).num_rows for b in batches}
    tables = {b.name: b.rows for b in batches}
    results = [result_of(o, day, tables.get(o.batch), rows.get(o.batch, 0)) for o in outcomes]
    name = page_name(equipment_class, plant.site.name, product, day)
    return Page(name, f"{equipment_class}/{product} {plant.site.name} {day}", results)


class _Reader:
    """Reads what the rules of several products need of the same windows, each table once."""

    def __init__(self, plant: Plant, equipment_class: str, days: WindowRange, cap: float) -> None:
        self._plant, self._class, self._days, self._cap = plant, equipment_class, days, cap
        self._newest_of_day = self._landed()

    def windows(self, product: str, contract: Contract) -> Windows:
        if product in WHOLE:
            return self._whole(product)
        kinds = {rule.kind for rule in contract.rules}
        looks_back = max((days for kind, days in _LOOKS_BACK.items() if kind in kinds), default=0)
        first = self._days.first - timedelta(days=looks_back)
        around = self._table(product).read(self._days.site, first, self._days.last)
        around = around.drop_columns([n for n in ("site",) if n in around.column_names])
        rows = around.filter(pc.greater_equal(around["date"], pa.scalar(self._days.first))) if looks_back else around
        return Windows(
            days=list(self._days),
            rows=rows,
            around=around,
            events=self._events() if kinds & {"completeness", "rising"} else _EVENTS.empty_table(),
            newest=self._newest() if "completeness" in kinds else None,
            newest_of_day=self._newest_of_day,
            reference=self._reference(product, contract) if "drift" in kinds else DriftReference(),
            counted=reconcile(self._plant, self._class) if "reconciliation" in kinds else (),
            cap=self._cap,
        )

    def _whole(self, product: str) -> Windows:
        """All rows of a product as one window, that of the plant's first day."""
        day = self._plant.site.first_day
        rows = self._table(product).read(self._days.site)
        rows = rows.set_column(
            rows.column_names.index("date"), "date", pa.repeat(pa.scalar(day, pa.date32()), rows.num_rows)
        )
        return Windows([day], rows, rows, _EVENTS.empty_table(), cap=self._cap)

    def _table(self, product: str) -> WindowTable:
        plant = self._plant
        return plant.advisories(self._class) if product == "advisories" else plant.table(self._class, product)

    def _events(self) -> pa.Table:
        table = self._table("maintenance_history")
        if not table.exists:
            return _EVENTS.empty_table()
        since = self._days.first - timedelta(days=KNOWN_DAYS)
        return table.read(self._days.site, since, self._days.last, columns=_EVENTS.names)

    def _landed(self) -> dict[date, datetime]:
        """The newest reading that has landed for each day, stored or refused."""
        newest: dict[date, datetime] = {}
        for product in ("telemetry", "telemetry_quarantine"):
            table = self._table(product)
            if not table.exists:
                continue
            columns = ["date", "ts", *(["reason"] if product == "telemetry_quarantine" else [])]
            rows = table.read(self._days.site, self._days.first, self._days.last, columns=columns)
            # A refused row may say any time, and one whose clock is ahead says one that nobody has come to.
            rows = rows.filter(pc.equal(rows["ts"].cast(pa.date32(), safe=False), rows["date"]))
            if "reason" in columns:
                rows = rows.filter(pc.not_equal(rows["reason"], AHEAD_OF_CLOCK))
            for row in rows.group_by("date").aggregate([("ts", "max")]).to_pylist():
                newest[row["date"]] = max(row["ts_max"], newest.get(row["date"], row["ts_max"]))
        return newest

    def _newest(self) -> datetime | None:
        """The newest reading of the plant, as far as these days are concerned."""
        later = [day for day in self._plant.progress(self._class).landed if day > self._days.last]
        if later:
            return datetime.combine(self._days.last + timedelta(days=1), time(), UTC)
        return max(self._newest_of_day.values(), default=None)

    def _reference(self, product: str, contract: Contract) -> DriftReference:
        """What sensors told in the training set; computed once for each of its versions."""
        table = self._table("training_set")
        if not table.exists:
            return DriftReference()
        site = self._days.site
        folder = self._plant.catalog.home.quality / "references" / self._class / site / product

        def compute() -> DriftReference:
            training = table.read(site)
            if not training.num_rows or "date" not in training.column_names:
                return DriftReference()
            reference = DriftReference.fit(training, contract.inputs)
            first, last = (bound(training["date"]).as_py() for bound in (pc.min, pc.max))
            columns = ["date", "equipment_id", *reference.columns]
            own = self._table(product).read(site, first, last, columns=columns)
            return reference.with_usual(own, list(WindowRange(site, first, last)))

        return _remembered(folder, f"{table.version}-{contract.version}", compute)


def _remembered(folder: Path, name: str, compute: Callable[[], DriftReference]) -> DriftReference:
    """A JSON file of a folder that holds one, made where it is not there."""
    path = folder / f"{name}.json"
    if path.exists():
        return DriftReference.from_json(json.loads(path.read_text(encoding="utf-8")))
    made = compute()
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.json"):
        old.unlink(missing_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(made.to_json()), encoding="utf-8")
    partial.replace(path)
    return made
