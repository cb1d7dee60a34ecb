"""Plants are partitions: the sites of a class, by day."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta

import dagster as dg

from backbone.errors import ConfigurationError
from backbone.sites import Site
from backbone.windows import WindowRange

SITE, DAY = "site", "day"
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
PARTITION = "dagster/partition"
FLEET = "hybrid/fleet"
"""Run tag: which fleet a run is for, as `class/site`."""
WRITES = "hybrid/writes"
"""Run tag: which tables a run writes. The queue lets one run of a value through at a time, since two
writers on one partition conflict; training writes others than serving does, and holds nothing up."""

STEP = "hybrid/step"
"""Run tag: which of a fleet's jobs it is of."""
EPOCH = "hybrid/epoch"
"""Run tag of an answer that is given in another run's place: that run's epoch."""
SERVES = "hybrid/serves"
"""Run tag of such an answer: why that run gave none."""

HISTORY = "hybrid/judges_history"
"""Run tag, `yes`, of a run that judges windows before the newest. At its end it judges the newest again: the UI's
headline of a check is whatever was evaluated last, of whichever window."""

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def by_site(sites: Sequence[Site]) -> dg.StaticPartitionsDefinition:
    return dg.StaticPartitionsDefinition([s.name for s in sites])


def by_window(sites: Sequence[Site]) -> dg.MultiPartitionsDefinition:
    """Site × day, over the calendars of all sites."""
    ends = [s.last_day for s in sites]
    last = None if None in ends else max(day for day in ends if day is not None)
    days = dg.DailyPartitionsDefinition(
        start_date=_midnight(min(s.first_day for s in sites)),
        end_date=_midnight(last + timedelta(days=1)) if last else None,
        end_offset=0 if last else 1,  # today's window is open for as long as it lasts
    )
    return dg.MultiPartitionsDefinition({SITE: by_site(sites), DAY: days})


def window_key(site: str, day: date) -> dg.MultiPartitionKey:
    return dg.MultiPartitionKey({SITE: site, DAY: day.isoformat()})


def range_tags(windows: WindowRange) -> dict[str, str]:
    """Tags of one run over all of the windows."""
    return {
        RANGE_START: window_key(windows.site, windows.first),
        RANGE_END: window_key(windows.site, windows.last),
    }


def run_tags(equipment_class: str, site: str, *, training: bool = False) -> dict[str, str]:
    fleet = f"{equipment_class}/{site}"
    return {FLEET: fleet, WRITES: f"{fleet}/training" if training else fleet}


def in_place_tags(equipment_class: str, windows: WindowRange, epoch: int, reason: str) -> dict[str, str]:
    """Tags of a run in which the rules answer for `reason`, under the epoch of the run they stand in for."""
    tags = run_tags(equipment_class, windows.site) | range_tags(windows)
    return tags | {EPOCH: str(epoch), SERVES: reason}


def run_windows(tags: Mapping[str, str], sites: Sequence[str]) -> WindowRange | None:
    """The windows a run was for, read from its tags; None where it was for none of these sites' windows."""
    start, end = (tags.get(name, tags.get(PARTITION, "")) for name in (RANGE_START, RANGE_END))
    first, last = (_window_of(key) for key in (start, end))
    if first is None or last is None or first[0] != last[0] or first[0] not in sites:
        return None
    return WindowRange(first[0], first[1], last[1])


def _window_of(key: str) -> tuple[str, date] | None:
    """Dagster writes a multi-partition key with its dimensions in alphabetical order: the day, then the site."""
    day, _, site = key.partition("|")
    try:
        return site, date.fromisoformat(day)
    except ValueError:
        return None


def windows_of(context: dg.AssetExecutionContext, site_of: dict[str, Site]) -> WindowRange:
    """The windows a run is for.

    Raises:
        ConfigurationError: they lie outside the site's calendar, or in two sites at once.
    """
    keys = [key.keys_by_dimension for key in context.partition_keys if isinstance(key, dg.MultiPartitionKey)]
    names = {key[SITE] for key in keys}
    if len(names) != 1:
        raise ConfigurationError(
            f"One run serves one site, not {', '.join(sorted(names)) or 'none'}.",
            next_step="Start a run for each site.",
        )
    site = site_of[names.pop()]
    days = [date.fromisoformat(key[DAY]) for key in keys]
    windows = WindowRange(site.name, min(days), max(days))
    if windows.first < site.first_day or (site.last_day and windows.last > site.last_day):
        raise ConfigurationError(
            f"Site {site.name}'s calendar is {site.first_day} to {site.last_day or 'open'}; "
            f"{windows.first} to {windows.last} is not in it.",
            next_step="Choose days of its calendar.",
        )
    return windows


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
