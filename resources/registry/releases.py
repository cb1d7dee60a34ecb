"""Releases: model folders in the on-premises store, numbered, signed, and never loaded unverified.

<root>/v0007/bundle/   model.onnx, manifest.json, baseline.json, model_card.md, evaluation.json
<root>/v0007/bundle.sig
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backbone.errors import IntegrityError, NotCommissioned
from resources.registry.signing import Signer
from resources.stores.opened import Size, note_read, note_written, noted


@dataclass(frozen=True, slots=True)
class Release:
    """A verified release. `version` only ever grows; `passed_over` names newer ones that did not verify."""

    version: int
    bundle: Path
    manifest: Mapping[str, Any]
    passed_over: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        return f"v{self.version}"


class ReleaseRegistry:
    """The releases of one fleet."""

    def __init__(self, root: Path, signer: Signer) -> None:
        self._root, self._signer = root, signer

    def publish(
        self, arrived: Path, *, additions: Mapping[str, Any], permit: Callable[[Mapping[str, Any]], None] | None = None
    ) -> Release:
        """Number, sign and publish a bundle that a conduit brought in; the folder is moved, all at once.

        Args:
            arrived: bundle folder in the same store.
            additions: what the manifest gains, such as the evaluation and the run that released it.
            permit: is shown the manifest as it will be signed; what it raises keeps it from being published.

        Raises:
            IntegrityError: the bundle's files are not those its manifest lists.
        """
        manifest = _read_manifest(arrived)
        _check_digests(arrived, manifest)
        version = max(self.versions(), default=0) + 1
        manifest |= {"version": version, **additions}
        if permit is not None:
            permit(manifest)
        (arrived / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True), encoding="utf-8")
        staged = self._root / f".{uuid.uuid4().hex}"
        staged.mkdir(parents=True)
        try:
            arrived.replace(staged / "bundle")
            self._signer.sign(staged / "bundle", staged / "bundle.sig")
            for file in staged.rglob("*"):
                if file.is_file():
                    _fsync(file)
            staged.replace(self._folder(version))
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        note_written(self._root, version, {None: _size(self._folder(version))})
        return self.load(version)

    def versions(self) -> list[int]:
        """Every version that was published, oldest first, verified or not."""
        return sorted(int(p.name[1:]) for p in self._root.glob("v[0-9]*") if p.name[1:].isdigit())

    def load(self, version: int) -> Release:
        """A release, verified now.

        Raises:
            IntegrityError: it is missing, unsigned or changed.
        """
        folder = self._folder(version)
        if not (folder / "bundle").is_dir():
            raise IntegrityError(f"{folder} holds no release.", next_step="Make the release again.")
        self._signer.verify(folder / "bundle", folder / "bundle.sig")
        manifest = _read_manifest(folder / "bundle")
        if manifest.get("version") != version:
            raise IntegrityError(
                f"{folder} holds version {manifest.get('version')}, validly signed but in the wrong place.",
                next_step="Put it back where it belongs, or make the release again.",
            )
        note_read(self._root, version, size=_size(folder) if noted() else None)
        return Release(version, folder / "bundle", manifest)

    def current(self) -> Release:
        """The newest release that verifies.

        Raises:
            NotCommissioned: there is no release at all.
            IntegrityError: there are some, and none verifies; says why for each.
        """
        refused: list[str] = []
        for version, found in self.ladder(good=1):
            if isinstance(found, Release):
                return Release(found.version, found.bundle, found.manifest, tuple(refused))
            refused.append(f"v{version}: {found.problem}")
        if refused:
            raise IntegrityError("No release verifies. " + " ".join(refused), next_step="Train and release again.")
        raise NotCommissioned(
            f"There is no release in {self._root}.",
            next_step="It takes failures to learn from; the rules serve until then.",
        )

    def ladder(self, *, good: int = 2) -> list[tuple[int, Release | IntegrityError]]:
        """The newest releases, newest first: each verified, or the error that says why not.

        Args:
            good: how many that verify are enough.
        """
        found: list[tuple[int, Release | IntegrityError]] = []
        for version in reversed(self.versions()):
            try:
                found.append((version, self.load(version)))
                good -= 1
            except IntegrityError as error:
                found.append((version, error))
            if good == 0:
                break
        return found

    def fingerprint(self, newest: int = 3) -> tuple[object, ...]:
        """Changes with the files of the newest releases; looks at no content. For those who wait for another."""
        files = (file for version in self.versions()[-newest:] for file in sorted(self._folder(version).rglob("*")))
        return tuple((str(f), s.st_size, s.st_mtime_ns) for f in files if (s := f.stat()))

    def _folder(self, version: int) -> Path:
        return self._root / f"v{version:04d}"


def _size(folder: Path) -> Size:
    return Size.of(file for file in folder.rglob("*") if file.is_file())


def _read_manifest(bundle: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{bundle} has no readable manifest: {error}.", next_step="Train again.") from error
    if not isinstance(manifest, dict):
        raise IntegrityError(f"{bundle} has no readable manifest.", next_step="Train again.")
    return manifest


def _check_digests(bundle: Path, manifest: Mapping[str, Any]) -> None:
    for name, expected in manifest.get("digests", {"model.onnx": None}).items():
        path = bundle / name
        actual = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}" if path.exists() else None
        if actual != expected:
            raise IntegrityError(
                f"{name} of the trained model is {actual or 'missing'}, its manifest says {expected or 'nothing'}.",
                next_step="Train again; the file changed after training.",
            )


def _fsync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
