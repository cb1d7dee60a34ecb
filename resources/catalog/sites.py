"""Plants from files: the ones that ship, and a user's own in `$HYBRID_HOME/sites`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbone import plugins
from backbone.errors import ConfigurationError
from backbone.site_files import site_from_toml
from backbone.sites import Site
from resources import targets
from resources.catalog.toml_lines import line_of

if TYPE_CHECKING:
    from backbone.targets import TargetSpec

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
    """One site file, named like the site; `anchor` as for `backbone.site_files.site_from_toml`."""
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigurationError(f"{path} is no TOML: {error}.", next_step="Mend the file.") from error
    try:
        return site_from_toml(document, name=path.stem, anchor=anchor, target_kinds=_TargetSettings())
    except ConfigurationError as error:
        line = line_of(text, error.at)
        where = f"{path}, line {line}" if line else str(path)
        raise ConfigurationError(f"{where}: {error.problem}", next_step=error.next_step, at=error.at) from error


class _TargetSettings(Mapping[str, type[Any]]):
    """Kind of target → the settings it takes. A plug-in is loaded when a site names it."""

    def __getitem__(self, kind: str) -> type[Any]:
        spec: TargetSpec = plugins.load(targets, kind)
        return spec.settings

    def __contains__(self, kind: object) -> bool:
        return kind in plugins.names(targets)

    def __iter__(self) -> Iterator[str]:
        return iter(plugins.names(targets))

    def __len__(self) -> int:
        return len(plugins.names(targets))
