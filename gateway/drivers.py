"""What makes a machine's prognosis as bad as it is: found where people are to look, and not anew for every reading."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import nan

import numpy as np

from maintenance.assessments import Severity
from maintenance.features import Features
from maintenance.prognosis import Scorer, drivers

AGAIN_S = 60.0
"""For how long, by the readings' own time, what was found holds, where release, life and severity stay the same.

To find it takes one more prediction a sensor, several times as long as all else of an answer.
"""
_AGAIN_US = round(AGAIN_S * 1e6)


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
        self, scorer: Scorer, version: int, features: Features, severities: Mapping[int, Severity]
    ) -> Iterator[tuple[str | None, float]]:
        """Sensor, and what it does, see `maintenance.prognosis.Prognoses.driver`, of some rows that a release answered.

        Args:
            severities: of those rows, by their place among the features.
        """
        rows = features.rows
        names, lives, times = rows.equipment.tolist(), rows.life.tolist(), rows.ts.view(np.int64).tolist()
        told: list[_Found] = []
        fresh: dict[str, _Found] = {}
        missing: list[tuple[int, _Found]] = []
        for row, severity in severities.items():
            name, ts_us, of = names[row], times[row], (version, lives[row], severity)
            found = fresh.get(name) or self._found.get(name)
            if found is None or found.of != of or not 0 <= ts_us - found.ts_us < _AGAIN_US:
                found = fresh[name] = _Found(ts_us, of)
                missing.append((row, found))
            told.append(found)
        if missing:
            which, by_how_much = drivers(scorer, features.take(np.array([row for row, _ in missing])))
            for (_, found), driver, driven in zip(missing, which.tolist(), by_how_much.tolist(), strict=True):
                found.driver, found.driven = driver, driven
            self._found.update(fresh)
        return ((found.driver, found.driven) for found in told)
