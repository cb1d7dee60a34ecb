"""`hybrid-gateway --site S`: the plant-floor process, for a box that has nothing else to run."""

from __future__ import annotations

import argparse
import os
import sys

from backbone.errors import HybridError

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before the runtime is imported: a plant tells nobody
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # or it reads what every installed package offers


SWITCH_S = 0.001
"""After so long the thread that scores, or that writes, gets the interpreter though the loop has more to do: five times
that, as Python has it, and what is scored waits ten milliseconds for a loop that is busy."""


def main() -> None:
    """Run a site's gateway until SIGTERM or SIGINT; exit code 2 where it is set up wrongly."""
    parser = argparse.ArgumentParser(prog="hybrid-gateway", description=__doc__)
    parser.add_argument("--site", required=True, help="The plant.")
    parser.add_argument("--no-porter", action="store_true", help="Land nothing: readings stay in the spool.")
    given = parser.parse_args()
    try:
        run_gateway(given.site, porter=not given.no_porter)
    except HybridError as error:
        print(f"{error.problem} {error.next_step}", file=sys.stderr)
        sys.exit(2)


def run_gateway(site: str, *, porter: bool = True) -> None:
    """Run a site's gateway of this home until SIGTERM or SIGINT.

    Raises:
        HybridError: it cannot run as it is set up.
    """
    from gateway.garbage import collect_nothing

    collect_nothing()
    import uvloop

    from gateway.garbage import keep_memory_together
    from gateway.json_logs import log_as_json
    from gateway.process import Gateway
    from resources.home import Home
    from resources.plant import Catalog, Plant

    keep_memory_together()
    sys.setswitchinterval(SWITCH_S)
    log_as_json()
    plant = Plant(Catalog(Home.from_environment().prepare()), site)

    async def run() -> None:
        await Gateway(plant, porter=porter).serve()

    try:
        uvloop.run(run())
    except* HybridError as group:
        raise _first(group) from None


def _first(group: BaseExceptionGroup[HybridError]) -> HybridError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, HybridError)
    return error


if __name__ == "__main__":
    main()
