"""The embedded plant's file, and whether its fleet is worth learning from."""

import tomllib
from datetime import UTC, date, datetime, time, timedelta

from backbone import plugins
from backbone.contracts import Contract
from backbone.sites import Site, site_from_toml
from backbone.sources import Batch, SourceContext
from resources import sources
from resources.catalog.sites import SHIPPED

TODAY = date(2026, 3, 1)


def riverside() -> Site:
    document = tomllib.loads((SHIPPED / "riverside.toml").read_text(encoding="utf-8"))
    return site_from_toml(document, name="riverside", anchor=TODAY)


def test_every_zone_has_a_place_and_training_crosses_a_border() -> None:
    site = riverside()
    assert len({site.at(kind).zone for kind in ("edge", "on_prem", "cloud")}) == 3
    for workload in ("training", "evaluation"):
        target = site.target_for(workload)
        assert target.timeout_s == 900
        assert site.location(target.location).jurisdiction != site.at("on_prem").jurisdiction


def test_the_history_holds_enough_failures(contracts: dict[str, Contract], tmp_path) -> None:
    site = riverside()
    assert (site.first_day, site.last_day) == (TODAY - timedelta(days=150), None)
    fleet = site.fleet("pump")
    context = SourceContext(
        site.name, contracts["pump"], contracts["maintenance"], site.first_day, site.last_day, tmp_path, fleet.settings
    )
    source = plugins.load(sources, fleet.source).open(context)
    events = [
        event
        for batch in source.batches(None, datetime.combine(TODAY, time(), UTC))
        if isinstance(batch, Batch) and batch.stream == "maintenance"
        for event in batch.rows.to_pylist()
    ]
    modes = [e["failure_mode"] for e in events if e["event"] == "failure"]
    assert len(modes) > 60
    assert min(modes.count(mode) for mode in set(modes)) > 10
    assert any(e["event"] == "preventive" for e in events)
