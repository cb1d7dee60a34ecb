"""What a step read and wrote, told with each asset it makes: the versions, by where the data lie."""

import inspect
import os
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import dagster as dg

from resources.stores.opened import Opened


def with_versions(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step whose results also say what it opened: `reads`, `rows_read` and `writes`, path → version or rows."""
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
                yield _told(result, opened)

        return each

    @wraps(step)
    def once(*args: Any, **kwargs: Any) -> Any:
        opened = Opened()
        with opened.noting():
            result = step(*args, **kwargs)
        return _told(result, opened)

    return once


def _told(result: Any, opened: Opened) -> Any:
    if not isinstance(result, dg.MaterializeResult):
        return result
    versions = {
        name: {os.path.realpath(path): value for path, value in values.items()}
        for name, values in (("reads", opened.reads), ("rows_read", opened.rows), ("writes", opened.writes))
    }
    return result._replace(metadata={**versions, **(result.metadata or {})})
