"""What the checks of windows yield: of each window what was found, with its numbers, as Dagster shows it."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg

# Not public in this release of Dagster, which is pinned: what ties an evaluation to the materialization it is of.
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData

from backbone.contracts import Contract
from backbone.errors import ConfigurationError
from backbone.sites import Site
from backbone.windows import WindowRange
from quality.data_docs import Page
from quality.findings import Finding
from quality.judged import OF_SITES
from quality.judgement import Judgement, judge
from quality.warm import WarmValidator
from quality.window_checks import Evaluated, asset_key, check_key
from quality.worker import ADDRESS, DOCS
from resources.bindings.partitions import HISTORY, run_windows, window_key
from resources.bindings.plants import Plants, failures
from resources.home import Home
from resources.plant import Plant
from resources.state.verdicts import WHOLE
from resources.stores.opened import Opened

PAGES_A_RUN = 12
_SEVERITIES = {"error": dg.AssetCheckSeverity.ERROR, "warning": dg.AssetCheckSeverity.WARN}
_LONGEST_CELL = 80


def evaluated(
    context: dg.AssetCheckExecutionContext,
    plants: Plants,
    equipment_class: str,
    checked: Mapping[str, Contract],
    specs: Sequence[dg.AssetCheckSpec],
    sites: Sequence[Site],
    *,
    cap: float,
) -> Iterator[Evaluated]:
    """Judge the windows of a run, and say what was found by each of its checks.

    Args:
        checked: asset → its contract, of all whose windows are judged.
        specs: every check of theirs.
        cap: the longest remaining useful life that a prognosis can be of.
    """
    chosen = context.selected_asset_check_keys
    with failures():
        days = run_windows(context.run.tags, [site.name for site in sites])
        if days is None:
            raise ConfigurationError(
                "Checks are of the windows of one site.", next_step="Choose partitions of one site, then run them."
            )
        plant = plants.plant(days.site)
        asked = {
            name: c
            for name, c in checked.items()
            if any(check_key(equipment_class, name, r) in chosen for r in c.rules)
        }
        validator = WarmValidator(plant.catalog.home.quality)
        opened = Opened()
        with opened.noting():
            found = judge(plant, equipment_class, asked, days, validator, cap=cap)
            # Of a product of which only some checks were asked for, nothing as a whole can be said.
            whole = {n for n, c in asked.items() if all(check_key(equipment_class, n, r) in chosen for r in c.rules)}
            _record(context, plant, equipment_class, found, whole)
            pages = _pages(found, days)
            if newest := _newest_again(context, plant, equipment_class, days):
                by_window = {n: c for n, c in asked.items() if n not in WHOLE}
                last = judge(plant, equipment_class, by_window, newest, validator, cap=cap)
                _record(context, plant, equipment_class, last, whole)
                found, pages = found.and_of(last), pages | _pages(last, newest)
        versions = {n: opened.reads.get(str(plant.table(equipment_class, n).path)) for n in asked}
        validator.render(list(pages.values()))
    if found.validated.why:
        context.log.warning(found.validated.why)
    links = {at: _link(plant.catalog.home, page) for at, page in pages.items()}
    judged = [*days, *(newest or ())]
    targets = {n: _materialized(context.instance, asset_key(equipment_class, n), days.site, judged) for n in asked}
    # Oldest first: the UI's headline of a check is whatever was evaluated last, of whichever window.
    for finding in sorted(found.findings, key=lambda finding: finding.day):
        if check_key(equipment_class, finding.product, finding.rule) in chosen:
            partition = None if finding.product in OF_SITES else str(window_key(days.site, finding.day))
            yield dg.AssetCheckEvaluation(
                asset_key=asset_key(equipment_class, finding.product),
                check_name=finding.rule.kind,
                passed=finding.status == "passed",
                severity=_SEVERITIES[finding.severity],
                description=finding.observed,
                metadata={
                    "site": days.site,
                    "window": finding.day.isoformat(),
                    **_metadata(finding, found, links.get((finding.product, finding.day)), versions[finding.product]),
                },
                partition=partition,
                target_materialization_data=targets[finding.product].get(partition or days.site),
            )
    for spec in specs:
        if spec.key in chosen:
            yield dg.Output(None, output_name=spec.get_python_identifier())


def _record(
    context: dg.AssetCheckExecutionContext, plant: Plant, equipment_class: str, found: Judgement, products: set[str]
) -> None:
    verdicts = found.verdicts(context.run.run_id, plant.clock.now())
    plant.verdicts(equipment_class).record([v for v in verdicts if v.product in products])


def _newest_again(
    context: dg.AssetCheckExecutionContext, plant: Plant, equipment_class: str, days: WindowRange
) -> WindowRange | None:
    """The newest window that was judged, for a run that judges older ones."""
    if HISTORY not in context.run.tags:
        return None
    newest = max((day for _, day in plant.verdicts(equipment_class).all()), default=days.last)
    return WindowRange(days.site, newest, newest) if newest > days.last else None


def _metadata(finding: Finding, judgement: Judgement, link: str | None, version: int | str | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        **{name: _number(value) for name, value in finding.numbers.items()},
        "observed": finding.observed,
        "expected": finding.expected,
        "severity": finding.severity,
        "dimension": finding.rule.dimension,
        "status": finding.status,
        "evaluated_by": judgement.validated.by,
    }
    if finding.sample:
        metadata["failing_rows"] = dg.MetadataValue.md(_table(finding.sample))
    if version is not None:
        metadata["table_version"] = version  # that was judged, for lineage
    if link is not None:
        metadata["data_docs"] = dg.MetadataValue.url(link)
    return metadata


def _number(value: float) -> float | int:
    return int(value) if float(value).is_integer() else float(f"{value:.6g}")


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a Markdown table; they may be of several tables, so that each has the columns of its own."""
    names = list(dict.fromkeys(name for row in rows for name in row))[:16]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(_cell(row.get(name)) for name in names) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    text = "" if value is None else f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())
    return (text if len(text) <= _LONGEST_CELL else f"{text[: _LONGEST_CELL - 1]}…").replace("|", "\\|")


def _pages(found: Judgement, days: WindowRange) -> dict[tuple[str, date], Page]:
    """The pages that are worth looking at: windows in which something is wrong, then the newest."""
    wrong = {(f.product, f.day) for f in found.findings if f.status != "passed"}
    newest = {at for at in found.pages if at[1] == days.last or at[0] in WHOLE}
    order = sorted(found.pages, key=lambda at: (at not in wrong, -at[1].toordinal(), at[0]))
    wanted = [at for at in order if at in wrong | newest and found.pages[at].results]
    return {at: found.pages[at] for at in wanted[:PAGES_A_RUN]}


def _link(home: Home, page: Page) -> str:
    """Where the page can be read: served by `hybrid up`, else in its file."""
    served = home.quality / ADDRESS
    if served.exists():
        return f"{served.read_text(encoding='utf-8').strip()}/{page.name}"
    return (home.quality / DOCS / page.name).as_uri()


def _materialized(
    instance: dg.DagsterInstance, asset: dg.AssetKey, site: str, days: Sequence[date]
) -> dict[str, AssetCheckEvaluationTargetMaterializationData]:
    """Partition → the materialization that was there when its window was judged."""
    partitions = [site] if asset.path[-1] in OF_SITES else [str(window_key(site, day)) for day in days]
    wanted = dg.AssetRecordsFilter(asset_key=asset, asset_partitions=partitions)
    found: dict[str, AssetCheckEvaluationTargetMaterializationData] = {}
    for record in instance.fetch_materializations(wanted, limit=20 * len(partitions)).records:
        partition = record.partition_key
        if partition is not None and partition not in found:
            found[partition] = AssetCheckEvaluationTargetMaterializationData(
                run_id=record.event_log_entry.run_id, storage_id=record.storage_id, timestamp=record.timestamp
            )
    return found
