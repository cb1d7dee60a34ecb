"""Answers for the machines of one class: the newest release, the one before, the rules, the safe default."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING

import numpy as np
import orjson

from backbone.breaker import Refusal
from backbone.fallback import NO_RELEASE, FallbackChain, Guarded, Part, RungAnswer
from gateway import reasons
from gateway.drivers import Drivers
from gateway.edge_features import EdgeFeatures
from gateway.edge_releases import EdgeReleases, Serving
from gateway.scoring_jobs import EdgeAdvisory
from maintenance.advisories import Advisory, advise_by_model, advise_by_rules
from maintenance.assessments import Severity, assess
from maintenance.features import Features, feature_names
from maintenance.prognosis import Prognoses, prognose
from maintenance.question import question_of
from maintenance.readings import no_rows

if TYPE_CHECKING:
    from gateway.decoding import Reading
    from maintenance.equipment_class import EquipmentClass

_log = logging.getLogger("hybrid.gateway")

_OK = Severity.OK
_SEVERITIES = {severity: severity.name.lower() for severity in Severity}


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked about: live readings, their features, and whom to ask."""

    readings: Sequence[Reading]
    features: Features
    baseline: str
    ladder: tuple[Serving, ...]

    def __len__(self) -> int:
        return len(self.readings)


class EdgeScoring:
    """See `gateway.scoring_jobs.FleetScoring`.

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
        self.doubted = False
        """Features hold what was not kept."""
        self._drivers, self._question = Drivers(), question_of(cls)

    def warm(self) -> None:
        """Import what the first answer needs, before there is anybody who waits for it."""
        names = feature_names(self._class)
        assess(self._class, Features(no_rows(), names, np.empty((0, len(names)))))

    def take(self, readings: Sequence[Reading]) -> Asked | None:
        """Bring features up to date; readings that only fill a gap are not asked about."""
        if self.features is None or (taken := self.features.take(readings)) is None:
            return None
        features, own = taken
        if any(reasons.IS_HISTORICAL in reading.flags for reading in own):
            live = [n for n, reading in enumerate(own) if reasons.IS_HISTORICAL not in reading.flags]
            if not live:
                return None
            features, own = features.take(np.array(live, np.intp)), [own[n] for n in live]
        return Asked(own, features, self.features.baseline_id, self.releases.ladder)

    def answer(self, asked: Asked) -> Sequence[EdgeAdvisory]:
        """Ask the releases; the rules for what they leave."""
        rungs = [
            Guarded(_Model(self._class, serving, asked), serving.breaker, self._monotonic) for serving in asked.ladder
        ]
        if not rungs:
            return self.answer_by_rules(asked, NO_RELEASE)
        answers = FallbackChain(rungs).answer(len(asked))
        found: dict[int, Advisory] = {}
        for part in answers.parts:
            features = asked.features if len(part.rows) == len(asked) else asked.features.take(part.rows)
            advisories = self._by_model(asked.ladder[part.rung], features, part, answers.reasons)
            found.update(zip(part.rows[part.answered].tolist(), advisories, strict=True))
        left = np.flatnonzero(answers.rung < 0)
        if len(left):
            advisories = self._by_rules(asked.features.take(left), answers.reasons[left].tolist())
            found.update(zip(left.tolist(), advisories, strict=True))
        return self._told(asked.readings, [found[row] for row in range(len(asked))])

    def answer_by_rules(self, asked: Asked, reason: str) -> Sequence[EdgeAdvisory]:
        """The rules for every reading."""
        return self._told(asked.readings, self._by_rules(asked.features, [reason] * len(asked)))

    def doubt(self) -> None:
        """See `gateway.scoring_jobs.FleetScoring`."""
        self.doubted = self.features is not None

    def _by_model(
        self, serving: Serving, features: Features, part: Part, passed_over: np.ndarray
    ) -> Sequence[Advisory]:
        """A release's answers, to those of the rows that it answered; what drives them is told only where people are to
        look.

        Args:
            features: of the rows it was asked about.
            passed_over: of all rows.
        """
        given: Prognoses = part.values
        verdict, answers, answered = self._question.verdict, given.answers(), np.flatnonzero(part.answered).tolist()
        if len(answered) < len(answers):
            answers = [answers[row] for row in answered]
        verdicts = [verdict(answer) for answer in answers]
        urgent = {answered[n]: n for n, found in enumerate(verdicts) if found.severity > _OK}
        if urgent:
            severities = {row: verdicts[n].severity for row, n in urgent.items()}
            for n, (driver, driven) in zip(urgent.values(), self._driven(serving, features, severities), strict=True):
                answers[n] = answers[n]._replace(driver=driver, driven=driven)
                verdicts[n] = verdict(answers[n])
        return advise_by_model(
            self._class,
            given.rows,
            answers,
            verdicts,
            answered=answered,
            release=f"v{serving.version}",
            passed_over=passed_over[part.rows[part.answered]].tolist(),
        )

    def _driven(
        self, serving: Serving, features: Features, urgent: Mapping[int, Severity]
    ) -> Iterable[tuple[str | None, float]]:
        """See `Drivers.told`; nothing drives where the release fails at it, which counts as its other failures do."""
        began = self._monotonic()
        try:
            return self._drivers.told(serving.scorer, serving.version, features, urgent)
        except Exception as error:  # whatever the runtime raises: its answers stand
            _log.warning("not explained", extra={"told": {"release": serving.version, "why": str(error)}})
            permit = serving.breaker.ask()
            if not isinstance(permit, Refusal):
                permit.failed(str(error), self._monotonic() - began)
            return [(None, nan)] * len(urgent)

    def _by_rules(self, features: Features, why: Sequence[str]) -> Sequence[Advisory]:
        return advise_by_rules(self._class, assess(self._class, features), why)

    def _told(self, readings: Sequence[Reading], advisories: Sequence[Advisory]) -> list[EdgeAdvisory]:
        return [
            EdgeAdvisory(
                reading,
                advisory.served_by,
                advisory.fallback_reason,
                orjson.dumps(
                    {
                        **advisory._asdict(),
                        "severity": _SEVERITIES[advisory.severity],
                        "gateway": self._gateway,
                        "source": reading.source,
                        "session": reading.session,
                        "seq": reading.seq,
                        "flags": reading.flags,
                    }
                ),
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
