"""Documents (baselines, models, evaluations, releases) are held to their contracts: every reason, and their numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backbone.contracts import Contract
from backbone.document_checks import document_findings
from resources.plant import Plant

DOCUMENTS = ("operating_baseline", "trained_model", "model_evaluation", "model_release")
"""Data products that are one document, made by training for a plant as a whole."""


@dataclass(frozen=True, slots=True)
class Held:
    """What was found of a document.

    Attributes:
        reasons: against it; none where it holds its contract.
        numbers: those it has, by name; the figures of its metrics among them, and how many fields were checked.
    """

    reasons: Sequence[str]
    numbers: Mapping[str, float]


def newest(plant: Plant, equipment_class: str, product: str) -> Mapping[str, Any] | None:
    """The document that was made last; None where there is none.

    Raises:
        HybridError: it cannot be read, or a release does not verify.
    """
    if product == "model_release":
        registry = plant.registry(equipment_class)
        return registry.current().manifest if registry.versions() else None
    trained = plant.candidates(equipment_class)
    kept = {
        "operating_baseline": plant.baselines(equipment_class),
        "trained_model": trained,
        "model_evaluation": plant.evaluations(equipment_class),
    }[product]
    name = kept.current()
    return None if name is None else dict(json.loads(kept.get(name)))


def held(contract: Contract, document: Mapping[str, Any]) -> Held:
    """A document against its contract. No number in it, however deep, may be NaN or infinite: JSON has no word for it,
    and a metric of that kind compares with nothing."""
    reasons = document_findings(contract, document)
    reasons += [f"not_finite:{where}" for where, value in _numbers(document) if not math.isfinite(value)]
    own = {name: value for name, value in document.items() if _is_number(value)}
    metrics = {
        name: value
        for part in ("metrics", "evaluation")
        for name, value in {**_part(document, part), **_part(_part(document, "manifest"), part)}.items()
        if _is_number(value)
    }
    shown = {name: float(value) for name, value in {**own, **metrics}.items() if math.isfinite(value)}
    return Held(list(dict.fromkeys(reasons)), {**shown, "fields": len(contract.columns), "reasons": len(reasons)})


def _part(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = document.get(name)
    return part if isinstance(part, Mapping) else {}


def _numbers(value: object, where: str = "") -> Iterator[tuple[str, float]]:
    """Every number, with the path of names to it; lists have the name of what they are in."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _numbers(part, f"{where}.{name}" if where else str(name))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _numbers(part, where)
    elif _is_number(value):
        yield where, float(value)  # type: ignore[arg-type]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
