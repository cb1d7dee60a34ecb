"""The machines of one class at a gateway: what their readings are held to, and what answers for them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backbone.errors import IntegrityError
from gateway.contract_check import ReadingCheck
from gateway.edge_features import EdgeFeatures, cold
from gateway.edge_releases import EdgeReleases, Serving
from gateway.edge_scoring import EdgeScoring
from gateway.exchange import FleetState, Folders, read_state, write_state_in_parts
from maintenance.equipment_class import EquipmentClass, equipment_class_from_contract

if TYPE_CHECKING:
    from gateway.settings import GatewaySettings
    from resources.plant import Plant

_log = logging.getLogger("hybrid.gateway")


@dataclass(slots=True)
class Fleet:
    """One fleet, as it stands now. To be used on the event loop, but for `prepared`."""

    name: str
    cls: EquipmentClass
    check: ReadingCheck
    scoring: EdgeScoring
    folders: Folders
    held: Callable[[], tuple[str | None, int]] = lambda: (None, 0)
    """The spool's id, and the position of the oldest record that it has."""
    trouble: str | None = None
    """Why the porter's word for where the fleet stands was not taken."""
    _waits: Serving | None = None
    """A release that proved itself, and waits for features against its baseline."""
    _older: Serving | None = None
    """The one before it, where none serves yet."""
    _lacks: bool = False
    """Live features lack what landed before this process began, and the spool has let go of."""
    _taken: int | None = None
    """When the porter wrote the state that was taken last."""

    def recover(self) -> bool:
        """Go on from where the last process, else the porter, left off; whether the spool is to be read whole."""
        own = self._read(self.folders.live(self.name))
        state = own if own is not None else self._read(self.folders.state(self.name))
        self.scoring.features = self._opened(state)
        self._lacks = own is None and not self._reaches(state)
        return own is None or self.scoring.features is None

    def checkpoint(self) -> Iterator[FleetState] | None:
        """Where the fleet stands, some machines at a time; None where it is not commissioned."""
        return None if self.scoring.features is None else self.scoring.features.checkpoint(self.name)

    def write(self, parts: Iterable[FleetState]) -> None:
        """Leave a checkpoint for the next process. For a thread."""
        write_state_in_parts(self.folders.live(self.name), parts)

    def look_ahead(self) -> None:
        """Load and try the newest release, for `prepared`. For a thread, also beside `recover`."""
        if self._waits is None:
            self._waits = self.scoring.releases.candidate()
            if self._waits is not None and self.scoring.releases.newest is None:
                self._older = self.scoring.releases.older(self._waits.version)

    def serve_at_once(self) -> None:
        """Have the newest release answer the first reading already, where features against its baseline are there."""
        change = self.prepared()
        if change is not None and change.features is None:
            self.take_over(change)

    def prepared(self) -> Change | None:
        """What the porter has left since: a release that proved itself, where machines stand. For a thread.

        First of all features without what was not kept, where they hold such.
        """
        doubted = self.scoring.features if self.scoring.doubted else None
        if doubted is not None and (change := self._anew(doubted)) is not None:
            return change
        change = self._left()
        if doubted is None or (change is not None and change.features is not None):
            return change
        # Nobody has anything against that baseline: what the spool holds is the most that can be had at once.
        return self._instead(doubted, cold(self.name, doubted.baseline_json), lacks=True)

    def _left(self) -> Change | None:
        """What the porter has left since."""
        self.look_ahead()
        candidate, live = self._waits, self.scoring.features
        left = self.folders.state(self.name)
        written = left.stat().st_mtime_ns if left.exists() else None
        if candidate is None and written == self._taken:
            return None
        anew = live is None or (candidate is not None and candidate.baseline != live.baseline_json)
        state = self._read(left) if written != self._taken or anew else None
        of = candidate.baseline if candidate is not None else None if live is None else live.baseline_json
        fits = state is not None and of in (None, state.baseline)
        if anew and not fits:
            return None  # the porter has not said yet where machines stand against that baseline
        if state is None or not (anew or (self._lacks and fits and self._reaches(state))):
            return Change(candidate, None, state, written)
        features = self._opened(state)
        return None if features is None else Change(candidate, features, state, written)

    def _anew(self, doubted: EdgeFeatures) -> Change | None:
        """Features as of the last checkpoint; what came since is in the spool."""
        own = self._read(self.folders.live(self.name))
        if (found := self._instead(doubted, own, lacks=self._lacks)) is not None:
            return found
        left = self._read(self.folders.state(self.name))
        return self._instead(doubted, left, lacks=not self._reaches(left))

    def _instead(self, doubted: EdgeFeatures, state: FleetState | None, *, lacks: bool) -> Change | None:
        """Features from a state against the same baseline; `lacks`: it and the spool leave out what has landed."""
        if state is None or state.baseline != doubted.baseline_json or (features := self._opened(state)) is None:
            return None
        features.know(doubted.events)
        return Change(None, features, None, self._taken, lacks)

    @property
    def doubted(self) -> bool:
        """Whether live features hold what was not kept: no checkpoint can be made of them."""
        return self.scoring.doubted

    @property
    def wants_state(self) -> bool:
        """Whether the porter is to write down again where machines stand, with all that has landed."""
        return self._lacks

    def _reaches(self, state: FleetState | None) -> bool:
        """Whether a state and what the spool holds leave nothing out between them."""
        spool, oldest = self.held()
        return oldest <= (state.landed if state is not None and state.spool == spool else 0)

    def take_over(self, change: Change) -> None:
        """Let what was prepared serve from the next reading on."""
        self._taken, self._waits = change.written, None
        if change.features is not None:
            self.scoring.features, self.scoring.doubted = change.features, False
            self._lacks = not self._reaches(change.state) if change.lacks is None else change.lacks
        if change.state is not None and self.scoring.features is not None:
            self.scoring.features.know(change.state.events)
        if change.candidate is not None:
            self.scoring.releases.take_over(change.candidate, self._older)
            self._older = None

    def told(self) -> Mapping[str, Any]:
        releases, features = self.scoring.releases, self.scoring.features
        return {
            "commissioned": features is not None,
            "features": None if features is None else "behind" if self._lacks or features.late else "whole",
            "late": 0 if features is None else features.late,
            "release": None if releases.newest is None else releases.newest.version,
            "asked": None if releases.newest is None else "trees" if releases.newest.scorer.by_trees else "runtime",
            "before": None if releases.before is None else releases.before.version,
            "rejected": {f"v{version}": why for version, why in releases.rejected.items()},
            "breaker": None if releases.newest is None else releases.newest.breaker.state.mode,
            "trouble": self.trouble,
        }

    def _opened(self, state: FleetState | None) -> EdgeFeatures | None:
        if state is None:
            return None
        try:
            return EdgeFeatures(self.cls, state, self.check.columns)
        except IntegrityError as error:
            self._told(error)
            return None

    def _read(self, path: Path) -> FleetState | None:
        try:
            return read_state(path)
        except IntegrityError as error:
            self._told(error)
            return None

    def _told(self, error: IntegrityError) -> None:
        if self.trouble != str(error):
            self.trouble = str(error)
            _log.error("state not taken", extra={"told": {"class": self.name, "why": str(error)}})


@dataclass(frozen=True, slots=True)
class Change:
    """What is to serve from now on; None where that stays as it is."""

    candidate: Serving | None
    features: EdgeFeatures | None
    state: FleetState | None
    """What the porter wrote last, for its maintenance events."""
    written: int | None
    """When the porter wrote what this is from."""
    lacks: bool | None = None
    """Whether its features lack what has landed; None: the state tells."""


def open_fleet(
    plant: Plant,
    settings: GatewaySettings,
    folders: Folders,
    name: str,
    held: Callable[[], tuple[str | None, int]] = lambda: (None, 0),
) -> Fleet:
    """A fleet of a gateway, with nothing known of its machines yet; see `Fleet.held`."""
    cls = equipment_class_from_contract(plant.contract(name))
    releases = EdgeReleases(cls, folders.releases(name), _now, deadline_s=settings.deadline_ms / 1000)
    check = ReadingCheck(cls.contract, ahead_s=settings.ahead_s, first_day=plant.site.first_day)
    scoring = EdgeScoring(cls, settings.name, releases, None, time.monotonic)
    scoring.warm()
    return Fleet(name, cls, check, scoring, folders, held)


def _now() -> datetime:
    return datetime.now(UTC)
