"""`hybrid replay`: a public data set as a plant of its own, through the same graph as any other."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

from backbone.errors import ConfigurationError
from backbone.sites import Fleet
from cli.run import run_site
from resources.home import Home
from resources.plant import Catalog
from resources.sources import cmapss

_FIRST_DAY = date(2000, 1, 1)
_SITE = """\
# Written by `hybrid replay cmapss`; yours to change.
name = "{name}"
description = "NASA C-MAPSS {subset}: one flight cycle a day"

[calendar]
first_day = {first}
last_day = {last}

[fleets.turbofan]
source = {{ kind = "cmapss", directory = '{directory}', subset = "{subset}" }}

[[locations]]
name = "edge"
kind = "edge"
zone = "cell"
jurisdiction = "US"

[[locations]]
name = "on_prem"
kind = "on_prem"
zone = "plant"
jurisdiction = "US"
targets = [{{ name = "plant-server", kind = "in_process" }}, {{ name = "plant-worker", kind = "subprocess" }}]

[[locations]]
name = "cloud"
kind = "cloud"
zone = "cloud"
jurisdiction = "US"
targets = [{{ name = "cloud-worker", kind = "subprocess", timeout_s = 900 }}]

[workloads]
scoring = "plant-server"
training = {{ targets = ["cloud-worker"] }}
evaluation = {{ targets = ["cloud-worker"] }}
"""


def replay(directory: Path, subset: str, site: str, *, as_json: bool) -> None:
    """Write a site file if the site has none, then serve all its windows.

    Raises:
        SourceError: the text files are missing or unreadable.
        ConfigurationError: the site exists and replays something else.
    """
    home = Home.from_environment().prepare()
    days = cmapss.calendar_days(directory, subset)
    file = home.sites / f"{site}.toml"
    sites = Catalog(home).sites
    if site not in sites:
        last = _FIRST_DAY + timedelta(days=days - 1)
        text = _SITE.format(name=site, subset=subset, first=_FIRST_DAY, last=last, directory=directory.resolve())
        file.write_text(text, encoding="utf-8")
    else:
        _require_same(sites[site].fleets, directory, subset, site)
    run_site(site, None, None, train=False, as_json=as_json)


def _require_same(fleets: tuple[Fleet, ...], directory: Path, subset: str, site: str) -> None:
    wanted = ("cmapss", str(directory.resolve()), subset)
    found = [(f.source, f.settings.get("directory"), f.settings.get("subset")) for f in fleets]
    if wanted not in found:
        raise ConfigurationError(
            f"Site {site} exists, and does not replay {subset} from {directory}.", next_step="Choose another --site."
        )
