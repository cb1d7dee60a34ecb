"""Plants as a Dagster resource, and our errors as Dagster failures."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import dagster as dg
from pydantic import PrivateAttr

from backbone.clock import Clock
from backbone.errors import HybridError, Terminal
from resources.bindings.run_environment import tell_environment
from resources.clock import SystemClock
from resources.home import Home
from resources.plant import Catalog, Plant


class Plants(dg.ConfigurableResource):
    """Every plant's adapters, by the name of its site."""

    home: str

    _opened: dict[str, Plant] = PrivateAttr(default_factory=dict)

    @cached_property
    def catalog(self) -> Catalog:
        return Catalog(Home(Path(self.home)))

    @property
    def clock(self) -> Clock:
        """What tells the time to every plant."""
        return SystemClock()

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Each process that works on a run says which variables it has."""
        tell_environment(context)

    def plant(self, site: str) -> Plant:
        if site not in self._opened:
            self._opened[site] = Plant(self.catalog, site, clock=self.clock)
        return self._opened[site]


@contextmanager
def failures() -> Iterator[None]:
    """Our errors as Dagster failures: the remedy in the UI's own words, and no retry where it cannot help."""
    try:
        yield
    except HybridError as error:
        raise dg.Failure(
            description=str(error),
            metadata={"error": type(error).__name__, "problem": error.problem, "next_step": error.next_step},
            allow_retries=not isinstance(error, Terminal),
        ) from error
