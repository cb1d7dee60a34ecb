"""Plants from files: the ones that ship, and a user's own in `$HYBRID_HOME/sites`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from datetime import date
from pathlib import Path

from backbone.errors import ConfigurationError
from backbone.sites import Site, site_from_toml

SHIPPED = Path(__file__).resolve().parents[1] / "sites"


def read_sites(folders: Iterable[Path], *, anchor: date) -> dict[str, Site]:
    """Every site in the folders, by name; a later folder's site replaces an earlier one of that name.

    Raises:
        ConfigurationError: a file is no TOML or says something wrong; names the file.
    """
    found: dict[str, Site] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.toml")):
            site = read_site(path, anchor=anchor)
            found[site.name] = site
    return found


def read_site(path: Path, *, anchor: date) -> Site:
    """One site file, named like the site; `anchor` as for `backbone.sites.site_from_toml`."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is no TOML: {error}.", next_step="Mend the file.") from error
    try:
        return site_from_toml(document, name=path.stem, anchor=anchor)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error.problem}", next_step=error.next_step) from error
