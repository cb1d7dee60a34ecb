"""How many of a plant's messages its gateways could not use: too many are a sender's, or a contract's, trouble."""

from datetime import timedelta

import dagster as dg

from resources.bindings.plants import Plants, failures
from resources.plant import Plant

MOST_SHARE = 0.01
DAYS = 2
"""Today and the day before: the first minutes of a day tell little."""


def dead_letters_check(equipment_class: str, plants_of: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    """Warns where more than `MOST_SHARE` of what came for a class in the last days cannot be used.

    Args:
        plants_of: the partitions of the asset, sites with a gateway.
    """

    @dg.asset_check(
        asset=dg.AssetKey([equipment_class, "dead_letters"]),
        name="few_dead_letters",
        description=f"Of what came today and yesterday, at most {MOST_SHARE:.0%} could not be used.",
        partitions_def=plants_of,
    )
    def few_dead_letters(context: dg.AssetCheckExecutionContext, plants: Plants) -> dg.AssetCheckResult:
        with failures():
            letters, rows, worst = _counted(plants.plant(context.partition_key), equipment_class)
        share = letters / (letters + rows) if letters else 0.0
        return dg.AssetCheckResult(
            passed=share <= MOST_SHARE,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{letters} of {letters + rows} could not be used, most of them for: {worst}"
            if worst
            else None,
            metadata={
                "site": context.partition_key,
                "letters": letters,
                "readings": rows,
                "observed": float(f"{share:.3g}"),
                "expected": f"at most {MOST_SHARE}",
                "dimension": "conformity",
            },
        )

    return few_dead_letters


def _counted(plant: Plant, equipment_class: str) -> tuple[int, int, str]:
    """Dead letters of the last days, rows of telemetry that were stored or quarantined for them, and the most frequent
    reason of the letters."""
    from resources.dead_letters import NONE

    today = plant.clock.now().date()
    days = [today - timedelta(days=n) for n in range(DAYS)]
    by_reason: dict[str, int] = {}
    letters = plant.table(equipment_class, "dead_letters")
    if letters.exists:
        told = letters.read(plant.site.name, days[-1], days[0], columns=["reason", "equipment_class", "letters"])
        for row in told.to_pylist():
            if row["equipment_class"] in (equipment_class, NONE):
                by_reason[row["reason"]] = by_reason.get(row["reason"], 0) + row["letters"]
    rows = 0
    for name in ("telemetry", "telemetry_quarantine"):
        by_day = plant.table(equipment_class, name).rows_by_day(plant.site.name)
        rows += sum(by_day.get(day, 0) for day in days)
    return sum(by_reason.values()), rows, max(by_reason, key=lambda reason: by_reason[reason], default="")
