"""A plant for commands that only tell: where it has kept nothing so far, they make nothing."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from resources.plant import Plant
from resources.state.database import Database


class PlantAsItStands(Plant):
    """A plant to look at. Where there is no state database yet it is as one to which nothing has happened."""

    @cached_property
    def untouched(self) -> str | None:
        """What says that nothing has run here yet; None where something may have."""
        from sqlalchemy import make_url

        home = self.catalog.home
        url = make_url(home.state_url)
        if url.get_backend_name() != "sqlite" or not url.database or Path(url.database).exists():
            return None
        where = f"{home.root} keeps nothing" if home.root.is_dir() else f"there is no {home.root}"
        return f"Nothing has run at {self.site.name} yet: {where} (see HYBRID_HOME). `hybrid up` begins."

    @cached_property
    def database(self) -> Database:
        return super().database if self.untouched is None else Database("sqlite://")
