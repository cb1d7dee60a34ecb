"""Documents (baselines, models, evaluations, releases) are held to their contracts: every reason, and their numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backbone.contracts import Contract, Severity, with_parts
from backbone.document_checks import document_findings
from resources.plant import Plant


@dataclass(frozen=True, slots=True)
class Held:
    """What was found of a document.

    Attributes:
        reasons: against it, each with the field, its value and its range; none where it holds its contract.
        numbers: those it has, by name; the figures of its metrics among them, and how many fields were checked.
        severity: the highest of what was found; `error` where nothing was.
    """

    reasons: Sequence[str]
    numbers: Mapping[str, float]
    severity: Severity = "error"


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
    """A document against its contract; see `document_findings`."""
    found = document_findings(contract, document)
    severities = {finding.severity(contract) for finding in found}
    own = {name: value for name, value in document.items() if _is_number(value)}
    metrics = {
        name: value
        for part in ("metrics", "evaluation")
        for name, value in {**_part(document, part), **_part(_part(document, "manifest"), part)}.items()
        if _is_number(value)
    }
    shown = {name: float(value) for name, value in {**own, **metrics}.items() if math.isfinite(value)}
    fields = sum(1 for _ in with_parts(contract.columns))
    return Held(
        [str(finding) for finding in found],
        {**shown, "fields": fields, "reasons": len(found)},
        "warning" if severities == {"warning"} else "error",
    )


def _part(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = document.get(name)
    return part if isinstance(part, Mapping) else {}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
