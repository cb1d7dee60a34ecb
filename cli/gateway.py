"""`hybrid gateway`: run a plant's gateway, and ask one how it is."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from rich.console import Console
from rich.table import Table

from backbone.errors import ConfigurationError
from gateway.exchange import folders_of
from gateway.set_aside import SetAside
from gateway.settings import settings_of
from resources.home import Home
from resources.plant import Catalog, Plant

_PATIENCE_S = 5.0


def status(site: str, *, as_json: bool) -> None:
    """Print what the gateway of a site tells of itself.

    Raises:
        ConfigurationError: it does not run.
    """
    told = gateway_status(site)
    if as_json:
        print(json.dumps(told))
        return
    console = Console()
    console.print(f"[bold]{told['gateway']}[/] of {told['site']}, up for {told['up_s']:.0f} s, process {told['pid']}")
    table = Table("", "", show_header=False)
    for name, value in _lines(told):
        table.add_row(name, value)
    console.print(table)


def gateway_status(site: str) -> dict[str, Any]:
    """What `/status` of the site's gateway says."""
    plant = Plant(Catalog(Home.from_environment()), site)
    file = folders_of(plant, settings_of(plant)).address
    try:
        address = file.read_text(encoding="utf-8")
        with urllib.request.urlopen(f"http://{address}/status", timeout=_PATIENCE_S) as answer:
            told: dict[str, Any] = json.load(answer)
            return told
    except (OSError, urllib.error.URLError, ValueError) as error:
        raise ConfigurationError(
            f"The gateway of {site} does not answer.", next_step=f"Start it: hybrid gateway --site {site}."
        ) from error


def _lines(told: dict[str, Any]) -> list[tuple[str, str]]:
    spool = told["spool"]
    lines = [
        ("messages", _counts(told["messages"])),
        ("why", _counts(told["reasons"])),
        ("flagged", _counts(told["flags"])),
        ("served by", _counts(told["served_by"])),
        (
            "spool",
            f"{spool['kept']} kept, {spool['landed']} landed, {spool['waiting']} waiting, {spool['bytes']} bytes",
        ),
        ("set aside", _set_aside(spool["set_aside"])),
        ("porter", "running" if told["porter"]["running"] else "not running"),
    ]
    lines += [(f"source {name}", _counts(health)) for name, health in told["sources"].items()]
    lines += [(f"fleet {name}", _counts(fleet)) for name, fleet in told["fleets"].items()]
    return [(name, text) for name, text in lines if text]


def _set_aside(told: dict[str, int]) -> str:
    return str(SetAside(**told))


def _counts(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value not in (None, {}, ""))
