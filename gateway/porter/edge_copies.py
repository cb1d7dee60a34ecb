"""What the hot process serves from, copied from the premises: verified releases, a checkpoint, maintenance events."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from backbone.errors import HybridError, IntegrityError, Transient
from gateway.exchange import (
    FleetState,
    Folders,
    MaintenanceEvents,
    read_release,
    release_folder,
    release_versions,
    write_state,
)
from gateway.porter.landed_since import with_landed
from gateway.porter.landing_note import LandingNote
from maintenance.baseline import OperatingBaseline
from maintenance.equipment_class import EquipmentClass, equipment_class_from_contract
from maintenance.feature_state import FeatureState
from resources.plant import Plant

RELEASES = "gateway.porter.releases"
"""Who copies them: a process of its own."""
_LONGEST_S, _AGAIN_S = 120.0, 60.0
_DAYS_TRIED = 30
"""Checkpoints that are looked at for one against the release's baseline, the newest first."""


@dataclass(frozen=True, slots=True)
class Copied:
    """The releases that are here of a fleet, newest first, and why others of the newest are not."""

    versions: list[int]
    refused: Mapping[str, str] = field(default_factory=dict)


def copy_in_a_process(plant: Plant, fleet: str) -> Copied:
    """As `copy_releases`, in another process, which ends when this one does.

    Raises:
        Transient: it failed; its output says why.
    """
    home = str(plant.catalog.home.root)
    command = [sys.executable, "-m", RELEASES, "--site", plant.site.name, "--home", home, "--fleet", fleet]
    again = "It is tried again; read the gateway's log if it stays."
    try:
        with _open_until_now() as here:
            done = subprocess.run(  # noqa: S603 - our own module, no shell
                command, stdin=here, stdout=subprocess.PIPE, timeout=_LONGEST_S, check=True
            )
        return Copied(**json.loads(done.stdout.splitlines()[-1]))
    except (subprocess.SubprocessError, OSError, ValueError, LookupError, TypeError) as error:
        raise Transient(f"Releases of {fleet} were not copied: {error}.", next_step=again) from error


@contextmanager
def _open_until_now() -> Iterator[int]:
    """What a process of ours reads to its end, which comes when this process is done with it, or has died of whatever:
    the other end is nobody else's. That the system ends it with its parent, it does where a thread of that ends, too.
    """
    theirs, ours = os.pipe()
    try:
        yield theirs
    finally:
        os.close(theirs)
        os.close(ours)


class FleetCopies:
    """The copies of one fleet. `look` brings them up to date; what has not changed is not read again.

    Args:
        copy_releases: copies those that verify.
    """

    def __init__(self, plant: Plant, folders: Folders, fleet: str, copy_releases: Callable[[], Copied]) -> None:
        self._plant, self._fleet, self._copy_releases = plant, fleet, copy_releases
        self._class: EquipmentClass = equipment_class_from_contract(plant.contract(fleet))
        self._releases, self._state_file = folders.releases(fleet), folders.state(fleet)
        self._registry, self._landing_note = plant.registry(fleet), folders.landing
        self._seen: object = None
        self._told: Copied | None = None
        self._again_at = 0.0
        self._state_of: tuple[object, ...] | None = None
        self._wanted = False

    def want_state(self) -> None:
        """Have the state written again, with what has landed since the graph's checkpoint.

        Only for who asks: it reads days of readings, and a gateway that runs has them in its own features.
        """
        self._state_of, self._wanted = None, True

    def look(self) -> Iterator[Mapping[str, Any]]:
        """What has changed, as the gateway is told: `{"release": …}` and `{"state": …}`."""
        seen = self._registry.fingerprint()
        now_s = self._plant.clock.monotonic()
        if seen != self._seen and now_s >= self._again_at:
            self._again_at = now_s + _AGAIN_S  # where it fails
            copied = self._copy_releases()
            self._seen, self._again_at = seen, 0.0
            if copied != self._told:
                self._told = copied
                told = {"versions": copied.versions, "refused": dict(copied.refused)}
                yield {"release": {"fleet": self._fleet, **told}}
        window = self._bring_state()
        if window is not None:
            yield {"state": {"fleet": self._fleet, "window": window or None}}

    def _bring_state(self) -> str | None:
        """Write the state where it has changed; the window of its checkpoint, "" where it has none; None: unchanged."""
        plant, site = self._plant, self._plant.site.name
        baseline = self._baseline()
        if baseline is None:
            return None
        states, history = (plant.table(self._fleet, name) for name in ("feature_state", "maintenance_history"))
        of = baseline.id, states.version, history.version
        if of == self._state_of and self._state_file.exists():
            return None
        anew = self._state_of is not None and self._state_of[0] != baseline.id
        whole = self._wanted or anew or not self._state_file.exists()
        window, state, spool, landed = None, None, None, 0
        days = sorted(states.rows_by_day(site), reverse=True)[:_DAYS_TRIED]
        for day in days:
            try:
                state = FeatureState.from_arrow(self._class, baseline.id, states.read(site, day, day))
            except IntegrityError:
                continue  # against another baseline, or of other features
            window = day
            break
        events = MaintenanceEvents(np.array([], object), np.array([], "datetime64[us]"))
        if history.exists:
            rows = history.read(site, columns=["equipment_id", "ts"])
            rows = rows.sort_by([("equipment_id", "ascending"), ("ts", "ascending")])
            when = rows["ts"].cast("int64").to_numpy().astype("datetime64[us]")
            events = MaintenanceEvents(np.array(rows["equipment_id"].to_pylist(), object), when)
        checkpoint = None
        if window is not None and state is not None:
            if whole:
                note = LandingNote.read(self._landing_note)  # before the tables are read: they may hold more, not less
                spool, landed = note.spool, note.landed
                landing = plant.landing(self._fleet)
                state = with_landed(self._class, baseline, state, landing, site, window, events)
            checkpoint = {name: getattr(state, name) for name in FeatureState.__slots__}
        told = "" if window is None else window.isoformat()
        left = FleetState(self._fleet, baseline.to_json(), told or None, checkpoint, events, spool, landed)
        write_state(self._state_file, left)
        self._state_of, self._wanted = of, False
        return told

    def _baseline(self) -> OperatingBaseline | None:
        """That of the newest release here, else the plant's newest; None: the plant has none."""
        for version in release_versions(self._releases):
            try:
                return OperatingBaseline.from_json(read_release(release_folder(self._releases, version)).baseline)
            except IntegrityError:
                continue
        documents = self._plant.baselines(self._fleet)
        name = documents.current()
        return None if name is None else OperatingBaseline.from_json(documents.get(name))


class EdgeCopies:
    """The copies of all fleets of a gateway.

    Args:
        copy_releases: those of a fleet, see `gateway.porter.releases`.
    """

    def __init__(
        self, plant: Plant, folders: Folders, fleets: Mapping[str, object], copy_releases: Callable[[str], Copied]
    ) -> None:
        self._fleets = {fleet: FleetCopies(plant, folders, fleet, partial(copy_releases, fleet)) for fleet in fleets}
        self._troubles: dict[str, str] = {}

    def want_state(self, fleet: str) -> None:
        """See `FleetCopies.want_state`."""
        if fleet in self._fleets:
            self._fleets[fleet].want_state()

    def look(self) -> Iterator[Mapping[str, Any]]:
        """What has changed, and what is wrong, once each."""
        for name, copies in self._fleets.items():
            try:
                yield from copies.look()
                self._troubles.pop(name, None)
            except Exception as error:  # of a table that cannot be read, say: landing is not to end with it
                if self._troubles.get(name) != str(error):
                    self._troubles[name] = str(error)
                    yield trouble(error, f"releases and state of {name}")


def trouble(error: Exception, what: str) -> Mapping[str, Any]:
    """An error, as the gateway is told."""
    problem = error.problem if isinstance(error, HybridError) else repr(error)
    step = error.next_step if isinstance(error, HybridError) else "It is tried again; report it if it stays."
    return {"error": problem, "next_step": step, "what": what, "kind": type(error).__name__}
