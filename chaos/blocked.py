"""Watches a rehearsal's windows that a check has blocked: who answers them, and that nothing rests on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from backbone.reasons import BLOCKED
from backbone.windows import next_step
from chaos.daemon import JUDGED_S, Ended
from chaos.stage import EQUIPMENT_CLASS, Stage
from resources.bindings.partitions import SERVES
from resources.plant import Plant
from resources.state.answers import Answer

_EVENTS = "maintenance_history"
_CLOSE = 1e-4
"""Features are stored in single precision, and computed here over everything at once."""


@dataclass(slots=True)
class _Episode:
    """One verdict that blocks a window, for as long as it stands.

    Attributes:
        epoch: of the model's answer that it found; None where somebody else had answered.
        due_s: when that answer must have gone.
        stood_in: how many runs answered in its place.
    """

    epoch: int | None
    due_s: float
    stood_in: int = 0


class BlockedWindows:
    """What was seen of them.

    Args:
        allowed_s: how long an answer in the model's place may take, once it is asked for.
        again_s: how much longer where that run itself failed.
    """

    def __init__(self, stage: Stage, plant: Plant, *, allowed_s: float, again_s: float) -> None:
        self._stage, self._plant, self._allowed_s, self._again_s = stage, plant, JUDGED_S + allowed_s, again_s
        self._episodes: dict[date, _Episode] = {}
        self._checked: object = None
        self._ran = False
        self.windows: set[date] = set()
        self.stood_in = self.trained_without = self.features_checked = 0
        self.violations: list[str] = []

    def answered_by_rules(self, day: date, held: Mapping[date, Answer]) -> bool:
        """Whether a window is blocked, and answered for no other reason."""
        return day in self._episodes and set(held[day].reasons) == {BLOCKED}

    def saw(self, ended: Ended, before: Mapping[date, Answer], held: Mapping[date, Answer]) -> None:
        """A run has ended; `before` and `held` are the answers before it and now."""
        now, self._ran = self._stage.now_s, True
        for day in self._episodes:
            newly = day in held and (day not in before or before[day].epoch != held[day].epoch)
            if newly and _by_model(held[day]):
                self.violations.append(f"{day}: a model answered what a check had blocked, epoch {held[day].epoch}")
        if ended.step == "fallback" and ended.windows is not None and ended.tags.get(SERVES) == BLOCKED:
            for day in ended.windows:
                self._stood_in(day, ended, held)
        if ended.step == "train" and ended.succeeded:
            self._trained()
        self._look(held, now)

    def _stood_in(self, day: date, ended: Ended, held: Mapping[date, Answer]) -> None:
        episode = self._episodes.get(day)
        if episode is None:
            return
        if not ended.succeeded:
            episode.due_s += self._again_s
            return
        episode.stood_in += 1
        self.stood_in += 1
        if episode.stood_in > 1:
            self.violations.append(f"{day}: {episode.stood_in} runs answered in the model's place for one verdict")
        if day in held and set(held[day].reasons) != {BLOCKED}:
            self.violations.append(f"{day}: blocked, and answered for {dict(sorted(held[day].reasons.items()))}")

    def _trained(self) -> None:
        table = self._plant.table(EQUIPMENT_CLASS, "training_set")
        days = set(table.read(self._stage.site.name, columns=["date"])["date"].to_pylist())
        self.trained_without += len(self._episodes)
        self.violations += [f"{day}: blocked, and in a training set" for day in sorted(days & self._episodes.keys())]

    def _look(self, held: Mapping[date, Answer], now: float) -> None:
        """Which windows are blocked now, and whether a model's answer stands there for too long."""
        blocked = self._plant.verdicts(EQUIPMENT_CLASS).blocked()
        for day in self._episodes.keys() - blocked.keys():
            del self._episodes[day]
        for day in blocked:
            if day not in self._episodes:
                epoch = held[day].epoch if day in held and _by_model(held[day]) else None
                self._episodes[day] = _Episode(epoch, now + self._allowed_s)
                self.windows.add(day)
        until_s = self._stage.held.until_s if self._stage.held.held else now
        for day, episode in self._episodes.items():
            if episode.epoch is None:
                continue
            episode.due_s = max(episode.due_s, until_s + self._allowed_s if self._stage.held.held else 0.0)
            if now > episode.due_s:
                self.violations.append(f"{day}: blocked, and the model's answer stood until {now:.0f} s at least")
                episode.epoch = None
            elif day in held and held[day].epoch != episode.epoch:
                episode.epoch = None  # it has gone just now; that no other model's comes is seen above

    def at_rest(self) -> None:
        """Nothing is asked for now: where nothing is due either, what rests on blocked days is looked at."""
        if self.windows and self._ran and next_step(self._plant.progress(EQUIPMENT_CLASS)) is None:
            self._features()
        self._ran = False

    def closes(self) -> None:
        """The rehearsal is over; every fault was mended."""
        now = self._stage.now_s
        for day, episode in sorted(self._episodes.items()):
            if episode.epoch is not None and now > episode.due_s:
                self.violations.append(f"{day}: blocked, and the model's answer stood to the end")
            self.violations.append(f"{day}: still blocked, and what was wrong has been mended")
        if self.windows:
            self._features()

    def _features(self) -> None:
        """Features of windows that are not blocked are those of the other readings alone, computed here at once."""
        plant, site, blocked = self._plant, self._stage.site.name, sorted(self._episodes)
        stored = plant.table(EQUIPMENT_CLASS, "condition_features")
        looked = (blocked, stored.version)
        if looked == self._checked:
            return
        self._checked = looked
        self.features_checked += 1
        rows = stored.read(site, min(self.windows))
        for baseline in sorted(set(rows["baseline"].to_pylist())):
            self.violations += self._differ(baseline, rows, blocked)

    def _differ(self, baseline_id: str, stored: Any, blocked: list[date]) -> list[str]:
        """Which of the stored features of one baseline are others than those of all readings that are not blocked."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        from hybrid_assets.feature_tables import features_from_arrow
        from maintenance.baseline import OperatingBaseline
        from maintenance.condition_features import compute_features
        from maintenance.equipment_class import equipment_class_from_contract
        from maintenance.readings import history_from_arrow, readings_from_arrow

        plant, site = self._plant, self._stage.site.name
        cls = equipment_class_from_contract(plant.catalog.contracts[EQUIPMENT_CLASS])
        kept = plant.baselines(EQUIPMENT_CLASS).get(baseline_id.removeprefix("sha256:"))
        alone = pa.array(blocked, pa.date32())
        rows, held = plant.table(EQUIPMENT_CLASS, "telemetry").read(site), plant.table(EQUIPMENT_CLASS, _EVENTS)
        rows = rows.filter(pc.invert(pc.is_in(rows["date"], value_set=alone)))
        readings = readings_from_arrow(cls, rows, history_from_arrow(held.read(site)))
        made, _ = compute_features(cls, OperatingBaseline.from_json(kept), readings)
        mine = pc.and_(pc.equal(stored["baseline"], baseline_id), pc.invert(pc.is_in(stored["date"], value_set=alone)))
        found = features_from_arrow(cls, stored.filter(mine))
        at = {key: n for n, key in enumerate(zip(made.rows.equipment, made.rows.ts, strict=True))}
        keys = zip(found.rows.equipment, found.rows.ts, strict=True)
        expected = made.matrix[[at[key] for key in keys]]
        wrong = ~np.isclose(found.matrix, expected, rtol=_CLOSE, atol=_CLOSE, equal_nan=True).all(axis=1)
        days = np.unique(found.rows.ts[wrong].astype("datetime64[D]")).tolist()
        without = ", ".join(map(str, blocked)) or "none"
        return [f"{day}: its features are not those of all readings but the blocked days', {without}" for day in days]


def _by_model(answer: Answer) -> bool:
    return any(who.startswith("model") for who in answer.served_by)
