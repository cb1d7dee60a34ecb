"""Dead letters: they stay at the edge; how many there are, and the newest of each kind, is told on the premises."""

from datetime import date, timedelta
from functools import partial
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from backbone.windows import WindowRange
from hybrid_assets.fleet import Fleet
from hybrid_assets.ingestion import carry
from hybrid_assets.metadata import preview
from resources.bindings.plants import Plants, failures
from resources.dead_letters import NONE
from resources.stores.opened import unnoted
from resources.stores.tables import DATE

DAYS_TOLD = 7
_MOST_KINDS = 30


def tell_dead_letters(context: dg.AssetExecutionContext, plants: Plants, fleet: Fleet) -> dg.MaterializeResult:
    """Count the days anew for which something has come, and tell of those that are of the class, or of no machine."""
    schema = fleet.contracts["dead_letters"].arrow_schema
    with failures():
        plant = plants.plant(context.partition_key)
        site, letters, table = plant.site.name, plant.dead_letters(), plant.table(fleet.name, "dead_letters")
        with unnoted():  # what was counted before is no data set that this is made from
            told = table.read(site, columns=schema.names) if table.exists else schema.empty_table()
        known = _sums(told, DATE)
        days = sorted(day for day, number in letters.counts(site).items() if number != known.get(day))
        if days:
            windows = WindowRange(site, days[0], days[-1])
            rows = carry(plant, fleet.name, "dead_letters", partial(letters.export, windows), context.run.run_id)
            table.replace(windows, rows.select(schema.names).cast(schema), run_id=context.run.run_id)
            with unnoted():
                told = table.read(site, columns=schema.names)
        today = plant.clock.now().date()
    own = told.filter(pc.is_in(told["equipment_class"], value_set=pa.array([fleet.name, NONE])))
    return dg.MaterializeResult(metadata=_metadata(own, today))


def _metadata(letters: pa.Table, today: date) -> dict[str, Any]:
    since = today - timedelta(days=DAYS_TOLD - 1)
    lately = letters.filter(pc.greater_equal(letters[DATE], pa.scalar(since)))
    kinds = lately.group_by(["reason", "source"]).aggregate([("letters", "sum"), ("newest_at", "max")])
    kinds = kinds.rename_columns(["reason", "source", "letters", "newest_at"]).sort_by([("letters", "descending")])
    newest = lately.sort_by([("newest_at", "descending")])
    return {
        "letters": pc.sum(letters["letters"]).as_py() or 0,
        "letters_today": _sums(lately, DATE).get(today, 0),
        "since": since.isoformat(),
        "reasons": _sums(lately, "reason"),
        "by_reason_and_source": preview(kinds, most=_MOST_KINDS),
        "newest": preview(newest, columns=["reason", "source", "equipment_id", "digest", "newest_at"]),
    }


def _sums(letters: pa.Table, by: str) -> dict[Any, int]:
    """How many letters, most first."""
    summed = letters.group_by(by).aggregate([("letters", "sum")]).sort_by([("letters_sum", "descending")])
    return dict(zip(summed[by].to_pylist(), summed["letters_sum"].to_pylist(), strict=True))
