"""Two machines for four days by the hour, in the form of Microsoft's files; one fails."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from backbone.sources import SourceContext
from resources.catalog.contracts import SHIPPED, read_contracts

BEGINS = datetime(2015, 1, 1, 6, tzinfo=UTC)


def context(folder: Path) -> SourceContext:
    folder.mkdir(parents=True, exist_ok=True)
    hours = [
        f"{BEGINS + timedelta(hours=hour):%F %T},{machine},{170 + hour % 24},{450 - machine},100.5,40.25"
        for machine in (1, 2)
        for hour in range(4 * 24)
    ]
    files = {
        "telemetry": ["datetime,machineID,volt,rotate,pressure,vibration", *hours],
        "errors": [
            '"datetime","machineID","errorID"',
            '2015-01-02 06:00:00,1,"error1"',
            '2015-01-02 09:00:00,2,"error3"',
        ],
        "failures": [
            '"datetime","machineID","failure"',
            '2015-01-03 06:00:00,1,"comp4"',
            '2015-01-03 06:00:00,1,"comp1"',
        ],
        "maint": ['"datetime","machineID","comp"', '2014-07-16 06:00:00,1,"comp4"', '2015-01-03 06:00:00,1,"comp4"'],
        "machines": ['"machineID","model","age"', '1,"model3",18', '2,"model4",7'],
    }
    for part, lines in files.items():
        (folder / f"PdM_{part}.csv").write_text("\n".join(lines) + "\n")
    contracts = read_contracts([SHIPPED])
    return SourceContext(
        site="example",
        telemetry=contracts["azure_machine"],
        maintenance=contracts["maintenance"],
        first_day=date(2015, 1, 1),
        last_day=date(2015, 1, 5),
        drop_folder=folder / "drop",
        settings={"directory": str(folder)},
    )
