"""Pruning of what plants keep: every table of theirs, each once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta

from backbone.errors import ConfigurationError, HybridError
from resources.plant import Plant
from resources.stores.prune import Pruned, prune

KEPT = timedelta(days=7)
"""For how long versions stay readable: `hybrid trace` shows a window as an advisory saw it, for as long."""
LEAST = timedelta(hours=1)
"""A step reads what it began with for minutes."""


def prune_tables(
    plants: Iterable[Plant], older_than: timedelta = KEPT, *, dry_run: bool = False
) -> Iterator[tuple[str, Pruned | str]]:
    """Table → what goes of it, or would; a text: why nothing could be told or removed. See `resources.stores.prune`.

    Raises:
        ConfigurationError: what is read now might go.
    """
    from deltalake.exceptions import DeltaError

    if older_than < LEAST:
        raise ConfigurationError(
            f"What was replaced less than {LEAST} ago may still be read.", next_step="Let it be older than an hour."
        )
    seen, names = set(), set()
    for plant in plants:
        for table, path in plant.delta_tables().items():
            if path in seen:
                continue
            name = f"{plant.site.name}: {table}" if table in names else table  # two sites' places may be called alike
            seen.add(path)
            names.add(name)
            try:
                pruned = prune(path, plant.clock.now() - older_than, dry_run=dry_run)
            except (HybridError, OSError, DeltaError) as error:  # one table's trouble keeps none of the others
                yield name, str(error).partition("\n")[0]
                continue
            if pruned is not None:
                yield name, pruned
