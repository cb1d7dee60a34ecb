"""What all events share: ids, times, the form of a facet, and the bytes that stand for an event."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

Event = dict[str, Any]

SPEC = "https://openlineage.io/spec"
EVENT_SCHEMA = f"{SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
PRODUCER = "urn:hybrid-assets"
CUSTOM = "urn:hybrid-assets:openlineage:1-0-0"
"""Our own facets; `resources/lineage/schemas` publishes their schemas, each under its name."""
_RUNS = UUID("5c1f5c6e-8d0d-5a0a-9d65-6d2e0f4f6c11")
"""Namespace of the ids of runs (RFC 9562, version 5)."""


def run_id_of(*parts: object) -> str:
    """The id of a run, the same for the same parts wherever and whenever it is asked for."""
    return str(uuid5(_RUNS, json.dumps([str(part) for part in parts], ensure_ascii=False)))


def time_text(at: datetime) -> str:
    """An instant as events write it: UTC, microseconds."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def standard(name: str, version: str, definition: str = "", /, **values: Any) -> dict[str, Any]:
    """A facet of the standard, such as `ParentRunFacet` 1-2-0."""
    return {
        "_producer": PRODUCER,
        "_schemaURL": f"{SPEC}/facets/{version}/{name}.json#/$defs/{definition or name}",
        **values,
    }


def custom(name: str, /, **values: Any) -> dict[str, Any]:
    """A facet of ours, such as `PlacementRunFacet`."""
    return {"_producer": PRODUCER, "_schemaURL": f"{CUSTOM}:{name}.json#/$defs/{name}", **values}


def canonical(event: Mapping[str, Any]) -> bytes:
    """The bytes that stand for an event: the same event is the same bytes."""
    return json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
