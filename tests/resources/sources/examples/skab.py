"""Two labelled experiments of half a minute, a day apart, in the form of SKAB's files."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from backbone.sources import SourceContext
from resources.catalog.contracts import SHIPPED, read_contracts

HEADER = (
    "datetime;Accelerometer1RMS;Accelerometer2RMS;Current;Pressure;Temperature;Thermocouple;Voltage;"
    "Volume Flow RateRMS;anomaly;changepoint"
)


def context(folder: Path) -> SourceContext:
    (folder / "valve1").mkdir(parents=True, exist_ok=True)
    for number in range(2):
        begins = datetime(2020, 3, 9 + number, 10, 14, 33, tzinfo=UTC)
        lines = [
            f"{begins + timedelta(seconds=n):%F %T};0.02{n};0.04;1.3302;0.054711;79.3;26.0;233.1;32.0;{n // 20}.0;0.0"
            for n in range(30)
        ]
        (folder / "valve1" / f"{number}.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    contracts = read_contracts([SHIPPED])
    return SourceContext(
        site="example",
        telemetry=contracts["pump_testbed"],
        maintenance=contracts["maintenance"],
        first_day=date(2020, 3, 8),
        last_day=date(2020, 3, 11),
        drop_folder=folder / "drop",
        settings={"directory": str(folder)},
    )
