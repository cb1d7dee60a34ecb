"""What the hot process serves from, copied from the premises: verified releases, a checkpoint, maintenance events.

Canary rows are not part of a release. They are taken from the plant's newest condition features against the release's
baseline, or, where there are none, made of the ranges that the manifest tells; their answers are those of the model
here, where its signature was verified. A copy that answers otherwise elsewhere is not the same, or does not run there.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow.compute as pc

from backbone.errors import HybridError, IntegrityError
from gateway.exchange import (
    BASELINE,
    MANIFEST,
    MODEL,
    Canary,
    EdgeRelease,
    FleetState,
    Folders,
    MaintenanceEvents,
    read_release,
    release_folder,
    release_versions,
    write_release,
    write_state,
)
from gateway.porter.landed_since import with_landed
from gateway.porter.landing_note import LandingNote
from maintenance.baseline import OperatingBaseline
from maintenance.equipment_class import EquipmentClass, equipment_class_from_contract
from maintenance.feature_state import FeatureState
from maintenance.onnx_export import PARITY_TOLERANCE
from maintenance.prognosis import Scorer
from resources.plant import Plant
from resources.registry.releases import Release

KEPT = 2
"""Releases: the newest, and the one to go back to."""
CANARY_ROWS = 32
_RISK_TOLERANCE = 1e-4
_DAYS_TRIED = 30
"""Checkpoints that are looked at for one against the release's baseline, the newest first."""


class FleetCopies:
    """The copies of one fleet. `look` brings them up to date; what has not changed is not read again."""

    def __init__(self, plant: Plant, folders: Folders, fleet: str) -> None:
        self._plant, self._fleet = plant, fleet
        self._class: EquipmentClass = equipment_class_from_contract(plant.contract(fleet))
        self._releases, self._state_file = folders.releases(fleet), folders.state(fleet)
        self._registry, self._landing_note = plant.registry(fleet), folders.landing
        self._seen: object = None
        self._told: tuple[list[int], dict[str, str]] | None = None
        self._state_of: object = None

    def want_state(self) -> None:
        """Have the state written again, with what has landed since."""
        self._state_of = None

    def look(self) -> Iterator[Mapping[str, Any]]:
        """What has changed, as the gateway is told: `{"release": …}` and `{"state": …}`."""
        seen = self._registry.fingerprint()
        if seen != self._seen:
            versions, refused = self._bring_releases()
            self._seen = seen
            if (versions, refused) != self._told:
                self._told = versions, refused
                yield {"release": {"fleet": self._fleet, "versions": versions, "refused": refused}}
        window = self._bring_state()
        if window is not None:
            yield {"state": {"fleet": self._fleet, "window": window or None}}

    def _bring_releases(self) -> tuple[list[int], dict[str, str]]:
        """Copy the newest releases that verify; those that do not are refused, and what is there stays."""
        kept: list[int] = []
        refused: dict[str, str] = {}
        for version in reversed(self._registry.versions()):
            try:
                self._bring(self._registry.load(version))
                kept.append(version)
            except IntegrityError as error:
                refused[str(version)] = str(error)
            if len(kept) == KEPT:
                break
        if kept:
            for version in set(release_versions(self._releases)) - set(kept):
                shutil.rmtree(release_folder(self._releases, version))
        return kept or release_versions(self._releases), refused

    def _bring(self, release: Release) -> None:
        files = {name: (release.bundle / name).read_bytes() for name in (MODEL, MANIFEST, BASELINE)}
        _check(release, files)
        folder = release_folder(self._releases, release.version)
        try:
            if read_release(folder).manifest == release.manifest:
                return
        except IntegrityError:
            pass
        contract = self._class.contract
        source = self._plant.catalog.contract_file(self._fleet).read_bytes()
        copy = EdgeRelease(
            fleet=self._fleet,
            version=release.version,
            model=files[MODEL],
            manifest=release.manifest,
            baseline=files[BASELINE].decode(),
            canary=self._canary(Scorer(files[MODEL], release.manifest), release.manifest),
            contract={"name": contract.name, "version": contract.version, "digest": _sha256(source)},
        )
        write_release(folder, copy, files[MANIFEST])

    def _canary(self, scorer: Scorer, manifest: Mapping[str, Any]) -> Canary:
        origin, rows = "condition_features", self._stored_features(scorer)
        if rows is None or not len(rows):
            origin, rows = "manifest", _examples(manifest)
        tolerance = _RISK_TOLERANCE if scorer.asks_for_risk else PARITY_TOLERANCE
        try:
            answers = scorer.predict(rows)
        except Exception as error:  # whatever the runtime raises of a graph it cannot run
            raise IntegrityError(
                f"The model does not answer: {error}.", next_step="Train and release again."
            ) from error
        if not np.isfinite(answers).all():
            raise IntegrityError("The model's answers are no numbers.", next_step="Train and release again.")
        return Canary(rows, answers, tolerance, origin)

    def _stored_features(self, scorer: Scorer) -> np.ndarray | None:
        """Whole rows of the newest day that has features against the release's baseline, evenly over the machines."""
        table = self._plant.table(self._fleet, "condition_features")
        site = self._plant.site.name
        days = sorted(table.rows_by_day(site), reverse=True)
        if not days or not scorer.reads(self._class):
            return None
        found = table.read(site, days[0], days[0], columns=["equipment_id", "baseline", *scorer.features])
        found = found.filter(pc.equal(found["baseline"], scorer.baseline)).sort_by("equipment_id")
        rows = np.column_stack([found[name].to_numpy() for name in scorer.features]).astype(np.float32)
        rows = rows[np.isfinite(rows).all(axis=1)]
        at = np.linspace(0, len(rows) - 1, min(len(rows), CANARY_ROWS)).astype(int)
        return np.ascontiguousarray(rows[at])

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
            note = LandingNote.read(self._landing_note)  # before the tables are read: they may hold more, not less
            spool, landed = note.spool, note.landed
            landing = plant.landing(self._fleet)
            state = with_landed(self._class, baseline, state, landing, site, window, events)
            checkpoint = {name: getattr(state, name) for name in FeatureState.__slots__}
        told = "" if window is None else window.isoformat()
        left = FleetState(self._fleet, baseline.to_json(), told or None, checkpoint, events, spool, landed)
        write_state(self._state_file, left)
        self._state_of = of
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
    """The copies of all fleets of a gateway."""

    def __init__(self, plant: Plant, folders: Folders, fleets: Mapping[str, object]) -> None:
        self._fleets = {fleet: FleetCopies(plant, folders, fleet) for fleet in fleets}
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
            except (HybridError, OSError) as error:
                if self._troubles.get(name) != str(error):
                    self._troubles[name] = str(error)
                    yield trouble(error, f"releases and state of {name}")


def trouble(error: Exception, what: str) -> Mapping[str, Any]:
    """An error, as the gateway is told."""
    problem = error.problem if isinstance(error, HybridError) else repr(error)
    step = error.next_step if isinstance(error, HybridError) else "It is tried again; report it if it stays."
    return {"error": problem, "next_step": step, "what": what, "kind": type(error).__name__}


def _examples(manifest: Mapping[str, Any]) -> np.ndarray:
    """A healthy machine, both ends of what was learnt from, and the middle of that."""
    low, high = (np.array(manifest["ranges"][side], float) for side in ("low", "high"))
    rows = np.array([np.array(manifest["healthy"], float), low, high, (low + high) / 2])
    return np.nan_to_num(rows).astype(np.float32)


def _check(release: Release, files: Mapping[str, bytes]) -> None:
    """What was read is what was verified, though somebody may write there meanwhile."""
    digests = release.manifest.get("digests", {})
    told = {name: digests.get(name) for name in (MODEL, BASELINE)}
    same = json.loads(files[MANIFEST]) == release.manifest
    if not same or any(_sha256(files[name]) != digest for name, digest in told.items()):
        raise IntegrityError(
            f"{release.name} changed while it was copied, or its manifest does not name its files.",
            next_step="It is copied again; make the release again if this stays.",
        )


def _sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
