"""A small fleet over three weeks, with every fault at a rate that shows."""

from datetime import date
from pathlib import Path

from backbone.sources import SourceContext
from resources.catalog.contracts import SHIPPED, read_contracts


def context(folder: Path) -> SourceContext:
    contracts = read_contracts([SHIPPED])
    kinds = ("dropout", "nan", "spike", "stuck", "drift", "duplicate", "late", "out_of_order")
    return SourceContext(
        site="example",
        telemetry=contracts["pump"],
        maintenance=contracts["maintenance"],
        first_day=date(2025, 1, 1),
        last_day=date(2025, 1, 21),
        drop_folder=folder / "drop",
        settings={
            "seed": 3,
            "pumps": 3,
            "readings_per_day": 6,
            "mean_life_days": 8,
            "faults": dict.fromkeys(kinds, 0.05),
        },
    )
