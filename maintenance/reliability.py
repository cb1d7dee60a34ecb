"""Whether answers are as sure as they say, by band of what was answered: a few numbers, whatever the rows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from maintenance.intervals import bands_of
from maintenance.metrics import coverage, width

INTERVAL_COVERAGE, CALIBRATION, FALSE_ALARMS = "interval_coverage", "calibration", "false_alarms"
_CALIBRATION_EDGES = np.linspace(0, 1, 11)[1:-1]
_SCORES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0)


@dataclass(frozen=True, slots=True)
class Band:
    """Rows that were answered alike.

    Attributes:
        told: what they were answered, on average, in the unit of answers.
        share: how many of them turned out as the kind of `Reliability` says, 0 to 1.
        rows: how many there are.
        width: mean width of their intervals, in the unit of answers; None where there are no intervals.
    """

    told: float
    share: float
    rows: int
    width: float | None = None


@dataclass(frozen=True, slots=True)
class Reliability:
    """What answers promised and what came of it.

    - `interval_coverage`: `share` of the rows' true values lay inside their intervals, which promise `promised`.
    - `calibration`: `share` of the rows' machines failed; a probability promises itself, `promised` is None.
    - `false_alarms`: `share` of all rows, normal ones, were scored `told` or more; at the limit of alarm, 1, no more
      than `promised` may be. `rows` counts these.
    """

    kind: str
    promised: float | None
    bands: tuple[Band, ...]

    def to_dict(self) -> dict[str, Any]:
        """As records hold it; what is not there is left out."""
        bands = [{name: value for name, value in asdict(band).items() if value is not None} for band in self.bands]
        return {"kind": self.kind, "bands": bands} | ({} if self.promised is None else {"promised": self.promised})


def interval_coverage(
    predicted: np.ndarray, true: np.ndarray, low: np.ndarray, high: np.ndarray, *, promised: float
) -> Reliability:
    """Of predicted remaining lives with intervals, (n,) each; the bands hold about as many rows each."""
    which = bands_of(predicted)
    found = []
    for band in np.unique(which):
        inside = which == band
        a, b = low[inside], high[inside]
        found.append(
            Band(
                round(float(predicted[inside].mean()), 4),
                coverage(true[inside], a, b),
                int(inside.sum()),
                round(width(a, b), 4),
            )
        )
    return Reliability(INTERVAL_COVERAGE, promised, tuple(found))


def calibration(probability: np.ndarray, happened: np.ndarray) -> Reliability:
    """Of (n,) probabilities and whether what they are of happened; ten bands of equal width, less empty ones."""
    which = np.searchsorted(_CALIBRATION_EDGES, probability, side="right")
    found = [
        Band(round(float(probability[inside].mean()), 6), float(happened[inside].mean()), int(inside.sum()))
        for inside in (which == band for band in np.unique(which))
    ]
    return Reliability(CALIBRATION, None, tuple(found))


def false_alarms(score: np.ndarray, *, promised: float) -> Reliability:
    """Of (n,) scores of normal rows, 1 at the limit of alarm."""
    beyond = [int((score >= least).sum()) for least in _SCORES] if len(score) else []
    bands = [Band(least, n / len(score), n) for least, n in zip(_SCORES, beyond, strict=False)]
    return Reliability(FALSE_ALARMS, promised, tuple(bands))
