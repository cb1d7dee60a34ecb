"""Plants are partitions: the sites of a class, by day."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

import dagster as dg

from backbone.errors import ConfigurationError
from backbone.sites import Site
from backbone.windows import WindowRange

SITE, DAY = "site", "day"
RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
FLEET = "hybrid/fleet"
"""Run tag: which fleet a run is for, as `class/site`."""
WRITES = "hybrid/writes"
"""Run tag: which tables a run writes. The queue lets one run of a value through at a time, since two
writers on one partition conflict; training writes others than serving does, and holds nothing up."""


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
