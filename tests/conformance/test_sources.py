"""What holds for every source. A new plug-in is tested by its example in tests/resources/sources/examples."""

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pytest

from backbone import plugins
from backbone.errors import UnknownName
from backbone.row_checks import decode, row_check
from backbone.sources import Batch, RefusedBatch, Source, SourceContext, SourceSpec
from resources import sources

EXAMPLES = Path(__file__).resolve().parents[1] / "resources" / "sources" / "examples"
FAR = date(2999, 12, 31)


@pytest.fixture(params=plugins.names(sources))
def spec(request: pytest.FixtureRequest) -> SourceSpec:
    return plugins.load(sources, request.param)


@pytest.fixture
def context(spec: SourceSpec, tmp_path: Path) -> SourceContext:
    path = EXAMPLES / f"{spec.name}.py"
    if not path.exists():
        pytest.fail(
            f"Source {spec.name!r} has no example. Add {path.relative_to(EXAMPLES.parents[3])} with a function "
            "context(folder: Path) -> SourceContext that prepares what the source reads inside the folder."
        )
    module_spec = importlib.util.spec_from_file_location(f"example_{spec.name}", path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return module.context(tmp_path / "example")


def everything(source: Source, position: str | None = None, until: date = FAR) -> list[Batch | RefusedBatch]:
    """What is known by the end of a day."""
    return list(source.batches(position, datetime.combine(until, time.max, UTC) + timedelta(microseconds=1)))


def telemetry(batches: Sequence[Batch | RefusedBatch], stream: str = "telemetry") -> list[Batch]:
    return [b for b in batches if isinstance(b, Batch) and b.stream == stream]


def as_text(batch: Batch | RefusedBatch) -> tuple[object, ...]:
    """The batch to the last bit, NaN included."""
    content = str(batch.rows.to_pylist()) if isinstance(batch, Batch) else batch.reason
    return batch.txn, batch.stream, batch.day, content, batch.origin, batch.position


def test_spec_presents_the_plug_in(spec: SourceSpec) -> None:
    assert spec.summary.endswith(".")
    assert spec.cannot, "every source has limits; say which"


def test_unknown_setting_lists_the_valid_ones(spec: SourceSpec, context: SourceContext) -> None:
    with pytest.raises(UnknownName, match="no_such_setting") as error:
        spec.open(replace(context, settings={**context.settings, "no_such_setting": 1}))
    assert set(context.settings) <= set(error.value.valid)
    assert error.value.valid


def test_example_has_readings_and_history(spec: SourceSpec, context: SourceContext) -> None:
    batches = everything(spec.open(context))
    assert telemetry(batches)
    assert telemetry(batches, "maintenance")


def test_batches_are_repeatable(spec: SourceSpec, context: SourceContext) -> None:
    source = spec.open(context)
    first = [as_text(b) for b in everything(source)]
    assert [as_text(b) for b in everything(source)] == first, "asked again"
    assert [as_text(b) for b in everything(spec.open(context))] == first, "opened again"


def test_txn_names_one_content(spec: SourceSpec, context: SourceContext) -> None:
    batches = everything(spec.open(context))
    assert len({b.txn for b in batches}) == len(batches)


def test_resuming_anywhere_loses_nothing(spec: SourceSpec, context: SourceContext) -> None:
    batches = everything(spec.open(context))
    for number, batch in enumerate(batches):
        resumed = {b.txn for b in everything(spec.open(context), batch.position)}
        assert {b.txn for b in batches[number + 1 :]} <= resumed


def test_until_is_respected_and_later_days_follow(spec: SourceSpec, context: SourceContext) -> None:
    batches = everything(spec.open(context))
    for until in sorted({b.day for b in batches}):
        source = spec.open(context)
        early = everything(source, None, until)
        assert all(b.day <= until for b in early)
        position = early[-1].position if early else None
        later = everything(source, position)
        assert {b.txn for b in batches} == {b.txn for b in (*early, *later)}


def test_nothing_is_due_before_the_calendar(spec: SourceSpec, context: SourceContext) -> None:
    assert everything(spec.open(context), None, context.first_day - timedelta(days=1)) == []


def test_days_lie_in_the_calendar(spec: SourceSpec, context: SourceContext) -> None:
    for batch in everything(spec.open(context)):
        assert context.first_day <= batch.day <= (context.last_day or FAR)


def test_telemetry_decodes(spec: SourceSpec, context: SourceContext) -> None:
    check = row_check(context.telemetry)
    batches = telemetry(everything(spec.open(context)))
    for batch in batches:
        rows = decode(context.telemetry, batch.rows)
        assert rows.num_rows == batch.rows.num_rows > 0
    reasons = [check(decode(context.telemetry, b.rows), context.first_day, FAR).null_count for b in batches]
    assert sum(reasons) > 0, "not one reading of the example holds its contract"


def test_maintenance_history_holds_its_contract(spec: SourceSpec, context: SourceContext) -> None:
    check = row_check(context.maintenance)
    for batch in telemetry(everything(spec.open(context)), "maintenance"):
        rows = decode(context.maintenance, batch.rows)
        assert check(rows, context.first_day, context.last_day or FAR).null_count == rows.num_rows > 0


def test_taking_up_twice_is_harmless(spec: SourceSpec, context: SourceContext) -> None:
    source = spec.open(context)
    position = None
    for batch in everything(source):
        source.taken_up(batch)
        source.taken_up(batch)
        spec.open(context).taken_up(batch)
        position = batch.position
    assert everything(spec.open(context), position) == []


def test_stopping_between_batches_loses_nothing(spec: SourceSpec, context: SourceContext) -> None:
    """As the collector works: take up one batch, then die."""
    expected = {b.txn for b in everything(spec.open(context))}
    position, seen = None, set[str]()
    for _ in range(3 * len(expected)):
        source = spec.open(context)
        batch = next((b for b in everything(source, position) if b.txn not in seen), None)
        if batch is None:
            break
        source.taken_up(batch)
        seen.add(batch.txn)
        position = batch.position
    assert seen == expected
