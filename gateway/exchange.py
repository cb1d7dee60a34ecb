"""What the porter leaves for the hot process in the gateway's folder, and how both read it: NumPy and JSON, no more.

<gateway folder>/
    address                      where the page of a gateway that runs is: `host:port`
    broker_port                  of the broker of its own
    sequences                    ids that were kept, see `gateway.sequences`
    letters                      dead letters that were kept, see `gateway.known_letters`
    spool/                       what was kept and has not landed, see `gateway.spool`
    live/<fleet>.npz             where machines stood when the gateway last wrote it down
    landing.json                 how far the spool has landed, see `gateway.porter.landings`
    releases/<fleet>/v<n>/       model.onnx, manifest.json, baseline.json, canary.json, trees.npz of a sum of trees;
                                 digests.json names them all
    state/<fleet>.npz            baseline, newest feature checkpoint against it, maintenance events

A release's folder and a state file appear whole, under their final name, or not at all. The porter verifies a release's
signature before it copies it; whoever reads a copy holds it to `digests.json`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backbone.errors import IntegrityError
from gateway.disk import RealDisk, replace_file

if TYPE_CHECKING:
    from gateway.settings import GatewaySettings
    from resources.plant import Plant

MODEL, MANIFEST, BASELINE, CANARY, TREES, DIGESTS = (
    "model.onnx",
    "manifest.json",
    "baseline.json",
    "canary.json",
    "trees.npz",
    "digests.json",
)
_MOMENT = "datetime64[us]"
_COPIED = 1 << 20


@dataclass(frozen=True, slots=True)
class Folders:
    """The layout below a gateway's folder."""

    root: Path

    @property
    def address(self) -> Path:
        return self.root / "address"

    @property
    def broker_port(self) -> Path:
        return self.root / "broker_port"

    @property
    def sequences(self) -> Path:
        return self.root / "sequences"

    @property
    def letters(self) -> Path:
        return self.root / "letters"

    @property
    def spool(self) -> Path:
        return self.root / "spool"

    @property
    def landing(self) -> Path:
        return self.root / "landing.json"

    @property
    def porter_lock(self) -> Path:
        return self.root / "porter.lock"

    def releases(self, fleet: str) -> Path:
        return self.root / "releases" / fleet

    def state(self, fleet: str) -> Path:
        return self.root / "state" / f"{fleet}.npz"

    def live(self, fleet: str) -> Path:
        return self.root / "live" / f"{fleet}.npz"


def folders_of(plant: Plant, settings: GatewaySettings) -> Folders:
    """Where a site's gateway keeps everything of its own: in the edge's store."""
    return Folders(plant.root("edge") / "gateway" / plant.site.name / settings.name)


@dataclass(frozen=True, slots=True)
class Canary:
    """k rows whose answers are known, to be asked before a release is trusted.

    Attributes:
        features: (k, len(manifest["features"])) float32, in that order, as `Scorer.predict` takes them; may hold NaN.
        answers: (k,) what the model gave where it was verified: remaining life in RUL units, or a risk.
        tolerance: how far an answer may be from that, in the same unit.
        origin: where rows and answers are from: `prognoses` (what the graph answered), `condition_features` (rows of
            this plant, asked by the porter) or `manifest` (made up from the ranges the model knows).
    """

    features: np.ndarray
    answers: np.ndarray
    tolerance: float
    origin: str

    def to_json(self) -> str:
        return json.dumps(
            {
                # JSON has no NaN, and a reader that is strict should not stumble.
                "features": [[None if np.isnan(x) else float(x) for x in row] for row in self.features],
                "answers": [float(x) for x in self.answers],
                "tolerance": self.tolerance,
                "origin": self.origin,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Canary:
        told = json.loads(text)
        rows = [[np.nan if x is None else x for x in row] for row in told["features"]]
        return cls(np.array(rows, np.float32), np.array(told["answers"], float), told["tolerance"], told["origin"])


@dataclass(frozen=True, slots=True)
class EdgeRelease:
    """A release's copy, held to its digests.

    Attributes:
        manifest: as it was signed; `maintenance.prognosis.Scorer(model, manifest)` makes a model of it.
        baseline: JSON, for `OperatingBaseline.from_json`.
        contract: name, version and SHA-256 of the contract the plant had when the porter copied the release.
        trees: of the model, for `TreeModel.from_bytes`; empty where it is no sum of trees, or was copied before there
            were any.
    """

    fleet: str
    version: int
    model: bytes
    manifest: Mapping[str, Any]
    baseline: str
    canary: Canary
    contract: Mapping[str, str]
    trees: bytes = b""


def write_release(folder: Path, release: EdgeRelease, manifest: bytes) -> None:
    """Leave a release as `folder`, all at once; one that is there is replaced.

    Args:
        manifest: the manifest's bytes as they were signed.
    """
    files = {
        MODEL: release.model,
        MANIFEST: manifest,
        BASELINE: release.baseline.encode(),
        CANARY: release.canary.to_json().encode(),
    }
    if release.trees:
        files[TREES] = release.trees
    told = {
        "fleet": release.fleet,
        "version": release.version,
        "contract": dict(release.contract),
        "files": {name: _sha256(content) for name, content in files.items()},
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    staged.mkdir()
    try:
        for name, content in {**files, DIGESTS: json.dumps(told, indent=2).encode()}.items():
            _write(staged / name, content)
        _sync(staged)
        if folder.exists():
            shutil.rmtree(folder)
        staged.rename(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def release_versions(folder: Path) -> list[int]:
    """Versions that are there for a fleet, newest first; `folder` is `Folders.releases(fleet)`."""
    return sorted((int(p.name[1:]) for p in folder.glob("v[0-9]*") if p.name[1:].isdigit()), reverse=True)


def release_folder(releases: Path, version: int) -> Path:
    return releases / f"v{version}"


def read_release(folder: Path) -> EdgeRelease:
    """A release as the porter left it.

    Raises:
        IntegrityError: something is missing, is not what its digest says, or is no release.
    """
    try:
        told = json.loads((folder / DIGESTS).read_bytes())
        names = (MODEL, MANIFEST, BASELINE, CANARY, *((TREES,) if TREES in told["files"] else ()))
        files = {name: (folder / name).read_bytes() for name in names}
        for name, content in files.items():
            if _sha256(content) != told["files"][name]:
                raise IntegrityError(f"{folder / name} is not what was copied.", next_step=_COPY_AGAIN)
        return EdgeRelease(
            fleet=told["fleet"],
            version=told["version"],
            model=files[MODEL],
            manifest=json.loads(files[MANIFEST]),
            baseline=files[BASELINE].decode(),
            canary=Canary.from_json(files[CANARY].decode()),
            contract=told["contract"],
            trees=files.get(TREES, b""),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{folder} holds no release: {error!r}.", next_step=_COPY_AGAIN) from error


_COPY_AGAIN = "Remove the folder; the porter copies the release again."


@dataclass(frozen=True, slots=True)
class MaintenanceEvents:
    """What ended lives, n events by machine and then time: `equipment` (n,) object, `ts` (n,) datetime64[us].

    A reading's life is how many events of its machine came before it, see `maintenance.readings.Rows.life`.
    """

    equipment: np.ndarray
    ts: np.ndarray

    def of(self) -> dict[str, np.ndarray]:
        """Machine → when, rising, microseconds since 1970."""
        names, starts = np.unique(self.equipment.astype(str), return_index=True)
        parts = np.split(self.ts.astype(_MOMENT).view(np.int64), starts[1:]) if len(names) else []
        return {str(name): part for name, part in zip(names, parts, strict=True)}


@dataclass(frozen=True, slots=True)
class FleetState:
    """Where a fleet stands.

    Attributes:
        baseline: JSON, for `OperatingBaseline.from_json`: that of the newest release here, else the plant's newest.
        window: day of the graph's checkpoint that this goes on from (`YYYY-MM-DD`); None: there is none against this
            baseline, and features start over.
        checkpoint: the fields of `maintenance.feature_state.FeatureState` by their names, so that
            `FeatureState(**checkpoint)` is the checkpoint; None with `window`.
        events: maintenance events of all machines, from the first on.
        spool, landed: the checkpoint also holds what this spool had before that position; None and 0 where it holds
            what the graph's did.
        late: readings that are not in the checkpoint since they came after later ones of their machine.
    """

    fleet: str
    baseline: str
    window: str | None
    checkpoint: Mapping[str, Any] | None
    events: MaintenanceEvents
    spool: str | None = None
    landed: int = 0
    late: int = 0


_TOLD = ("fleet", "baseline", "window", "spool", "landed", "late")
_TEXTS = ("baseline", "features")
_MOMENTS = ("started", "latest")
_COLUMNS = ("life", "readings", *_MOMENTS, "tail_age", "tail", "sums")
_MACHINES_AXIS = {"sums": 1}


def write_state(file: Path, state: FleetState) -> None:
    """Leave a fleet's state, all at once."""
    write_state_in_parts(file, [state])


def write_state_in_parts(file: Path, parts: Iterable[FleetState]) -> None:
    """Leave a fleet's state, all at once, that comes some machines after the other, sorted, in one state or more.

    Each is taken as it is written, so that they need not all be in memory. Of what is not about a machine, the last
    one's holds: what was known of maintenance when a machine's part was made is known in it, too.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    with partial.open("wb") as stream:
        with zipfile.ZipFile(stream, "w") as archive:
            count, equipment = 0, list[str]()
            for count, state in enumerate(parts, start=1):
                if state.checkpoint is None:
                    continue
                equipment += list(state.checkpoint["equipment"])
                for name in _COLUMNS:
                    value = state.checkpoint[name]
                    _add(
                        archive, f"{name}.{count}", value.astype(_MOMENT).view(np.int64) if name in _MOMENTS else value
                    )
            told = {name: getattr(state, name) for name in _TOLD} | {"parts": count}
            _add(archive, "told", np.frombuffer(json.dumps(told).encode(), np.uint8))
            _add(archive, "event_equipment", _texts(state.events.equipment))
            _add(archive, "event_ts", state.events.ts.astype(_MOMENT).view(np.int64))
            if state.checkpoint is not None:
                _add(archive, "equipment", _texts(equipment))
                for name in _TEXTS:
                    _add(archive, name, _texts(state.checkpoint[name]))
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)
    _sync(file.parent)


def _add(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    """As `np.savez` does, which copies each array first: of 1,000 machines, ten megabytes."""
    array = np.asarray(array, order="C")
    with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
        np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
        content = array.reshape(-1).view(np.uint8)
        for at in range(0, len(content), _COPIED):
            stream.write(content[at : at + _COPIED].tobytes())


def read_state(file: Path) -> FleetState | None:
    """A fleet's state as the porter left it; None where there is none.

    Raises:
        IntegrityError: the file is damaged.
    """
    try:
        with np.load(file, allow_pickle=False) as held:
            told = json.loads(held["told"].tobytes())
            checkpoint: dict[str, Any] | None = None
            if told["window"] is not None:
                checkpoint = {name: str(held[name]) for name in _TEXTS}
                checkpoint["equipment"] = held["equipment"].astype(object)
                machines = len(checkpoint["equipment"])
                checkpoint |= {name: _joined(held, name, told.get("parts"), machines) for name in _COLUMNS}
                checkpoint |= {name: checkpoint[name].view(_MOMENT) for name in _MOMENTS}
            events = MaintenanceEvents(held["event_equipment"].astype(object), held["event_ts"].view(_MOMENT))
        of = told["fleet"], told["baseline"], told["window"]
        return FleetState(*of, checkpoint, events, told.get("spool"), told.get("landed", 0), told.get("late", 0))
    except FileNotFoundError:
        return None
    except Exception as error:  # of a damaged archive, its reader raises whatever comes to its mind
        raise IntegrityError(
            f"{file} holds no state of a fleet: {error!r}.", next_step="Remove it; the porter writes it again."
        ) from error


def _joined(held: Mapping[str, np.ndarray], name: str, parts: int | None, machines: int) -> np.ndarray:
    """A column of all machines; its parts are not all in memory beside it. None: as it was before there were parts."""
    if parts is None:
        return held[name]
    part, axis, at = held[f"{name}.1"], _MACHINES_AXIS.get(name, 0), 0
    if parts == 1:
        return part
    whole = np.empty((*part.shape[:axis], machines, *part.shape[axis + 1 :]), part.dtype)
    for number in range(1, parts + 1):
        part = held[f"{name}.{number}"]
        np.moveaxis(whole, axis, 0)[at : at + part.shape[axis]] = np.moveaxis(part, axis, 0)
        at += part.shape[axis]
    if at != machines:
        raise ValueError(f"{name} of {at} machines of {machines}")
    return whole


def write_whole(file: Path, content: bytes) -> None:
    """Put a file in place at once: its old content or the new one is there, whenever the power fails."""
    disk = RealDisk()
    disk.make_folder(file.parent)
    replace_file(disk, file, content)


def sync_all(paths: Sequence[Path]) -> None:
    """Have the disk confirm files and folders."""
    for path in paths:
        _sync(path)


def _texts(values: Any) -> np.ndarray:
    # An empty array of objects would be of numbers.
    return np.asarray(values, dtype=np.str_) if isinstance(values, str) or len(values) else np.array([], np.str_)


def _write(file: Path, content: bytes) -> None:
    with file.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(path: Path) -> None:
    with _opened(path) as descriptor:
        os.fsync(descriptor)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
