"""NASA's turbofan data through the same graph, all of it: the last window is the benchmark's own test."""

from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from resources.sources.cmapss import read_rul
from tests.scenarios.installation import Installation

pytestmark = [pytest.mark.shared, pytest.mark.slow, pytest.mark.timeout(1200)]


def test_fd001_is_green_with_all_its_partitions(installation: Installation, cmapss_directory: Path) -> None:
    report = installation.hybrid(
        "replay", "cmapss", str(cmapss_directory), "--subset", "FD001", "--site", "nasa", timeout=1100
    )
    fleet = report["fleets"]["turbofan"]
    assert (fleet["windows_landed"], fleet["windows_served"]) == (362, 362)
    assert (fleet["telemetry"], fleet["telemetry_quarantine"]) == (20631 + 13096, 0)
    assert fleet["served_by"] == {"model:v1": 101}, "100 test units and the longest training unit"

    from hybrid_assets.definitions import build_definitions

    graph = build_definitions(installation.home).resolve_asset_graph()
    with dg.DagsterInstance.from_config(str(installation.home.dagster)) as instance:
        for key in graph.get_all_asset_keys():
            if key.path[0] == "turbofan":
                partitions = graph.get(key).partitions_def
                assert partitions is not None
                assert set(partitions.get_partition_keys()) == instance.get_materialized_partitions(key), key

    last = installation.plant("nasa").site.last_day
    advised = installation.plant("nasa").advisories("turbofan").read("nasa", last, last)
    predicted = dict(zip(advised["equipment_id"].to_pylist(), advised["rul"].to_pylist(), strict=True))
    truth = read_rul(cmapss_directory, "FD001")
    errors = [
        predicted[unit] - min(rul, 125)
        for unit, rul in zip(truth["equipment_id"].to_pylist(), truth["rul"].to_pylist(), strict=True)
    ]
    assert np.sqrt(np.mean(np.square(errors))) <= 14
