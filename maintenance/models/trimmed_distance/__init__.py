"""Distance from normal, each feature on its own scale, both fitted to what agrees with the surely normal readings.

The fit is that of the fast minimum covariance determinant (Rousseeuw & Van Driessen, Technometrics 1999) with a
diagonal scatter: a robust start, then steps that keep the readings near it. Readings taken as normal that are not
neither widen the scales nor raise the limit then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from maintenance.candidates import ModelSpec

if TYPE_CHECKING:
    from maintenance.models.trimmed_distance.detector import TrimmedDistance


def _build(seed: int) -> Any:  # noqa: ARG001 - nothing in it is random
    from maintenance.models.trimmed_distance.detector import TrimmedDistance

    return TrimmedDistance()


def _export(model: TrimmedDistance, columns: int) -> bytes:
    from maintenance.models.trimmed_distance.detector import export

    return export(model, columns)


SPEC = ModelSpec(
    name="trimmed_distance",
    summary="How far rolling means and deviations stand from where normal readings have them, on the scale of those.",
    cannot=(
        "see sensors that leave each other while each stays where it was",
        "tell a machine that warms up from one that goes wrong: it has to have seen both ends of normal",
        "see a change that is small against how much the sensor wanders when all is well",
    ),
    build=_build,
    answers="anomaly",
    export=_export,
)
