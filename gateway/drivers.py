"""What makes a machine's prognosis as bad as it is: found where people are to look, and not anew for every reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import nan

import numpy as np

from maintenance.assessments import Severity
from maintenance.features import Features
from maintenance.prognosis import Prognoses, Scorer, drivers

AGAIN_S = 60.0
"""For how long, by the readings' own time, what was found holds, where release, life and severity stay the same.

To find it takes one more prediction a sensor, several times as long as all else of an answer.
"""
_OK = Severity.OK


@dataclass(slots=True)
class _Found:
    ts_us: int
    of: tuple[int, int, Severity]
    """Release, life and severity."""
    driver: str | None = None
    driven: float = nan


class Drivers:
    """Of the machines of one fleet. For one thread."""

    def __init__(self) -> None:
        self._found: dict[str, _Found] = {}

    def told(
        self, scorer: Scorer, version: int, features: Features, answered: Prognoses, severities: Sequence[Severity]
    ) -> Prognoses:
        """A release's answers, with what drives those that ask for attention.

        Args:
            features, answered, severities: of the same n rows; the release has answered each.
        """
        urgent = [row for row, severity in enumerate(severities) if severity > _OK]
        if not urgent:
            return answered
        rows = features.rows
        names, lives, times = rows.equipment.tolist(), rows.life.tolist(), rows.ts.view(np.int64).tolist()
        told: list[_Found] = []
        fresh: dict[str, _Found] = {}
        missing: list[tuple[int, _Found]] = []
        for row in urgent:
            name, ts_us, of = names[row], times[row], (version, lives[row], severities[row])
            found = fresh.get(name) or self._found.get(name)
            if found is None or found.of != of or not 0 <= ts_us - found.ts_us < AGAIN_S * 1e6:
                found = fresh[name] = _Found(ts_us, of)
                missing.append((row, found))
            told.append(found)
        if missing:
            which, by_how_much = drivers(scorer, features.take(np.array([row for row, _ in missing])))
            for (_, found), driver, driven in zip(missing, which.tolist(), by_how_much.tolist(), strict=True):
                found.driver, found.driven = driver, driven
            self._found.update(fresh)
        which, by_how_much = np.full(len(rows), None, dtype=object), np.full(len(rows), nan)
        which[urgent] = [found.driver for found in told]
        by_how_much[urgent] = [found.driven for found in told]
        return replace(answered, driver=which, driven=by_how_much)
