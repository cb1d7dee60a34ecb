"""The embedded plant's file, and whether its fleet is worth learning from."""

import tomllib
from datetime import UTC, date, datetime, time, timedelta

from backbone import plugins
from backbone.contracts import Contract
from backbone.placement import BlockedTarget, Placement, Situation, place
from backbone.site_files import site_from_toml
from backbone.sites import Site
from backbone.sources import Batch, SourceContext
from resources import sources
from resources.catalog.sites import SHIPPED

TODAY = date(2026, 3, 1)


def riverside() -> Site:
    document = tomllib.loads((SHIPPED / "riverside.toml").read_text(encoding="utf-8"))
    return site_from_toml(document, name="riverside", anchor=TODAY)


def placed(workload: str, situation: Situation) -> Placement:
    site = riverside()
    return place(
        workload, site.workloads[workload], site.candidates(), situation, now=datetime.combine(TODAY, time(), UTC)
    )


def test_every_zone_has_a_place_and_training_crosses_a_border() -> None:
    site = riverside()
    assert len({site.at(kind).zone for kind in ("edge", "on_prem", "cloud")}) == 3
    chosen = placed("training", Situation()).chosen
    assert chosen is not None
    target = site.target(chosen.candidate.target)
    assert target.timeout_s == 900
    assert site.location(target.location).jurisdiction != site.at("on_prem").jurisdiction


def test_without_the_cloud_it_trains_on_the_premises_on_less() -> None:
    now = datetime.combine(TODAY, time(), UTC)
    away = BlockedTarget(now + timedelta(hours=1), "it is cut off", location="cloud")
    whole, less = (placed("training", Situation(blocked=blocked)) for blocked in ([], [away]))
    assert whole.requirements is not None
    assert less.requirements is not None
    assert less.chosen is not None
    assert (whole.requirements.budget, less.requirements.budget) == (1.0, 0.3)
    assert (less.chosen.candidate.location, less.chosen.candidate.target) == ("on_prem", "plant-worker")


def test_scoring_stays_in_the_country_and_is_done_beside_the_features() -> None:
    situation = Situation(data_gb={"on_prem": 0.01})
    placement = placed("scoring", situation)
    assert placement.chosen is not None
    assert placement.chosen.candidate.target == "plant-server"
    (cloud,) = [v for v in placement.verdicts if v.candidate.location == "cloud"]
    assert "residency" in {r.rule for r in cloud.rejections}


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
