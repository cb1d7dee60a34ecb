"""Every asset's spec, compared with the one that was looked at and kept.

After a change that is meant: `python -m pytest tests/graph --update-snapshot`, and read the difference.
"""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from hybrid_assets.definitions import build_definitions
from resources.home import Home

SNAPSHOT = Path(__file__).with_name("asset_snapshot.json")


def described(spec: dg.AssetSpec, definitions: dg.Definitions) -> dict[str, Any]:
    schema = spec.metadata.get("dagster/column_schema")
    graph = definitions.resolve_asset_graph()
    partitions = graph.get(spec.key).partitions_def
    return {
        "checks": sorted(k.name for k in graph.get_check_keys_for_assets({spec.key})),
        "code_version": spec.code_version,
        "columns": [f"{c.name}: {c.type}" for c in schema.columns][:12] if schema else None,
        "deps": sorted(
            f"{d.asset_key.to_user_string()} ({type(d.partition_mapping).__name__ if d.partition_mapping else 'same'})"
            for d in spec.deps
        ),
        "description": spec.description,
        "freshness": spec.freshness_policy is not None,
        "group": spec.group_name,
        "kinds": sorted(spec.kinds),
        "owners": list(spec.owners),
        "partitions": type(partitions).__name__,
        "skippable": spec.skippable,
        "tags": {k: v for k, v in sorted(spec.tags.items()) if not k.startswith("dagster/kind")},
    }


def test_assets_are_as_they_were_looked_at(home: Home, request: pytest.FixtureRequest) -> None:
    definitions = build_definitions(home)
    now = {s.key.to_user_string(): described(s, definitions) for s in definitions.resolve_all_asset_specs()}
    if request.config.getoption("--update-snapshot"):
        SNAPSHOT.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n")
    kept = json.loads(SNAPSHOT.read_text())
    assert json.loads(json.dumps(now)) == kept


def test_every_asset_tells_people_what_it_is(home: Home) -> None:
    for spec in build_definitions(home).resolve_all_asset_specs():
        assert spec.description, spec.key
        assert spec.owners, spec.key
        assert spec.kinds, spec.key
        assert spec.code_version, spec.key
