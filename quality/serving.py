"""Who serves a window: a degraded one is visible at a glance."""

from collections import Counter
from collections.abc import Sequence

import dagster as dg

from backbone.sites import Site
from resources.bindings.plants import Plants


def serving_check(equipment_class: str, sites: Sequence[Site]) -> dg.AssetChecksDefinition:
    """Warns where a window waits to be made good, or the newest one is degraded, and says why."""

    @dg.asset_check(
        asset=dg.AssetKey([equipment_class, "advisories"]),
        name="served_by_current_release",
        description="No window waits to be made good, and the current release answers the whole of the newest.",
    )
    def served_by_current_release(plants: Plants) -> dg.AssetCheckResult:
        reasons: Counter[str] = Counter()
        windows: list[str] = []
        total = 0
        for site in sites:
            answers = plants.plant(site.name).answers(equipment_class).all()
            newest = max(answers, default=None)
            for day, answer in answers.items():
                if answer.mendable or (day == newest and answer.degraded):
                    windows.append(f"{site.name} {day}")
                    reasons.update({f"{site.name}: {reason}": n for reason, n in answer.reasons.items()})
            total += sum(a.rows for a in answers.values())
        return dg.AssetCheckResult(
            passed=not windows,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={
                "advisories": total,
                "degraded_windows": len(windows),
                "degraded": sum(reasons.values()),
                "reasons": dict(reasons),
                "windows": windows[-20:],
            },
            description="; ".join(f"{reason} ({n})" for reason, n in reasons.most_common(3)) or None,
        )

    return served_by_current_release
