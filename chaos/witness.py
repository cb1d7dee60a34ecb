"""Watches a rehearsal: which windows wait for an answer, since when, and how long it takes to make them good."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

from chaos.blocked import BlockedWindows
from chaos.daemon import Ended
from chaos.stage import EQUIPMENT_CLASS, Stage
from resources.bindings.partitions import EPOCH
from resources.plant import Plant
from resources.state.answers import Answer
from sensors.jobs import QUALITY

DETECTION_S = 30.0
"""Within this time after a run has ended, its fallback is asked for: three times a sensor's pause."""
AFTER_TROUBLE_S = 660.0
"""The longest pause between two tries of an answer of the rules that itself failed, and one more detection."""


@dataclass(slots=True)
class _Waiting:
    """A window without the answer it was due: since when that is known, and which epoch will do."""

    since_s: float
    epoch: int
    due_s: float


class Witness:
    """What was seen of one rehearsal."""

    def __init__(self, stage: Stage, plant: Plant) -> None:
        self._stage, self._plant = stage, plant
        deadline_s = stage.site.workloads["scoring"][0].requirements.deadline_s
        self._deadline_s = deadline_s if deadline_s is not None else 60.0
        self._held: dict[date, Answer] = plant.answers(EQUIPMENT_CLASS).all()
        self._waiting: dict[date, _Waiting] = {}
        self._degraded: dict[date, float] = {}
        self._first_rows: dict[tuple[date, int], list[Any]] = {}
        self.first_epoch = max((a.epoch for a in self._held.values()), default=0)
        self.windows_degraded: set[date] = set()
        self.to_fallback_s: list[float] = []
        self.to_recover_s: list[float] = []
        self.violations: list[str] = []
        self.runs: Counter[str] = Counter()
        self.stood_in: Counter[tuple[date, int]] = Counter()
        self.blocked = BlockedWindows(
            stage, plant, allowed_s=self._deadline_s + DETECTION_S, again_s=AFTER_TROUBLE_S + self._deadline_s
        )

    @property
    def at_rest(self) -> bool:
        """No window waits for an answer, or for a better one."""
        return not self._waiting and not self._degraded

    @property
    def waits_for_readings(self) -> bool:
        """All that is waited for are readings that would mend what a check has blocked."""
        return not self._waiting and all(self.blocked.answered_by_rules(day, self._held) for day in self._degraded)

    def saw(self, ended: Ended) -> None:
        """A run has ended."""
        now = self._stage.now_s
        self.runs[f"{ended.step} {'succeeded' if ended.succeeded else 'failed'}"] += 1
        held = self._plant.answers(EQUIPMENT_CLASS).all()
        changed = [day for day, answer in held.items() if day not in self._held or self._held[day] != answer]
        for day in changed:
            self._answered(day, held[day], self._held.get(day), now)
        if changed and ended.succeeded and ended.failures and not self._waiting.keys() & set(changed):
            self.to_fallback_s.append(now - ended.failures[0])
        self.blocked.saw(ended, self._held, held)
        self._held = held
        if ended.step == "fallback" and ended.succeeded and ended.windows is not None:
            self.stood_in.update((day, int(ended.tags[EPOCH])) for day in ended.windows)
        if not ended.succeeded and ended.windows is not None and ended.step not in ("ingest", "train", QUALITY):
            self._left(ended, now)

    def _answered(self, day: date, answer: Answer, before: Answer | None, now: float) -> None:
        if before is not None and answer.epoch < before.epoch:
            self.violations.append(f"{day}: an answer of epoch {answer.epoch} took the place of one of {before.epoch}")
        waiting = self._waiting.get(day)
        if waiting is not None and answer.epoch >= waiting.epoch:
            del self._waiting[day]
            # While the state database was held, nobody could have answered.
            let_go_s = min(self._stage.held.until_s, now)
            self.to_fallback_s.append(now - max(waiting.since_s, let_go_s))
            self._in_time(day, waiting, now)
        if answer.mendable:
            self._degraded.setdefault(day, now)
            self.windows_degraded.add(day)
        elif day in self._degraded:
            began = self._degraded.pop(day)
            ends = [f.end_s for f in self._stage.scenario.faults if f.start_s <= now and began < f.end_s <= now]
            self.to_recover_s.append(now - max(ends, default=began))
        rows = self._plant.advisories(EQUIPMENT_CLASS).history(self._stage.site.name, day, day).to_pylist()
        holds = Counter(row["served_by"] for row in rows if row["epoch"] == answer.epoch)
        if holds != Counter(answer.served_by):
            told, said = dict(sorted(holds.items())), dict(sorted(answer.served_by.items()))
            self.violations.append(
                f"{day}: the advisories of epoch {answer.epoch} are by {told}, the record says {said}"
            )
        for epoch in {row["epoch"] for row in rows}:
            self._first_rows.setdefault((day, epoch), _sorted(row for row in rows if row["epoch"] == epoch))

    def _left(self, ended: Ended, now: float) -> None:
        """A run failed: which of its windows are without the answer they are due."""
        assert ended.windows is not None
        answers, progress = self._plant.answers(EQUIPMENT_CLASS), self._plant.progress(EQUIPMENT_CLASS)
        epoch = int(ended.tags[EPOCH]) if EPOCH in ended.tags else answers.epoch_of(ended.run_id)
        allowed_s = self._deadline_s + DETECTION_S
        if ended.step == "fallback" or self._stage.held.until_s > now:
            allowed_s += AFTER_TROUBLE_S
        due_s = max(now, self._stage.held.until_s if self._stage.held.held else now) + allowed_s
        for day in ended.windows:
            held = self._held.get(day)
            if day not in progress.landed:
                continue
            if epoch is None and held is not None and progress.served.get(day) == progress.landed[day]:
                continue
            if epoch is not None and held is not None and held.epoch >= epoch:
                continue
            needed = epoch if epoch is not None else (held.epoch if held is not None else 0) + 1
            waiting = self._waiting.setdefault(day, _Waiting(now, needed, due_s))
            waiting.due_s = max(waiting.due_s, due_s)

    def _in_time(self, day: date, waiting: _Waiting, now: float) -> None:
        if now > waiting.due_s:
            late = now - waiting.since_s
            self.violations.append(f"{day}: answered {late:.0f} s after it was known that its run had failed")

    def closes(self) -> None:
        """The rehearsal is over."""
        self.blocked.closes()
        self.violations += self.blocked.violations
        for day, waiting in sorted(self._waiting.items()):
            late = self._stage.now_s - waiting.since_s
            self.violations.append(f"{day}: no answer {late:.0f} s after it was known that its run had failed")
        table = self._plant.advisories(EQUIPMENT_CLASS)
        rows = table.history(self._stage.site.name).to_pylist() if self._first_rows else []
        now: dict[tuple[date, int], list[Any]] = {}
        for row in rows:
            now.setdefault((row["date"], row["epoch"]), []).append(row)
        for key, before in sorted(self._first_rows.items()):
            if _sorted(now.get(key, ())) != before:
                self.violations.append(f"{key[0]}: the advisories of epoch {key[1]} are not what they first were")

    @property
    def left_degraded(self) -> set[date]:
        return set(self._degraded)


def _sorted(rows: Any) -> list[Any]:
    return sorted((sorted((k, _text(v)) for k, v in row.items()) for row in rows), key=str)


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, date | datetime | time) else str(value)
