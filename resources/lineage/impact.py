"""What a bad sensor touched: forwards from its readings to features, models and advisories, out of our own events.

Columns are followed through column lineage, windows through who read which version of what. A step that read a window
in a version written later than the first bad one counts as touched: whether what was stored again was mended, no event
tells.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from backbone.errors import ConfigurationError, UnknownName
from resources.lineage.index import LineageIndex, Step, Told, Use
from resources.lineage.trace import said

_NEAR = 8
_DEEPEST = 40
_WAYS = {"readings": "its readings", "carried": "its state of earlier windows", "fitted": "what was fitted on them"}


@dataclass(frozen=True, slots=True)
class TouchedModel:
    """A release, or a model that did not become one, whose training set held touched windows.

    Attributes:
        release: its number; None: it was trained and not released.
        windows: touched windows in its training set.
    """

    release: int | None
    dataset: str
    version: str | None
    run_id: str
    dagster_run_id: str
    ended: str | None
    windows: int


@dataclass(frozen=True, slots=True)
class TouchedAdvisory:
    """An answer that holds.

    Attributes:
        open: of the machine's newest window, so that somebody may act on it.
        through: `readings`, where its own window's were bad; `carried`, where an earlier window's were and state is
            carried from window to window; `fitted`, where the model that answered, or the baseline of the features
            it was asked with, was fitted on them.
    """

    told: Told
    open: bool
    through: tuple[str, ...]


@dataclass(frozen=True)
class Impact:
    """What one sensor of one machine touched between two days, both included.

    Attributes:
        columns: asset → columns that are made from the sensor, and how.
        windows: asset → days whose rows rest on the bad readings.
        carried: asset → later days, which rest on them too as long as the machine's state is not begun anew.
    """

    site: str
    equipment_class: str
    equipment: str
    sensor: str
    first: date
    last: date
    columns: dict[str, dict[str, str]]
    windows: dict[str, list[str]]
    carried: dict[str, list[str]]
    models: tuple[TouchedModel, ...]
    advisories: tuple[TouchedAdvisory, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return {
            "site": self.site,
            "class": self.equipment_class,
            "equipment": self.equipment,
            "sensor": self.sensor,
            "from": self.first.isoformat(),
            "to": self.last.isoformat(),
            "columns": self.columns,
            "windows": self.windows,
            "carried": self.carried,
            "models": [
                {
                    "release": m.release,
                    "dataset": m.dataset,
                    "version": m.version,
                    "run_id": m.run_id,
                    "dagster_run_id": m.dagster_run_id,
                    "ended": m.ended,
                    "touched_windows": m.windows,
                }
                for m in self.models
            ],
            "advisories": [
                {"id": a.told.id, "open": a.open, "through": list(a.through), **a.told.facts} for a in self.advisories
            ],
        }


def impact(
    index: LineageIndex,
    equipment: str,
    sensor: str,
    first: date,
    last: date,
    site: str | None,
    *,
    carries: Sequence[str] = (),
) -> Impact:
    """Follow a sensor's readings of some days forwards.

    Args:
        carries: bare names of assets whose windows rest on the windows before them, too.

    Raises:
        UnknownName: no event tells of such a machine, or of such a column of its telemetry; lists near ones.
        ConfigurationError: the days are the wrong way round, or two plants have such a machine.
    """
    if last < first:
        raise ConfigurationError(f"--to {last} lies before --from {first}.", next_step="Swap them.")
    where, equipment_class = _found(index, equipment, site)
    telemetry = f"{equipment_class}/telemetry"
    known = index.source_columns(telemetry)
    if sensor not in known:
        raise UnknownName(f"column of {telemetry}", sensor, difflib.get_close_matches(sensor, known, _NEAR, 0.0))
    days = [(first + timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]
    walk = _Walk(index, where, [f"{equipment_class}/{name}" for name in carries])
    walk.forward(telemetry, days)
    return Impact(
        site=where,
        equipment_class=equipment_class,
        equipment=equipment,
        sensor=sensor,
        first=first,
        last=last,
        columns=_columns(index, telemetry, sensor),
        windows={asset: sorted(found) for asset, found in sorted(walk.windows["readings"].items())},
        carried={
            asset: sorted(found - walk.windows["readings"][asset])
            for asset, found in sorted(walk.windows["carried"].items())
            if found - walk.windows["readings"][asset]
        },
        models=tuple(walk.models()),
        advisories=tuple(_advisories(index, walk, where, equipment_class, equipment)),
    )


def _found(index: LineageIndex, equipment: str, site: str | None) -> tuple[str, str]:
    """(site, class) of a machine."""
    mine = index.fleets_of(equipment, site)
    if not mine:
        machines = index.machines()
        names = sorted({e for s, _, e, _, _ in machines if site in (None, s)})
        near = difflib.get_close_matches(equipment, names, _NEAR, 0.4) or names[:_NEAR]
        where = f" at {site}" if site else ""
        raise UnknownName(f"equipment{where}", equipment, near, next_step="Only what ever had an advisory is known.")
    if len(mine) > 1:
        listed = ", ".join(f"{s} ({c})" for s, c in mine)
        raise ConfigurationError(f"{equipment} is at more than one place: {listed}.", next_step="Choose with --site.")
    return mine[0]


def _columns(index: LineageIndex, asset: str, sensor: str) -> dict[str, dict[str, str]]:
    """Asset → column → DIRECT or INDIRECT, of everything that is made from the sensor; * for all columns at once."""
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    ahead = [(asset, sensor, "DIRECT")]
    for _ in range(_DEEPEST):
        further = []
        for source_asset, name, how in ahead:
            for made_asset, column, kind in index.columns_from(source_asset, name):
                shown = column or "*"
                if shown not in found[made_asset] and made_asset != source_asset:
                    found[made_asset][shown] = kind if how == "DIRECT" else "INDIRECT"
                    further.append((made_asset, column, found[made_asset][shown]))
        if not further:
            break
        ahead = further
    return {name: columns for name, columns in sorted(found.items()) if columns}


class _Walk:
    """Goes forwards level by level, and tells by what it came.

    `readings` as long as windows are made from windows, `carried` from where their state reaches later windows;
    `training` from where something is made of a whole site's windows; `fitted` where that is used on windows again,
    which may be any.
    """

    def __init__(self, index: LineageIndex, site: str, carries: Sequence[str]) -> None:
        self._index, self._site, self._carries = index, site, carries
        self.windows: dict[str, defaultdict[str, set[str]]] = {w: defaultdict(set) for w in ("readings", "carried")}
        self.through: defaultdict[str, set[str]] = defaultdict(set)
        self._trained: dict[str, tuple[Step, Use, int]] = {}

    def forward(self, telemetry: str, days: Sequence[str]) -> None:
        bad: list[Use] = []
        for dataset in self._index.datasets_of(telemetry, self._site):
            bad += self._index.written(dataset, self._site, days)
        level = [(use, "readings", 1) for use in bad]
        for use in bad:
            self.through[use.run_id].add("readings")
            self.windows["readings"][telemetry].add(str(use.day))
        for _ in range(_DEEPEST):
            if not level:
                return
            level = self._next(level)

    def _next(self, level: Sequence[tuple[Use, str, int]]) -> list[tuple[Use, str, int]]:
        by_dataset: defaultdict[tuple[str, str], list[tuple[Use, int]]] = defaultdict(list)
        for use, through, windows in level:
            by_dataset[(use.dataset, through)].append((use, windows))
        reached: dict[tuple[str, str], int] = {}
        for (dataset, through), written in by_dataset.items():
            reads = self._index.read_by(dataset, self._site, list({use.day for use, _ in written}))
            for read in reads:
                touched = [(use, n) for use, n in written if _found_it(read, use)]
                if touched:
                    days = {use.day for use, _ in touched}
                    count = len(days) if through == "readings" else max(n for _, n in touched)
                    key = (read.run_id, through)
                    reached[key] = max(reached.get(key, 0), count)
        steps = self._index.steps({run_id for run_id, _ in reached})
        new: dict[tuple[str, str], int] = {}
        for (run_id, through), count in reached.items():
            step = steps[run_id]
            if step.day is None and through == "carried":
                continue  # what was trained on later windows was trained on the bad ones
            if step.day is None and through == "readings":
                now = "training"
            elif step.day is not None and through == "training":
                now = "fitted"
            else:
                now = through
            known = self.through[step.run_id]
            if now not in known and not (now == "carried" and "readings" in known):
                new[(step.run_id, now)] = max(new.get((step.run_id, now), 0), count)
        outs: defaultdict[str, list[Use]] = defaultdict(list)
        for use in self._index.uses_of({run_id for run_id, _ in new}, ("out",)):
            outs[use.run_id].append(use)
        further = []
        for (run_id, through), count in new.items():
            self.through[run_id].add(through)
            step = steps[run_id]
            for use in outs[run_id]:
                if through == "training" and "hybrid_model" in use.facts:
                    self._trained[use.run_id] = (step, use, count)
                if through in self.windows and step.day is not None:
                    self.windows[through][step.asset].add(step.day)
                further.append((use, through, count))
        return further + self._carried(further)

    def _carried(self, touched: Sequence[tuple[Use, str, int]]) -> list[tuple[Use, str, int]]:
        """Later windows of what carries state, once for each data set."""
        first: dict[tuple[str, str], str] = {}
        for use, through, _ in touched:
            asset = use.asset
            if through == "readings" and asset in self._carries and use.day is not None:
                key = (use.dataset, asset)
                first[key] = min(first.get(key, use.day), use.day)
        found = []
        for (dataset, asset), day in first.items():
            for use in self._index.written_after(dataset, self._site, day):
                if self.through[use.run_id] & {"readings", "carried"}:
                    continue
                self.through[use.run_id].add("carried")
                self.windows["carried"][asset].add(str(use.day))
                found.append((use, "carried", 1))
        return found

    def models(self) -> list[TouchedModel]:
        """Newest first."""
        found = [
            TouchedModel(
                use.facts["hybrid_model"].get("release"),
                use.dataset,
                use.version,
                step.run_id,
                step.source,
                step.ended,
                count,
            )
            for step, use, count in self._trained.values()
        ]
        # A model that became a release is told once.
        released = {m.dagster_run_id for m in found if m.release is not None}
        released |= {str(u.facts["hybrid_model"].get("trainingRun")) for _, u, _ in self._trained.values()}
        kept = [m for m in found if m.release is not None or m.dagster_run_id not in released]
        return sorted(kept, key=lambda m: m.ended or "", reverse=True)


def _found_it(read: Use, written: Use) -> bool:
    """Whether a reader found what was written, or what was written later in its place."""
    if read.day is not None and read.day != written.day:
        return False
    if read.number is not None and written.number is not None:
        return read.number >= written.number
    if read.version is not None and written.version is not None:
        return read.version == written.version
    return read.id > written.id


def _advisories(
    index: LineageIndex, walk: _Walk, site: str, equipment_class: str, equipment: str
) -> list[TouchedAdvisory]:
    """Answers that hold and were touched: the machine's own, and those of all that a touched model answered for."""
    touched = {run_id: through for run_id, through in walk.through.items() if through}
    newest = index.newest_windows(site, equipment_class)
    found = []
    for told in index.holding(site, equipment_class, touched):
        through = touched.get(told.run_id, set())
        ways = [way for way in ("readings", "carried", "fitted") if way in through]
        if told.equipment != equipment:
            # Another machine's features are made from its own readings: only what was fitted is shared.
            by_model = str(told.facts.get("servedBy", "")).startswith("model")
            ways = [way for way in ways if way == "fitted" and by_model]
        if ways:
            found.append(TouchedAdvisory(told, told.day == newest[told.equipment], tuple(ways)))
    return sorted(found, key=lambda a: (not a.open, a.told.equipment != equipment, a.told.day, a.told.equipment))


def lines(found: Impact) -> list[str]:
    """For people: columns, windows, models, and the advisories that are open."""
    out = [
        f"{found.sensor} of {found.equipment} ({found.equipment_class} at {found.site}), {found.first} to {found.last}",
        "",
    ]
    out.append("columns made from it:")
    for asset, columns in found.columns.items():
        out.append(f"  {asset}: {_some(list(columns))}")
    if not found.columns:
        out.append("  none")
    out.append("windows that rest on it:")
    for asset, days in found.windows.items():
        out.append(f"  {asset}: {days[0]}..{days[-1]} ({len(days)})" if len(days) > 1 else f"  {asset}: {days[0]}")
    if not found.windows:
        out.append("  none: no telemetry of these days was stored")
    if found.carried:
        out.append("later windows, until the machine's state is begun anew:")
    for asset, days in found.carried.items():
        out.append(f"  {asset}: {days[0]}..{days[-1]} ({len(days)})" if len(days) > 1 else f"  {asset}: {days[0]}")
    out.append("models trained on it:")
    out += [
        f"  {f'release v{m.release}' if m.release is not None else 'a model that was not released'}: "
        f"{m.windows} touched windows in its training set, run {m.dagster_run_id[:8]}"
        for m in found.models
    ] or ["  none"]
    open_ = [a for a in found.advisories if a.open]
    own = [a for a in open_ if a.told.equipment == found.equipment]
    out.append(f"open advisories: {len(open_)}")
    for a in own:
        by = " and ".join(_WAYS[way] for way in a.through)
        out.append(f"  {a.told.id}: {said(a.told.facts)} (through {by})")
    if len(open_) > len(own):
        out.append(f"  {len(open_) - len(own)} of other machines, through a model or baseline that was fitted on it")
    past = len(found.advisories) - len(open_)
    if past:
        out.append(f"advisories of past windows: {past}")
    return out


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
