"""Of a fleet behind a gateway, the graph takes up only what does not come through it."""

import importlib.util
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from backbone.errors import ConfigurationError, UnknownName
from backbone.sources import SourceContext
from resources.sources.gateway import SPEC

END = datetime(2025, 12, 31, tzinfo=UTC)


@pytest.fixture
def context(tmp_path: Path) -> SourceContext:
    path = Path(__file__).with_name("examples") / "gateway.py"
    spec = importlib.util.spec_from_file_location("gateway_example", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.context(tmp_path)


def handed_over(context: SourceContext, **settings: object) -> set[tuple[str, date]]:
    return {(b.stream, b.day) for b in SPEC.open(replace(context, settings=settings)).batches(None, END)}


def test_there_is_nothing_to_poll(context: SourceContext) -> None:
    assert handed_over(context) == set()


def test_another_source_tells_what_was_done_to_machines(context: SourceContext) -> None:
    assert handed_over(context, other={"kind": "files"}) == {("maintenance", date(2025, 4, 2))}


def test_telemetry_of_before_the_gateway_is_taken_up_and_none_of_after(context: SourceContext) -> None:
    found = handed_over(context, other={"kind": "files"}, telemetry_before=date(2025, 4, 1))
    assert found == {("maintenance", date(2025, 4, 2)), ("telemetry", date(2025, 3, 1))}


def test_its_end_may_be_told_as_days_from_the_plants_first(context: SourceContext) -> None:
    found = handed_over(context, other={"kind": "files"}, telemetry_days=90)
    assert found == {("maintenance", date(2025, 4, 2)), ("telemetry", date(2025, 3, 1))}


def test_a_file_that_is_not_taken_up_stays_where_it_is(context: SourceContext) -> None:
    source = SPEC.open(replace(context, settings={"other": {"kind": "files"}}))
    for batch in source.batches(None, END):
        source.taken_up(batch)
    assert sorted(p.name for p in context.drop_folder.rglob("*.parquet")) == ["march.parquet"]
    assert not (context.drop_folder / "maintenance" / "history.csv").exists()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"other": {"kind": "gateway"}}, "the other source is 'gateway'"),
        ({"other": {}}, "the other source is None"),
        ({"telemetry_before": date(2025, 1, 1)}, "when another source ends"),
        ({"other": {"kind": "files"}, "telemetry_before": date(2025, 1, 1), "telemetry_days": 1}, "when another"),
        ({"other": {"kind": "files", "settle": 1}}, "settle"),
    ],
)
def test_wrong_settings_are_told(context: SourceContext, settings: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        SPEC.open(replace(context, settings=settings))


def test_an_unknown_source_lists_those_there_are(context: SourceContext) -> None:
    with pytest.raises(UnknownName) as error:
        SPEC.open(replace(context, settings={"other": {"kind": "fax"}}))
    assert "files" in error.value.valid
