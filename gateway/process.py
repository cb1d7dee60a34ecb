"""One gateway, composed: sources, intake, spool, answers, porter and the page that tells of them."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import gateway.sources
from backbone import plugins
from backbone.errors import ConfigurationError, IntegrityError
from gateway.answering import Answering
from gateway.contract_check import ContractJudge, Equipment, MachineWatch
from gateway.counters import Counters
from gateway.decoding import Reading
from gateway.exchange import folders_of, write_whole
from gateway.fleets import open_fleet
from gateway.garbage import collect_rarely
from gateway.health_page import HealthPage
from gateway.intake import DurableIntake
from gateway.known_letters import KnownLetters, read_letters
from gateway.known_machines import KnownMachines
from gateway.outside_view import OutsideView
from gateway.own_broker import OwnBroker
from gateway.porter.landing_note import LandingNote
from gateway.porter_link import PorterLink, porter_command
from gateway.ports import GatewaySource, GatewaySourceSpec, Publisher, SourceContext
from gateway.rates import Rates
from gateway.recovery import SpoolHistory
from gateway.retention import Retention
from gateway.scoring_jobs import EdgeAdvisory
from gateway.sequences import Snapshot, read_snapshot
from gateway.settings import settings_of
from gateway.spool import Spool

if TYPE_CHECKING:
    from resources.plant import Plant

_log = logging.getLogger("hybrid.gateway")

LOOK_S = 1.0
SOURCE_AGAIN_S = 1.0


class Gateway:
    """The process of one site. `serve` runs until it is told to end.

    Args:
        porter: whether a second process lands what is kept; without one it stays in the spool.

    Raises:
        ConfigurationError: the settings are wrong.
    """

    def __init__(self, plant: Plant, *, porter: bool = True) -> None:
        self.plant, self.settings = plant, settings_of(plant)
        self.folders = folders_of(plant, self.settings)
        self.counters = Counters()
        self.broker = OwnBroker(self.settings.sources, self.folders.broker_port)
        self.sources: Mapping[str, GatewaySource] = {}
        self._publishers: Sequence[Callable[[str, str, bytes, str | None], None]] = ()
        self._view = OutsideView(self)
        self._with_porter = porter
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Take nothing more in, keep what came, and end."""
        self._stop.set()

    async def serve(self) -> None:
        """Run; ends after `stop`, SIGTERM or SIGINT.

        Raises:
            ConfigurationError: another gateway has the spool, the page's address is taken, or a source can never work.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        self.folders.root.mkdir(parents=True, exist_ok=True)
        known, noted = self._known(), self._noted()
        given_out = max(known.position, noted.landed, noted.open.last if noted.open is not None else 0)
        opened = Spool(self.folders.spool, self.settings.spool, at_least=given_out)
        with opened as self.spool, self.broker.up() as tables:
            self._compose(known, self._known_letters())
            self.sources = {f"{t['kind']}-{number}": self._open(number, t) for number, t in enumerate(tables, start=1)}
            self._publishers = [source.publish for source in self.sources.values() if isinstance(source, Publisher)]
            collect_rarely()
            await self._run()

    def _compose(self, known: Snapshot, letters: KnownLetters) -> None:
        """Put the parts together around what was kept before."""
        settings = self.settings
        patterns = {name: fleet.equipment for name, fleet in settings.fleets.items()}
        equipment = Equipment(patterns, others_ignored=settings.others == "ignore")
        self.fleets = {
            n: open_fleet(self.plant, settings, self.folders, n, lambda: (self.spool.id, self.spool.begin))
            for n in settings.fleets
        }
        most = {name: fleet.machines for name, fleet in settings.fleets.items()}
        watches = {
            name: MachineWatch(fleet.cls.contract, fleet.check.columns, machines=most[name])
            for name, fleet in self.fleets.items()
        }
        self.machines = KnownMachines(most)
        checks = {name: fleet.check for name, fleet in self.fleets.items()}
        judge = ContractJudge(equipment, checks, watches, self.machines)
        self._history = SpoolHistory(self.spool, judge, equipment.fleet)
        with ThreadPoolExecutor(1) as beside:
            loaded = [beside.submit(fleet.look_ahead) for fleet in self.fleets.values()]
            self._history.recover(known, letters, self.machines, tuple(self.fleets.values()))
            for release in loaded:
                release.result()
        for fleet in self.fleets.values():
            fleet.serve_at_once()
        self.answering = Answering(
            {name: fleet.scoring for name, fleet in self.fleets.items()},
            equipment.fleet,
            self._publish,
            deadline_s=settings.deadline_ms / 1000,
            counters=self.counters,
        )
        self.retention = Retention(
            self.spool, known.sequences, letters, self.fleets.values(), self.folders, known, self.answering
        )
        self.intake = DurableIntake(
            self.spool,
            judge,
            known.sequences,
            letters,
            pending=settings.pending,
            rates=Rates(settings.per_source_per_s, time.monotonic),
            counters=self.counters,
            kept=self._kept,
            begun=self.answering.begin,
            failed=self.answering.failed,
            now_us=now_us,
        )
        self.porter = PorterLink(
            porter_command(self.plant.site.name, str(self.plant.catalog.home.root)), self._heard, self.counters
        )

    async def _run(self) -> None:
        page = HealthPage(self.settings.listen, self._view.status, self._view.metrics)
        listening = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            serving = [tasks.create_task(page.serve(listening))]
            serving += [tasks.create_task(self._serve_source(n, s)) for n, s in self.sources.items()]
            looks = (
                self.retention.snapshot,
                self.retention.release,
                self._look_for_releases,
                self.broker.look_after,
            )
            upkeep = [tasks.create_task(self._every(LOOK_S, look)) for look in looks]
            if self._with_porter:
                upkeep += [
                    tasks.create_task(self.porter.serve()),
                    tasks.create_task(self._every(self.settings.land_every_s, self._let_land)),
                ]
            upkeep += [tasks.create_task(self._announce(page, listening))]
            await self._stop.wait()
            _log.info("draining", extra={"told": {"pending": self.intake.pending}})
            await self.intake.drain()  # the sources still acknowledge what is kept meanwhile
            await self.answering.close()
            for task in serving[1:]:
                task.cancel()
            await self.retention.snapshot(last=True)
            for task in (*upkeep, serving[0]):
                task.cancel()
        self.folders.address.unlink(missing_ok=True)

    def _known(self) -> Snapshot:
        """Which ids were kept."""
        known = read_snapshot(self.folders.sequences)
        for name in known.damaged:  # aside: the next snapshot must not take the place of the one that can be read
            (self.folders.root / name).replace(self.folders.root / f"{name}.damaged")
            _log.error("damaged", extra={"told": {"file": name}})
        return known

    def _known_letters(self) -> KnownLetters:
        """Which dead letters were kept; none where that is damaged: one that is sent again is then kept again."""
        try:
            return read_letters(self.folders.letters)
        except IntegrityError as error:
            _log.error("damaged", extra={"told": {"file": self.folders.letters.name, "why": str(error)}})
            return KnownLetters()

    def _noted(self) -> LandingNote:
        """What the porter noted; what it cannot be read for, the spool's own files say."""
        try:
            return LandingNote.read(self.folders.landing)
        except IntegrityError as error:
            _log.error("damaged", extra={"told": {"file": str(self.folders.landing), "why": str(error)}})
            return LandingNote()

    async def _announce(self, page: HealthPage, listening: asyncio.Event) -> None:
        await listening.wait()
        try:
            write_whole(self.folders.address, page.address.encode())
        except OSError as error:  # a full disk: readings are refused then, and what is there still lands
            _log.error("address not written", extra={"told": {"why": str(error)}})
        told = {"page": page.address, "sources": list(self.sources), "broker": self.broker.url}
        _log.info("serving", extra={"told": told})

    async def _serve_source(self, name: str, source: GatewaySource) -> None:
        """A source that fails is begun again: the others, and what it kept, are not to go with it."""
        while True:
            try:
                await source.serve(self.intake, asyncio.Event())
            except ConfigurationError:
                raise
            except Exception:
                _log.exception("source failed", extra={"told": {"source": name}})
            await asyncio.sleep(SOURCE_AGAIN_S)

    def _open(self, number: int, table: Mapping[str, Any]) -> GatewaySource:
        spec: GatewaySourceSpec = plugins.load(gateway.sources, table["kind"])
        patterns = tuple(p for fleet in self.settings.fleets.values() for p in fleet.equipment)
        columns = [c for fleet in self.fleets.values() for c in fleet.cls.contract.columns]
        return spec.open(
            SourceContext(
                site=self.plant.site.name,
                gateway=self.settings.name,
                folder=self.folders.root / "sources" / f"{table['kind']}-{number}",
                base=self.plant.catalog.home.root,
                settings={key: value for key, value in table.items() if key != "kind"},
                now_us=now_us,
                equipment=patterns,
                sensors={c.name: c.unit for c in columns if c.role in ("input", "setting", "context")},
            )
        )

    def _kept(self, readings: Sequence[Reading], position: int) -> None:
        self.retention.kept = position
        self.answering.kept(readings)

    def _publish(self, advisories: Sequence[EdgeAdvisory]) -> None:
        for publish in self._publishers:
            for advisory in advisories:
                of = advisory.reading
                publish(of.equipment, "advisory", advisory.payload, of.traceparent)
            self.counters.published += len(advisories)

    async def _look_for_releases(self) -> None:
        for fleet in self.fleets.values():
            fleet.scoring.releases.go_back()
            change = await asyncio.to_thread(fleet.prepared)
            if fleet.wants_state:
                self.porter.tell({"state": fleet.name})
            if change is None:
                continue
            if change.features is not None:
                await self._history.bring_up_to_date(change.features, fleet.name, lambda: self.retention.kept)
                self.answering.take_all()  # what has come is answered with the features that it came to
                change.features.take(self.answering.in_flight(fleet.name), again=True)
            fleet.take_over(change)
            self.counters.swaps += change.candidate is not None

    async def _every(self, seconds: float, what: Callable[[], Awaitable[None]]) -> None:
        """Upkeep that fails is tried again: readings are taken in meanwhile."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await what()
            except Exception:
                _log.exception("upkeep failed", extra={"told": {"what": what.__name__}})

    async def _let_land(self) -> None:
        self.porter.tell({"land_up_to": self.spool.end})

    def _heard(self, message: Mapping[str, Any]) -> None:
        """What the porter says."""
        if "landed" in message:
            self.retention.landed = max(self.retention.landed, int(message["landed"]))
            self.counters.landed += int(message.get("readings", 0))
        elif "error" in message:
            _log.error("porter", extra={"told": dict(message)})


def now_us() -> int:
    """Microseconds since 1970, UTC."""
    return time.time_ns() // 1000
