"""What a bad sensor touched: forwards from its readings to features, models and advisories, out of our own events.

Columns are followed through column lineage, windows through who read which version of what. Telemetry that was stored
again counts as bad, too: whether it was mended, no event tells.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from backbone.errors import ConfigurationError, UnknownName
from resources.lineage.index import LineageIndex, Step, Told, Use, Write
from resources.lineage.trace import said, what_was_found
from resources.state.verdicts import RESTS_ON

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
    constant: Sequence[str] = (),
) -> Impact:
    """Follow a sensor's readings of some days forwards.

    Args:
        carries: bare names of assets whose windows rest on the windows before them, too.
        constant: who answers the same whatever was fitted, and whatever earlier windows were like.

    Raises:
        UnknownName: no event tells of such a machine, or of such a column of its telemetry; lists near ones.
        ConfigurationError: the days are the wrong way round, or two plants have such a machine.
    """
    if last < first:
        raise ConfigurationError(f"--to {last} lies before --from {first}.", next_step="Swap them.")
    where, equipment_class = _found(index, equipment, site)
    telemetry = f"{equipment_class}/telemetry"
    known = index.columns_of(telemetry)
    if sensor not in known:
        raise UnknownName(f"column of {telemetry}", sensor, difflib.get_close_matches(sensor, known, _NEAR, 0.0))
    columns = _columns(index, telemetry, sensor)
    heard = _Heard(index, where, equipment_class, equipment)
    days = heard.of([(first + timedelta(days=n)).isoformat() for n in range((last - first).days + 1)])
    untouched = index.assets_with_columns() - set(columns)
    walk = _Walk(index, where, [f"{equipment_class}/{name}" for name in carries], untouched)
    if columns:
        walk.forward(telemetry, days)
    return Impact(
        site=where,
        equipment_class=equipment_class,
        equipment=equipment,
        sensor=sensor,
        first=first,
        last=last,
        columns=columns,
        windows={asset: sorted(found) for asset, found in sorted(walk.windows["readings"].items())},
        carried={
            asset: later
            for asset, found in sorted(walk.windows["carried"].items())
            if (later := heard.of(sorted(found - walk.windows["readings"][asset])))
        },
        models=tuple(walk.models()),
        advisories=tuple(_advisories(index, walk, where, equipment_class, equipment, constant)),
    )


class _Heard:
    """On which days a machine may have sent readings: every machine that has is answered, wherever anybody is.

    A run that stands in for another answers for machines that were not heard, too, and tells nothing of that.
    """

    def __init__(self, index: LineageIndex, site: str, equipment_class: str, equipment: str) -> None:
        self._index, self._fleet = index, (site, equipment_class)
        self._own = {told.run_id for told in index.answers(site, equipment_class, equipment, None)}

    def of(self, days: Sequence[str]) -> list[str]:
        """Those of the days that no attempt tells it was silent on."""
        attempts = self._index.answered(*self._fleet, days)
        steps = self._index.steps({run_id for _, run_id in attempts})
        asked = {(d, r) for d, r in attempts if not steps[r].facts.get("hybrid_answer", {}).get("because")}
        silent = {d for d, _ in asked} - {d for d, r in asked if r in self._own}
        return [day for day in days if day not in silent]


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

    def __init__(self, index: LineageIndex, site: str, carries: Sequence[str], untouched: set[str]) -> None:
        self._index, self._site, self._carries, self._untouched = index, site, carries, untouched
        self._verdicts: dict[str, list[tuple[str, str, dict[str, bool]]]] = {}
        self.windows: dict[str, defaultdict[str, set[str]]] = {w: defaultdict(set) for w in ("readings", "carried")}
        self.through: defaultdict[str, set[str]] = defaultdict(set)
        self._trained: dict[str, tuple[Step, Use, int]] = {}

    def forward(self, telemetry: str, days: Sequence[str]) -> None:
        bad: list[Use] = []
        for dataset in self._index.datasets_of(telemetry, self._site):
            bad += self._index.written(dataset, self._site, days)
            self._note_verdicts(dataset.removesuffix("telemetry"), days)
        level = [(use, "readings", 1) for use in bad]
        for use in bad:
            self.through[use.run_id].add("readings")
            self.windows["readings"][telemetry].add(str(use.day))
        for _ in range(_DEEPEST):
            if not level:
                return
            level = self._next(level)

    def _next(self, level: Sequence[tuple[Use, str, int]]) -> list[tuple[Use, str, int]]:
        by_dataset: defaultdict[str, defaultdict[str, dict[tuple[str, str | None], int]]] = defaultdict(
            lambda: defaultdict(dict)
        )
        for use, through, count in level:
            by_dataset[use.dataset][through][use.run_id, use.day] = count
        reached: dict[tuple[str, str], int] = {}
        steps: dict[str, Step] = {}
        for dataset, ways in by_dataset.items():
            days = list({day for written in ways.values() for _, day in written})
            reads = self._index.read_by(dataset, self._site, days)
            steps |= self._index.steps({read.run_id for read in reads} - set(steps))
            by_day: defaultdict[str | None, list[Write]] = defaultdict(list)
            for write in self._index.writes(dataset, self._site, days):
                by_day[write.day].append(write)
            for read in reads:
                step = steps[read.run_id]
                if step.asset in self._untouched:
                    continue
                for through, written in ways.items():
                    found = self._touched(read, step, through, written, by_day)
                    if found:
                        key = (read.run_id, through)
                        count = len(found) if through == "readings" else max(written[one] for one in found)
                        reached[key] = max(reached.get(key, 0), count)
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

    def _touched(
        self,
        read: Use,
        step: Step,
        through: str,
        written: Mapping[tuple[str, str | None], int],
        by_day: Mapping[str | None, Sequence[Write]],
    ) -> list[tuple[str, str | None]]:
        """(run, day) of what was touched and is what a reader found."""
        began = step.began or step.ended or ""
        days = dict.fromkeys(day for _, day in written if read.day in (None, day))
        found = []
        for day in days:
            write = what_was_found(read, began, by_day.get(day, ()))
            learnt_without = step.day is None and through == "readings" and self._blocked(day, began)
            if write is not None and (write.run_id, day) in written and not learnt_without:
                found.append((write.run_id, day))
        return found

    def _note_verdicts(self, folder: str, days: Sequence[str]) -> None:
        """What checks of severity error have found in some windows, in the order in which they did."""
        checks = [use for name in RESTS_ON for use in self._index.checks(f"{folder}{name}", self._site, days)]
        steps = self._index.steps({use.run_id for use in checks})
        for use in checks:
            at = steps[use.run_id].ended or "" if use.run_id in steps else ""
            told = {c["name"]: c["success"] for c in use.facts.get("checks", ()) if c.get("severity") == "error"}
            self._verdicts.setdefault(str(use.day), []).append((at, use.asset, told))
        for known in self._verdicts.values():
            known.sort(key=lambda verdict: verdict[0])

    def _blocked(self, day: str | None, at: str) -> bool:
        """Whether a failed check kept a window from training then."""
        last: dict[tuple[str, str], bool] = {}
        for when, asset, told in self._verdicts.get(str(day), ()):
            if when <= at:
                last |= {(asset, name): success for name, success in told.items()}
        return not all(last.values())

    def _carried(self, touched: Sequence[tuple[Use, str, int]]) -> list[tuple[Use, str, int]]:
        """Later windows of what carries state, once for each data set."""
        first: dict[tuple[str, str], str] = {}
        since: dict[tuple[str, str], int] = {}
        for use, through, _ in touched:
            asset = use.asset
            if through == "readings" and asset in self._carries and use.day is not None:
                key = (use.dataset, asset)
                first[key] = min(first.get(key, use.day), use.day)
                since[key] = min(since.get(key, use.number or 0), use.number or 0)
        found = []
        for (dataset, asset), day in first.items():
            for use in self._index.written_after(dataset, self._site, day):
                before = use.number is not None and use.number < since[dataset, asset]
                if before or self.through[use.run_id] & {"readings", "carried"}:
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


def _advisories(
    index: LineageIndex, walk: _Walk, site: str, equipment_class: str, equipment: str, constant: Sequence[str]
) -> list[TouchedAdvisory]:
    """Answers that hold and were touched: the machine's own, and those of all that a touched model answered for."""
    touched = {run_id: through for run_id, through in walk.through.items() if through}
    newest = index.newest_windows(site, equipment_class)
    found = []
    for told in index.holding(site, equipment_class, touched):
        through = touched.get(told.run_id, set())
        ways = [way for way in ("readings", "carried", "fitted") if way in through]
        if told.facts.get("servedBy") in constant:
            ways = [way for way in ways if way == "readings"]
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
        out.append("  none: events tell of no reading of it on these days that anything is made from")
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
