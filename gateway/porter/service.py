"""The porter as a process: started by the gateway, told by it what may land, telling it what has.

JSON lines. In: `{"land_up_to": position}`, what the disk has confirmed, and `{"state": fleet}`, whose state is to be
written again. Out: `{"landed": position, "readings": n,
"dead_letters": n, …}`, `{"release": {"fleet", "versions", "refused"}}`, `{"state": {"fleet", "window"}}`, and
`{"error", "next_step", "what", "kind"}`. Ends when its input does, after the range it is landing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from backbone.errors import ConfigurationError, HybridError
from gateway.exchange import folders_of
from gateway.porter.edge_copies import EdgeCopies, copy_in_a_process, trouble
from gateway.porter.porter import Porter
from gateway.settings import GatewaySettings
from resources.dead_letters import NAME
from resources.plant import Plant
from resources.stores.upkeep import MANY_FILES

LOOK_S = 5.0
"""How often releases and checkpoints are looked for."""
_AGAIN_S, _MOST_AGAIN_S = 1.0, 30.0
"""After what did not land it is tried again, doubled each time."""
_NICE = 5
"""Landing waits for acknowledging and answering, where all want the processor."""


class Told:
    """The newest position that may land, and fleets whose state is wanted, as another thread hears it."""

    def __init__(self) -> None:
        self.position, self.ended = 0, False
        self._wanted: set[str] = set()
        self._changed = threading.Condition()

    def listen(self, stream: TextIO) -> None:
        """Read messages until there are no more."""
        for line in stream:
            with suppress(ValueError, KeyError, TypeError), self._changed:
                message = json.loads(line)
                if "state" in message:
                    self._wanted.add(str(message["state"]))
                else:
                    self.position = max(self.position, int(message["land_up_to"]))
                    self._changed.notify()
        with self._changed:
            self.ended = True
            self._changed.notify()

    def wanted(self) -> set[str]:
        """Fleets whose state was asked for since this was called last."""
        with self._changed:
            wanted, self._wanted = self._wanted, set()
        return wanted

    def wait(self, landed: int, timeout_s: float) -> None:
        """Until there is more to land, nobody is left to tell, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self.ended or self.position > landed, max(0.0, timeout_s))


def open_porter(plant: Plant, settings: GatewaySettings, **options: Any) -> Porter:
    """The porter of a site's gateway; see `Porter` for its options and errors."""
    from gateway.spool import SpoolReader

    letters = plant.dead_letters()
    folders = folders_of(plant, settings)
    if folders.root == letters.path:
        raise ConfigurationError(
            f"A gateway cannot be named {NAME}: its folder is that table's.", next_step="Give it another name."
        )
    return Porter(
        plant.site.name,
        settings,
        folders,
        SpoolReader(folders.spool),
        {name: plant.landing(name) for name in settings.fleets},
        {name: plant.contract(name) for name in settings.fleets},
        letters,
        plant.clock,
        **options,
    )


def serve(porter: Porter, copies: EdgeCopies, told: Told, say: Callable[[Mapping[str, Any]], None]) -> None:
    """Land what may land and look for what is new, until there is nobody left to tell."""
    look_at = land_at = 0.0
    again_s = _AGAIN_S
    landings = MANY_FILES  # an earlier porter may have merged none of its own
    say(porter.land(0).to_dict())  # where the gateway goes on from
    while True:
        ended = told.ended
        if not ended and time.monotonic() >= look_at:
            for fleet in told.wanted():
                copies.want_state(fleet)
            for message in copies.look():
                say(message)
            look_at = time.monotonic() + LOOK_S
        if told.position > porter.position and (ended or time.monotonic() >= land_at):
            try:
                say(porter.land(told.position).to_dict())
                again_s, landings = _AGAIN_S, landings + 1
            except (HybridError, OSError) as error:
                say(trouble(error, "landing"))
                land_at, again_s = time.monotonic() + again_s, min(again_s * 2, _MOST_AGAIN_S)
        if ended:
            return
        behind = told.position > porter.position
        if landings >= MANY_FILES:
            try:
                porter.tidy()
            except (HybridError, OSError) as error:
                say(trouble(error, "merging files"))
            landings = 0
        wake_at = min(look_at, land_at) if behind else look_at
        told.wait(told.position if behind else porter.position, wake_at - time.monotonic())


class _WithoutPandas:
    """pyarrow imports pandas, where it can be, at the first list it meets: 34 MB that landing has no use for."""

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def main() -> None:
    """Entry point: errors that end it are told as a message, and by exit code 2."""
    sys.meta_path.insert(0, _WithoutPandas)
    parser = argparse.ArgumentParser(prog="python -m gateway.porter", description=__doc__)
    parser.add_argument("--site", required=True)
    parser.add_argument("--home", type=Path, help="Default: HYBRID_HOME.")
    given = parser.parse_args()
    with _messages() as say:
        try:
            _run(given.site, given.home, say)
        except HybridError as error:
            say(trouble(error, "porter"))
            raise SystemExit(2) from error
        except BrokenPipeError:
            raise SystemExit(0) from None  # the gateway is gone
        except Exception as error:  # a defect of ours, or of a table: the gateway logs it, and starts another porter
            say(trouble(error, "porter"))
            raise


def _run(site: str, home: Path | None, say: Callable[[Mapping[str, Any]], None]) -> None:
    from gateway.settings import settings_of
    from resources.home import Home
    from resources.plant import Catalog

    with suppress(OSError):
        os.nice(_NICE)
    told = Told()
    threading.Thread(target=told.listen, args=(sys.stdin,), name="told", daemon=True).start()
    plant = Plant(Catalog(Home(home.resolve()) if home else Home.from_environment()), site)
    settings = settings_of(plant)
    porter = open_porter(plant, settings)
    try:
        copies = EdgeCopies(plant, folders_of(plant, settings), settings.fleets, partial(copy_in_a_process, plant))
        serve(porter, copies, told, say)
    finally:
        porter.close()


@contextmanager
def _messages() -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Says messages on what is standard output now; whatever else is printed goes to standard error."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)

        def say(message: Mapping[str, Any]) -> None:
            out.write(json.dumps(message) + "\n")
            out.flush()

        yield say
