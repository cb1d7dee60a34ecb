"""Text files in NASA's form with a few short units, one cut line among them."""

from datetime import date
from pathlib import Path

from backbone.sources import SourceContext
from resources.catalog.contracts import SHIPPED, read_contracts

_SENSORS = (
    "518.67 642.15 1591.82 1403.14 14.62 21.61 553.75 2388.04 9044.07 1.30 47.49 "
    "522.28 2388.07 8131.49 8.4318 0.03 392 2388 100.00 39.00 23.4236"
)


def context(folder: Path) -> SourceContext:
    folder.mkdir(parents=True, exist_ok=True)
    for split, lengths in {"train": (5, 9), "test": (4, 7)}.items():
        lines = [
            f"{unit} {cycle} 0.0019 -0.0003 100.0 {_SENSORS}  "
            for unit, length in enumerate(lengths, start=1)
            for cycle in range(1, length + 1)
        ]
        (folder / f"{split}_FD001.txt").write_text("\n".join([*lines, "3 1 0.0019 -0.0"]) + "\n")
    (folder / "RUL_FD001.txt").write_text("12 \n40 \n")
    contracts = read_contracts([SHIPPED])
    return SourceContext(
        site="example",
        telemetry=contracts["turbofan"],
        maintenance=contracts["maintenance"],
        first_day=date(2025, 1, 1),
        last_day=date(2025, 1, 9),
        drop_folder=folder / "drop",
        settings={"directory": str(folder), "subset": "FD001"},
    )
