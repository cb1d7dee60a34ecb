"""One gateway, composed: sources, intake, spool, answers, porter and the page that tells of them."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gateway.sources
from backbone import plugins
from backbone.errors import ConfigurationError, IntegrityError, TargetFailed
from gateway.answering import Answering, EdgeAdvisory
from gateway.contract_check import ContractJudge, Equipment, MachineWatch
from gateway.counters import Collector, Counters
from gateway.decoding import Reading, Sent, decode, digest_of
from gateway.edge_features import EdgeFeatures
from gateway.embedded_broker import EmbeddedBroker
from gateway.exchange import Folders, write_whole
from gateway.fleets import open_fleet
from gateway.garbage import collect_rarely
from gateway.health_page import HealthPage
from gateway.intake import LETTERS_REMEMBERED, DurableIntake
from gateway.porter.landing_note import LandingNote
from gateway.porter_link import PorterLink, porter_command
from gateway.ports import GatewaySource, GatewaySourceSpec, Message, Publisher, SourceContext
from gateway.rates import Rates
from gateway.records import Record
from gateway.sequences import Snapshot, read_snapshot, write_snapshot
from gateway.settings import GatewaySettings, gateway_settings
from gateway.spool import Spool
from gateway.writer import MOST_AT_ONCE

if TYPE_CHECKING:
    from resources.plant import Plant

_log = logging.getLogger("hybrid.gateway")

SNAPSHOT_S, SNAPSHOT_RECORDS = 60.0, 100_000
"""When, or after how many records, what is known of ids and features is written; a new start reads on from there."""
HELD_S = 5.0
"""The same where the spool holds what has landed: it may be full."""
LOOK_S = 1.0
SOURCE_AGAIN_S = 1.0
SEQUENCES = "sequences"
BROKER_PORT = "broker_port"
_A_TURN = 64
"""Readings that are read again between two turns of the loop: milliseconds."""
EMBEDDED = "embedded"
"""The address of a broker of the gateway's own."""
ADDRESS = "address"
"""File in the gateway's folder that says where its page answers, while it runs."""


def gateway_folder(plant: Plant, settings: GatewaySettings) -> Path:
    """Where a site's gateway keeps everything of its own: in the edge's store."""
    return plant.root("edge") / "gateway" / plant.site.name / settings.name


def settings_of(plant: Plant) -> GatewaySettings:
    """The gateway that a site names.

    Raises:
        ConfigurationError: it names none, or says something wrong.
    """
    if not plant.site.gateway:
        raise ConfigurationError(
            f"Site {plant.site.name} has no gateway.",
            next_step="Add a [gateway] table to its file; docs/gateway.md has one to start from.",
        )
    settings = gateway_settings(plant.site.name, plant.site.gateway)
    for name in settings.fleets:
        plant.site.fleet(name)
    return settings


class Gateway:
    """The process of one site. `serve` runs until it is told to end.

    Args:
        porter: whether a second process lands what is kept; without one it stays in the spool.

    Raises:
        ConfigurationError: the settings are wrong.
    """

    def __init__(self, plant: Plant, *, porter: bool = True) -> None:
        self.plant, self.settings = plant, settings_of(plant)
        self.folders = Folders(gateway_folder(plant, self.settings))
        self.counters = Counters()
        self.broker_url: str | None = None
        self._with_porter = porter
        self._stop = asyncio.Event()
        self._began = time.time()
        self._letters: deque[tuple[str, bytes]] = deque(maxlen=LETTERS_REMEMBERED)
        """Who sent dead letters that the spool held at the start, and their digests."""
        self._snapping = asyncio.Lock()
        self._landed = self._position = self._snapped = self._releasable = self._released = 0
        self._snapped_at = time.monotonic()
        self._sources: dict[str, GatewaySource] = {}
        self._broker: EmbeddedBroker | None = None

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
        known = read_snapshot(self.folders.root / SEQUENCES)
        for name in known.damaged:  # aside: the next snapshot must not take the place of the one that can be read
            (self.folders.root / name).replace(self.folders.root / f"{name}.damaged")
            _log.error("damaged", extra={"told": {"file": name}})
        noted = self._noted()
        given_out = max(known.position, noted.landed, noted.open.last if noted.open is not None else 0)
        opened = Spool(self.folders.spool, self.settings.spool, at_least=given_out)
        with opened as self._spool, self._brokers() as tables:
            patterns = {name: fleet.equipment for name, fleet in self.settings.fleets.items()}
            self._equipment = Equipment(patterns, others_ignored=self.settings.others == "ignore")
            self._fleets = {n: open_fleet(self.plant, self.settings, self.folders, n) for n in self.settings.fleets}
            watches = {name: MachineWatch(f.cls.contract, f.check.columns) for name, f in self._fleets.items()}
            checks = {name: fleet.check for name, fleet in self._fleets.items()}
            self._judge = ContractJudge(self._equipment, checks, watches)
            self._recover(known)
            self._answering = Answering(
                {name: fleet.scoring for name, fleet in self._fleets.items()},
                self._equipment.fleet,
                self._publish,
                deadline_s=self.settings.deadline_ms / 1000,
                counters=self.counters,
            )
            collect_rarely()
            await self._run(tables)

    async def _run(self, tables: Sequence[Mapping[str, Any]]) -> None:
        intake = DurableIntake(
            self._spool,
            self._judge,
            self._sequences,
            pending=self.settings.pending,
            rates=Rates(self.settings.per_source_per_s, time.monotonic),
            counters=self.counters,
            kept=self._kept,
            now_us=now_us,
        )
        for letter in self._letters:
            intake.remember_letter(*letter)
        self._intake = intake
        self._letters.clear()
        self._porter = PorterLink(
            porter_command(self.plant.site.name, str(self.plant.catalog.home.root)), self._heard, self.counters
        )
        page = HealthPage(self.settings.listen, self.status, self._metrics)
        listening = asyncio.Event()
        self._sources = {
            f"{table['kind']}-{number + 1}": self._open(number, table) for number, table in enumerate(tables)
        }
        async with asyncio.TaskGroup() as tasks:
            serving = [tasks.create_task(page.serve(listening))]
            serving += [tasks.create_task(self._serve_source(n, s, intake)) for n, s in self._sources.items()]
            looks = (self._snapshot, self._release, self._look_for_releases, self._look_after_the_broker)
            upkeep = [tasks.create_task(self._every(LOOK_S, look)) for look in looks]
            if self._with_porter:
                upkeep += [
                    tasks.create_task(self._porter.serve()),
                    tasks.create_task(self._every(self.settings.land_every_s, self._let_land)),
                ]
            upkeep += [tasks.create_task(self._announce(page, listening))]
            await self._stop.wait()
            _log.info("draining", extra={"told": {"pending": intake.pending}})
            await intake.drain()  # the sources still acknowledge what is kept meanwhile
            for task in serving[1:]:
                task.cancel()
            self._answering.close()
            await self._snapshot(last=True)
            for task in (*upkeep, serving[0]):
                task.cancel()
        (self.folders.root / ADDRESS).unlink(missing_ok=True)

    @contextmanager
    def _brokers(self) -> Iterator[Sequence[Mapping[str, Any]]]:
        """The sources' tables; a broker of our own is up where one asks for it."""
        tables = list(self.settings.sources)
        own = [n for n, table in enumerate(tables) if table.get("url") == EMBEDDED]
        if not own:
            yield tables
            return
        self._broker = broker = self._own_broker()
        try:
            self.broker_url = broker.url
            for number in own:
                tables[number] = {**tables[number], "url": broker.url, "version": "3.1.1"}
            yield tables
        finally:
            broker.stop()

    def _own_broker(self) -> EmbeddedBroker:
        """On the port it had before, where that is free: senders know it."""
        port = self.folders.root / BROKER_PORT
        try:
            broker = EmbeddedBroker(int(port.read_text()))
            broker.start()
        except (OSError, ValueError, TargetFailed):
            broker = EmbeddedBroker()
            broker.start()
        write_whole(port, str(broker.port).encode())
        return broker

    async def _look_after_the_broker(self) -> None:
        if self._broker is not None and not self._broker.running:
            _log.error("the embedded broker ended")
            await asyncio.to_thread(self._broker.start)

    def _noted(self) -> LandingNote:
        """What the porter noted; what it cannot be read for, the spool's own files say."""
        try:
            return LandingNote.read(self.folders.landing)
        except IntegrityError as error:
            _log.error("damaged", extra={"told": {"file": str(self.folders.landing), "why": str(error)}})
            return LandingNote()

    def _metrics(self) -> bytes:
        from prometheus_client import CollectorRegistry, generate_latest

        def gauges() -> Mapping[str, tuple[float, str]]:
            return {
                "pending": (self._intake.pending, "Messages that wait for the disk."),
                "spool_bytes": (self._spool.bytes, "What the spool holds on the disk."),
                "spool_waiting": (self._spool.end - self._landed, "Records that have not landed."),
                "scoring_late": (self._answering.late, "Whether a model has not answered within its deadline."),
            }

        registry = CollectorRegistry()
        registry.register(Collector(self.counters, gauges))
        return generate_latest(registry)

    async def _announce(self, page: HealthPage, listening: asyncio.Event) -> None:
        await listening.wait()
        try:
            write_whole(self.folders.root / ADDRESS, page.address.encode())
        except OSError as error:  # a full disk: readings are refused then, and what is there still lands
            _log.error("address not written", extra={"told": {"why": str(error)}})
        told = {"page": page.address, "sources": list(self._sources), "broker": self.broker_url}
        _log.info("serving", extra={"told": told})

    async def _serve_source(self, name: str, source: GatewaySource, intake: DurableIntake) -> None:
        """A source that fails is begun again: the others, and what it kept, are not to go with it."""
        while True:
            try:
                await source.serve(intake, asyncio.Event())
            except ConfigurationError:
                raise
            except Exception:
                _log.exception("source failed", extra={"told": {"source": name}})
            await asyncio.sleep(SOURCE_AGAIN_S)

    def _open(self, number: int, table: Mapping[str, Any]) -> GatewaySource:
        spec: GatewaySourceSpec = plugins.load(gateway.sources, table["kind"])
        patterns = tuple(p for fleet in self.settings.fleets.values() for p in fleet.equipment)
        columns = [c for fleet in self._fleets.values() for c in fleet.cls.contract.columns]
        return spec.open(
            SourceContext(
                site=self.plant.site.name,
                gateway=self.settings.name,
                folder=self.folders.root / "sources" / f"{table['kind']}-{number + 1}",
                base=self.plant.catalog.home.root,
                settings={key: value for key, value in table.items() if key != "kind"},
                now_us=now_us,
                equipment=patterns,
                sensors={c.name: c.unit for c in columns if c.role in ("input", "setting", "context")},
            )
        )

    def _recover(self, known: Snapshot) -> None:
        """Know again which ids were kept, and where machines stand, from snapshots and from what the spool holds.

        Reading a record again changes nothing: its id is known then, and it is not newer than its machine's newest.
        """
        self._sequences = known.sequences
        anew = [fleet.recover() for fleet in self._fleets.values()]
        whole = any(anew) or known.spool != self._spool.id
        begin = self._spool.begin if whole else max(known.position, self._spool.begin)
        for readings in self._spooled(begin, self._spool.end, self._remember):
            for name, fleet in self._fleets.items():
                if fleet.scoring.features is not None:
                    fleet.scoring.features.take([r for r in readings if self._equipment.fleet(r.equipment) == name])
        self._position = self._spool.end
        self._snapped = known.position if known.spool == self._spool.id else self._spool.begin

    def _remember(self, record: Record) -> None:
        """Know a record's id, whatever today's contract says of it."""
        if record.reason is not None:
            self._letters.append((record.source, digest_of(record.raw)))
        elif isinstance(sent := decode(record.raw), Sent):
            self._sequences.kept(record.source, sent.session, sent.seq, digest_of(record.raw))

    def _spooled(
        self, begin: int, end: int, also: Callable[[Record], None] = lambda _: None, at_once: int = MOST_AT_ONCE
    ) -> Iterator[list[Reading]]:
        """Readings that the spool holds, some at a time, as today's contract has them; `also` is given every record."""
        records = (Record.from_bytes(data) for _, data in self._spool.read(begin, end))
        while some := list(itertools.islice(records, at_once)):
            for record in some:
                also(record)
            messages = [Message(r.source, r.equipment, r.raw, r.received_us) for r in some if r.reason is None]
            yield [judged for judged in map(self._judge.judge, messages) if isinstance(judged, Reading)]

    def _kept(self, readings: Sequence[Reading], position: int) -> None:
        self._position = position
        self._answering.take(readings)

    def _publish(self, advisory: EdgeAdvisory) -> None:
        for source in self._sources.values():
            if isinstance(source, Publisher):
                source.publish(advisory.equipment, "advisory", advisory.payload, advisory.traceparent)
                self.counters.published += 1

    async def _snapshot(self, *, last: bool = False) -> None:
        """Write what the next process would else have to read the spool for, where that has become much.

        Also where nothing comes any more, for a full spool say, but what has landed could be let go of.
        """
        async with self._snapping:
            since, now = self._position - self._snapped, time.monotonic()
            held = min(self._landed, self._position) > self._releasable
            old_s = now - self._snapped_at
            due = since >= SNAPSHOT_RECORDS or old_s >= (HELD_S if held else SNAPSHOT_S)
            if (since or held) and (last or due):
                await self._write_snapshot(now)

    async def _write_snapshot(self, now: float) -> None:
        position, sequences = self._position, self._sequences.to_parts(self._spool.id, self._position)
        states = [(fleet, fleet.checkpoint()) for fleet in self._fleets.values()]

        def write() -> None:
            for fleet, state in states:
                if state is not None:
                    fleet.write(state)
            write_snapshot(self.folders.root / SEQUENCES, sequences)

        try:
            await asyncio.to_thread(write)
        except OSError as error:  # a full disk: the spool keeps what this would have stood for
            _log.error("no snapshot", extra={"told": {"why": str(error)}})
            self._releasable = self._snapped  # the last one is on the disk, and room is what it lacks
            return
        # Up to the snapshot before: one that the disk damages later costs no ids then.
        self._releasable, self._snapped, self._snapped_at = self._snapped, position, now

    async def _release(self) -> None:
        """Let the spool go of what has landed and is in the snapshots."""
        if (position := min(self._landed, self._releasable)) > self._released:
            await asyncio.to_thread(self._spool.release, position)
            self._released = position

    async def _look_for_releases(self) -> None:
        for fleet in self._fleets.values():
            fleet.scoring.releases.go_back()
            change = await asyncio.to_thread(fleet.prepared)
            if change is None:
                continue
            if change.features is not None:
                await self._bring_up_to_date(change.features, fleet.name)
            fleet.take_over(change)
            self.counters.swaps += change.candidate is not None

    async def _bring_up_to_date(self, features: EdgeFeatures, fleet: str) -> None:
        """Have features take in what the spool holds; what comes meanwhile as well."""
        reached = self._spool.begin
        while reached < self._position:
            end = self._position
            for readings in self._spooled(reached, end, at_once=_A_TURN):
                features.take([r for r in readings if self._equipment.fleet(r.equipment) == fleet])
                await asyncio.sleep(0)
            reached = end

    async def _every(self, seconds: float, what: Callable[[], Awaitable[None]]) -> None:
        """Upkeep that fails is tried again: readings are taken in meanwhile."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await what()
            except Exception:
                _log.exception("upkeep failed", extra={"told": {"what": what.__name__}})

    async def _let_land(self) -> None:
        self._porter.tell({"land_up_to": self._spool.end})

    def _heard(self, message: Mapping[str, Any]) -> None:
        """What the porter says."""
        if "landed" in message:
            self._landed = max(self._landed, int(message["landed"]))
            self.counters.landed += int(message.get("readings", 0))
        elif "error" in message:
            _log.error("porter", extra={"told": dict(message)})

    def status(self) -> Mapping[str, Any]:
        """What `hybrid gateway status` tells."""
        return {
            "site": self.plant.site.name,
            "gateway": self.settings.name,
            "pid": os.getpid(),
            "up_s": round(time.time() - self._began, 1),
            "broker": self.broker_url,
            "messages": _by_fate(self.counters),
            "reasons": {f"{fate}: {reason}": n for (fate, reason), n in sorted(self.counters.reasons.items())},
            "flags": dict(self.counters.flags),
            "served_by": _by_server(self.counters),
            "published": self.counters.published,
            "pending": self._intake.pending,
            "spool": {
                "kept": self._spool.end,
                "landed": self._landed,
                "waiting": self._spool.end - max(self._landed, self._spool.begin),
                "bytes": self._spool.bytes,
                "dropped": self._spool.dropped,
                "gaps": len(self._spool.gaps),
            },
            "porter": {"running": self._porter.running, "starts": self.counters.porter_starts},
            "scoring_late": self._answering.late,
            "fleets": {name: fleet.told() for name, fleet in self._fleets.items()},
            "sources": {name: dict(source.health()) for name, source in self._sources.items()},
            "kept_p99_s": self.counters.kept_after.quantile(0.99),
            "answered_p99_s": self.counters.answered_after.quantile(0.99),
        }


def now_us() -> int:
    """Microseconds since 1970, UTC."""
    return time.time_ns() // 1000


def _by_fate(counters: Counters) -> dict[str, int]:
    found: Counter[str] = Counter()
    for (fate, _), number in counters.fates.items():
        found[fate] += number
    return dict(found)


def _by_server(counters: Counters) -> dict[str, int]:
    return {f"{who} ({why})" if why else who: n for (who, why), n in sorted(counters.served.items())}
