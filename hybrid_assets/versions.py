"""What a step read and wrote, told with each asset it makes: the versions, by where the data lie."""

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from functools import wraps
from typing import Any

import dagster as dg

from backbone.lineage.naming import dimensions
from resources.stores.opened import NOTHING, Opened


def with_versions(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step whose results also say what it opened.

    `reads`, `rows_read` and `writes` are path → version or rows; `sizes_read` and `sizes_written` path →
    [bytes, files]; each window's own `window_sizes_written` the same of what was written of that window.
    """
    signature = inspect.signature(step)
    if inspect.isgeneratorfunction(step):

        @wraps(step)
        def each(*args: Any, **kwargs: Any) -> Iterator[Any]:
            opened, results = Opened(), step(*args, **kwargs)
            while True:
                # Only while the step itself runs: between two results, whoever takes them does as he likes.
                with opened.noting():
                    try:
                        result = next(results)
                    except StopIteration:
                        return
                yield _told(result, opened, _context(args, kwargs))

        each.__signature__ = signature  # type: ignore[attr-defined] # Dagster asks for it a dozen times
        return each

    @wraps(step)
    def once(*args: Any, **kwargs: Any) -> Any:
        opened = Opened()
        with opened.noting():
            result = step(*args, **kwargs)
        return _told(result, opened, _context(args, kwargs))

    once.__signature__ = signature  # type: ignore[attr-defined]
    return once


def _context(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dg.AssetExecutionContext | None:
    return next((given for given in (*args, *kwargs.values()) if isinstance(given, dg.AssetExecutionContext)), None)


def _told(result: Any, opened: Opened, context: dg.AssetExecutionContext | None) -> Any:
    if not isinstance(result, dg.MaterializeResult):
        return result
    totals: dict[str, Any] = {}
    for path, by_day in opened.sizes_written.items():
        total = NOTHING
        for size in by_day.values():
            total = total.plus(size)
        totals[path] = total
    told = {
        name: _by_real_path(values)
        for name, values in (
            ("reads", opened.reads),
            ("rows_read", opened.rows),
            ("sizes_read", {path: list(size) for path, size in opened.sizes_read.items()}),
            ("writes", opened.writes),
            ("sizes_written", {path: list(size) for path, size in totals.items()}),
        )
    }
    metadata = {**told, **(result.metadata or {})}
    if context is None:
        return result._replace(metadata=metadata)
    key = dg.AssetKey.from_coercible(result.asset_key or context.asset_key)
    if opened.sizes_written:
        _tell_windows(context, key, opened)
    # Not with the result: Dagster would keep it twice, pictures and all, once as what is told of the step's output.
    context.add_asset_metadata(metadata, asset_key=key)
    return result._replace(metadata=None)


def _by_real_path(values: Mapping[str, Any]) -> dict[str, Any]:
    return {os.path.realpath(path): value for path, value in values.items()}


def _tell_windows(context: dg.AssetExecutionContext, key: dg.AssetKey, opened: Opened) -> None:
    """Give each window's materialization the size of what was written of it."""
    for partition in context.partition_keys if context.assets_def.partitions_def is not None else ():
        day = dimensions(partition).get("date")
        if day is not None:
            sizes = {
                path: list(by_day.get(date.fromisoformat(day), NOTHING))
                for path, by_day in opened.sizes_written.items()
            }
            context.add_asset_metadata(
                {"window_sizes_written": _by_real_path(sizes)},
                asset_key=key,
                partition_key=partition,
            )
