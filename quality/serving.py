"""Who serves a window: a degraded one is visible at a glance."""

from collections import Counter
from collections.abc import Sequence

import dagster as dg

from backbone.sites import Site
from resources.bindings.plants import Plants


def serving_check(equipment_class: str, sites: Sequence[Site]) -> dg.AssetChecksDefinition:
    """Warns where advisories of a site's newest window were not served by the current release, and says why."""

    @dg.asset_check(
        asset=dg.AssetKey([equipment_class, "advisories"]),
        name="served_by_current_release",
        description="Every advisory of the newest window comes from the current release of the model.",
    )
    def served_by_current_release(plants: Plants) -> dg.AssetCheckResult:
        reasons: Counter[str] = Counter()
        total = 0
        for site in sites:
            plant = plants.plant(site.name)
            served = plant.progress(equipment_class).served
            table = plant.table(equipment_class, "advisories")
            if not served or not table.exists:
                continue
            day = max(served)
            rows = table.read(site.name, day, day, columns=["degraded", "fallback_reason"])
            total += rows.num_rows
            reasons.update(f"{site.name}: {row['fallback_reason']}" for row in rows.to_pylist() if row["degraded"])
        degraded = sum(reasons.values())
        return dg.AssetCheckResult(
            passed=degraded == 0,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"advisories": total, "degraded": degraded, "reasons": dict(reasons)},
            description="; ".join(f"{reason} ({n})" for reason, n in reasons.most_common(3)) or None,
        )

    return served_by_current_release
