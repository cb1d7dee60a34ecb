"""Answers for the machines of one class: the newest release, the one before, the rules, the safe default."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np
import orjson

from backbone.fallback import NO_RELEASE, FallbackChain, Guarded, RungAnswer
from gateway import reasons
from gateway.answering import EdgeAdvisory
from gateway.edge_features import EdgeFeatures
from gateway.edge_releases import EdgeReleases, Serving
from maintenance.advisories import Advisory, advise
from maintenance.assessments import Assessments, Severity, assess
from maintenance.features import Features, feature_names
from maintenance.prognosis import Prognoses, explain, prognose, unasked
from maintenance.readings import no_rows

if TYPE_CHECKING:
    from gateway.decoding import Reading
    from maintenance.equipment_class import EquipmentClass

_OK = Severity.OK
_SEVERITIES = {severity: severity.name.lower() for severity in Severity}
_FIELDS = tuple(each.name for each in fields(Advisory))
_values = attrgetter(*_FIELDS)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked about: live readings, their features, and whom to ask."""

    readings: Sequence[Reading]
    features: Features
    baseline: str
    ladder: tuple[Serving, ...]


class EdgeScoring:
    """See `gateway.answering.FleetScoring`.

    Args:
        features: None while the fleet is not commissioned: readings are then kept, and nothing is answered but that.
        monotonic: seconds.
    """

    def __init__(
        self,
        cls: EquipmentClass,
        gateway: str,
        releases: EdgeReleases,
        features: EdgeFeatures | None,
        monotonic: Callable[[], float],
    ) -> None:
        self._class, self._gateway, self._monotonic = cls, gateway, monotonic
        self.releases, self.features = releases, features

    def warm(self) -> None:
        """Import what the first answer needs, before there is anybody who waits for it."""
        _ = self._nobody

    def take(self, readings: Sequence[Reading]) -> Asked | None:
        """Bring features up to date; readings that only fill a gap are not asked about."""
        if self.features is None:
            return None
        taken = self.features.take(readings)
        if taken is None:
            return None
        features, own = taken
        live = np.array([reasons.IS_HISTORICAL not in r.flags for r in own], bool)
        if not live.all():
            if not live.any():
                return None
            features, own = features.take(live), [r for r, asked in zip(own, live, strict=True) if asked]
        return Asked(own, features, self.features.baseline_id, self.releases.ladder)

    def answer(self, asked: Asked) -> Sequence[EdgeAdvisory]:
        """Ask the releases; the rules for what they leave."""
        rungs = [
            Guarded(_Model(self._class, serving, asked), serving.breaker, self._monotonic) for serving in asked.ladder
        ]
        if not rungs:
            return self.answer_by_rules(asked, NO_RELEASE)
        answers = FallbackChain(rungs).answer(len(asked.readings))
        found: dict[int, Advisory] = {}
        for part in answers.parts:
            at = part.rows[part.answered]
            serving, given = asked.ladder[part.rung], part.values.take(part.answered)
            advisories = self._by_model(asked, at, serving, given, answers.reasons[at].tolist())
            found.update(zip(at.tolist(), advisories, strict=True))
        left = np.flatnonzero(answers.rung < 0)
        if len(left):
            found.update(zip(left.tolist(), self._by_rules(asked, left, answers.reasons[left]), strict=True))
        return self._told(asked.readings, [found[row] for row in range(len(asked.readings))])

    def answer_by_rules(self, asked: Asked, reason: str) -> Sequence[EdgeAdvisory]:
        """The rules for every reading."""
        rows = np.arange(len(asked.readings))
        advisories = self._by_rules(asked, rows, np.full(len(rows), reason, dtype=object))
        return self._told(asked.readings, advisories)

    def _by_model(
        self, asked: Asked, at: np.ndarray, serving: Serving, given: Prognoses, passed_over: Sequence[str | None]
    ) -> Sequence[Advisory]:
        """A release's answers; what drives them is found only where there is something to do."""
        who, nobody = [f"v{serving.version}"] * len(at), self._nobody
        found = list(advise(self._class, nobody, given, releases=who, passed_over=passed_over))
        urgent = [row for row, advisory in enumerate(found) if advisory.severity > _OK]
        if urgent:
            rows = np.array(urgent)
            explained = explain(serving.scorer, asked.features.take(at[rows]), given.take(rows))
            why = [passed_over[row] for row in urgent]
            told = advise(self._class, nobody, explained, releases=who, passed_over=why)
            for row, advisory in zip(urgent, told, strict=True):
                found[row] = advisory
        return found

    def _by_rules(self, asked: Asked, at: np.ndarray, why: np.ndarray) -> Sequence[Advisory]:
        features = asked.features.take(at)
        unanswered = unasked(features.rows, why)
        return advise(
            self._class,
            assess(self._class, features),
            unanswered,
            releases=[None] * len(at),
            passed_over=[None] * len(at),
        )

    @cached_property
    def _nobody(self) -> Assessments:
        """The rules' view of no reading: where a model answers they are not asked."""
        names = feature_names(self._class)
        return assess(self._class, Features(no_rows(), names, np.empty((0, len(names)))))

    def _told(self, readings: Sequence[Reading], advisories: Sequence[Advisory]) -> list[EdgeAdvisory]:
        return [
            EdgeAdvisory(
                reading.equipment,
                advisory.served_by,
                advisory.fallback_reason,
                orjson.dumps(
                    {
                        # `dataclasses.asdict` copies each value, which takes longer than everything else here.
                        **dict(zip(_FIELDS, _values(advisory), strict=True)),
                        "severity": _SEVERITIES[advisory.severity],
                        "gateway": self._gateway,
                        "source": reading.source,
                        "session": reading.session,
                        "seq": reading.seq,
                        "flags": reading.flags,
                    }
                ),
                reading.traceparent,
            )
            for reading, advisory in zip(readings, advisories, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class _Model:
    """One release as a rung of the chain."""

    cls: EquipmentClass
    serving: Serving
    asked: Asked

    @property
    def name(self) -> str:
        return f"model:v{self.serving.version}"

    def answer(self, rows: np.ndarray) -> RungAnswer:
        """See `backbone.fallback.Rung.answer`."""
        whole = len(rows) == len(self.asked.readings)
        features = self.asked.features if whole else self.asked.features.take(rows)
        given = prognose(self.cls, self.serving.scorer, features, baseline=self.asked.baseline, explained=False)
        return RungAnswer(given, None if given.complete else given.abstained)
