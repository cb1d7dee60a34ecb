"""Releases, copied from the premises for the hot process, in a process of its own: `python -m gateway.porter.releases`.

Verifying a signature and asking a model brings in as much memory as all else that a porter does, and a plant has a new
release once a day at most. So whoever finds that there is one starts a process for it, which ends when it is copied.

Canary rows are not part of a release. They are taken from the plant's newest condition features against the release's
baseline, or, where there are none, made of the ranges that the manifest tells; their answers are those of the model
here, where its signature was verified. A copy that answers otherwise elsewhere is not the same, or does not run there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
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
    Folders,
    folders_of,
    read_release,
    release_folder,
    release_versions,
    write_release,
)
from gateway.porter.edge_copies import Copied
from gateway.settings import settings_of
from maintenance.equipment_class import equipment_class_from_contract
from maintenance.onnx_export import PARITY_TOLERANCE
from maintenance.prognosis import Scorer
from maintenance.tree_model import TreeModel
from resources.home import Home
from resources.plant import Catalog, Plant
from resources.registry.releases import Release

KEPT = 2
"""Releases: the newest, and the one to go back to."""
CANARY_ROWS = 32
_RISK_TOLERANCE = 1e-4


def copy_releases(plant: Plant, folders: Folders, fleet: str) -> Copied:
    """Copy the newest releases that verify; those that do not are refused, and what is there stays."""
    copies = _Copies(plant, folders.releases(fleet), fleet)
    kept: list[int] = []
    refused: dict[str, str] = {}
    registry = plant.registry(fleet)
    for version in reversed(registry.versions()):
        try:
            copies.bring(registry.load(version))
            kept.append(version)
        except IntegrityError as error:
            refused[str(version)] = str(error)
        if len(kept) == KEPT:
            break
    there = folders.releases(fleet)
    if kept:
        for version in set(release_versions(there)) - set(kept):
            shutil.rmtree(release_folder(there, version))
    return Copied(kept or release_versions(there), refused)


class _Copies:
    def __init__(self, plant: Plant, folder: Path, fleet: str) -> None:
        self._plant, self._releases, self._fleet = plant, folder, fleet
        self._class = equipment_class_from_contract(plant.contract(fleet))

    def bring(self, release: Release) -> None:
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
            trees=_trees(files[MODEL]),
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


def _trees(model: bytes) -> bytes:
    """A model's trees; nothing where it is no sum of trees, or they are not to be had: it answers without them."""
    try:
        trees = TreeModel.from_onnx(model)
    except Exception as error:  # a graph that nobody thought of must not keep its release away
        print(f"No trees: {error!r}", file=sys.stderr)
        return b""
    return b"" if trees is None else trees.to_bytes()


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


def _end_with_input() -> None:
    """Not by `sys.stdin`: who waits in it holds a lock that a process which ends by itself asks for."""
    while os.read(0, 1):
        pass
    os._exit(1)


def main() -> None:
    """Copy, and say what is there now, as JSON on the last line."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}", description=__doc__)
    for name in ("--site", "--home", "--fleet"):
        parser.add_argument(name, required=True)
    given = parser.parse_args()
    threading.Thread(target=_end_with_input, name="input", daemon=True).start()
    plant = Plant(Catalog(Home(Path(given.home))), given.site)
    try:
        copied = copy_releases(plant, folders_of(plant, settings_of(plant)), given.fleet)
    except HybridError as error:
        raise SystemExit(f"{error.problem} {error.next_step}") from error
    print(json.dumps({"versions": copied.versions, "refused": dict(copied.refused)}), flush=True)


if __name__ == "__main__":
    main()
