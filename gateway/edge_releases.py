"""Releases where they serve: held to their digests, tried on canary rows, taken over from one to the next, and back."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from backbone.breaker import BreakerSettings
from backbone.errors import IntegrityError
from gateway.exchange import EdgeRelease, read_release, release_folder, release_versions, write_whole
from gateway.process_breaker import ProcessBreaker
from maintenance.prognosis import Scorer
from maintenance.tree_model import TreeModel

if TYPE_CHECKING:
    from maintenance.equipment_class import EquipmentClass

_log = logging.getLogger("hybrid.gateway")
_FAILED = "it failed too often here"


@dataclass(frozen=True, slots=True)
class Serving:
    """A release that may be asked."""

    version: int
    baseline: str
    """JSON."""
    scorer: Scorer
    breaker: ProcessBreaker

    @property
    def errs(self) -> bool:
        """Its breaker is open, and not because a busy machine made it slow."""
        state = self.breaker.state
        return state.mode == "open" and state.calls.count("f") > state.calls.count("s")


class EdgeReleases:
    """The newest release of a fleet that proved itself here, and the one before it.

    Args:
        folder: where the porter leaves them.
        now: the wall clock, with a time zone.
        deadline_s: a model that takes more than half of it counts as failing.
    """

    def __init__(self, cls: EquipmentClass, folder: Path, now: Callable[[], datetime], *, deadline_s: float) -> None:
        self._class, self._folder, self._now = cls, folder, now
        self._breaker = BreakerSettings(slow_s=deadline_s / 2, probe_lease_s=max(60.0, deadline_s * 2))
        self._failed = folder / "failed.json"
        self._rejected: dict[int, str] = self._failed_before()
        self.newest: Serving | None = None
        self.before: Serving | None = None

    @property
    def rejected(self) -> dict[int, str]:
        """Version → why it does not serve here."""
        return dict(self._rejected)

    @property
    def ladder(self) -> tuple[Serving, ...]:
        """Whom to ask, in this order."""
        return tuple(serving for serving in (self.newest, self.before) if serving is not None)

    def candidate(self) -> Serving | None:
        """The newest release that came since, loaded and tried; for any thread. None where there is nothing newer.

        One that is not what was copied, does not load, or answers its canary rows otherwise is rejected and told why.
        """
        serving = self.newest.version if self.newest is not None else 0
        for version in release_versions(self._folder):
            if version <= serving:
                return None
            if version in self._rejected:
                continue
            try:
                return self._tried(read_release(release_folder(self._folder, version)))
            except IntegrityError as error:
                self._reject(version, str(error))
        return None

    def older(self, version: int) -> Serving | None:
        """The newest release before a version that proves itself; for any thread. None where there is none."""
        for candidate in release_versions(self._folder):
            if candidate < version and candidate not in self._rejected:
                try:
                    return self._tried(read_release(release_folder(self._folder, candidate)))
                except IntegrityError as error:
                    self._reject(candidate, str(error))
        return None

    def take_over(self, candidate: Serving, older: Serving | None = None) -> None:
        """Let a candidate serve; whoever served, else `older`, stays the one before. To be called where the ladder is
        read."""
        self.newest, self.before = candidate, self.newest or older
        _log.info("release serves", extra={"told": {"class": self._class.name, "version": candidate.version}})

    def go_back(self) -> bool:
        """Let the one before serve where the newest errs, for good; whether it did.

        Not where it has another baseline: features are against the newest one's, and it could answer nothing.
        """
        if self.newest is None or self.before is None or not self.newest.errs or self.before.errs:
            return False
        if self.before.baseline != self.newest.baseline:
            return False
        self._reject(self.newest.version, _FAILED)
        self.newest, self.before = self.before, None
        failed = {str(version): why for version, why in self._rejected.items() if why == _FAILED}
        try:
            write_whole(self._failed, json.dumps(failed).encode())
        except OSError as error:  # a full disk: the next process tries it again, and finds out again
            _log.error("not written", extra={"told": {"file": str(self._failed), "why": str(error)}})
        return True

    def _failed_before(self) -> dict[int, str]:
        """Releases that failed in a process before this one."""
        try:
            return {int(version): str(why) for version, why in json.loads(self._failed.read_bytes()).items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError) as error:
            _log.error("unreadable", extra={"told": {"file": str(self._failed), "why": str(error)}})
            return {}

    def _tried(self, release: EdgeRelease) -> Serving:
        scorer = Scorer(release.model, release.manifest, alone=True)
        if not scorer.reads(self._class):
            raise IntegrityError(
                f"v{release.version} reads other features, or answers another question, than {self._class.name} has.",
                next_step="Train and release again with the contract the plant has.",
            )
        canary = release.canary
        try:
            answers = scorer.predict(np.ascontiguousarray(canary.features, dtype=np.float32))
        except Exception as error:  # whatever the runtime raises of a graph it cannot run
            raise IntegrityError(
                f"v{release.version} fails on its canary rows: {error}.", next_step="Release the model again."
            ) from error
        apart = np.abs(answers - canary.answers)
        if not (apart <= canary.tolerance).all():
            raise IntegrityError(
                f"v{release.version} answers its canary rows otherwise than where it was verified, by {apart.max():g}.",
                next_step="Compare the ONNX Runtime here and there; release the model again.",
            )
        if release.trees:
            try:
                scorer.take_trees(TreeModel.from_bytes(release.trees), canary.features)
            except IntegrityError as error:  # the runtime answers the same, and takes longer
                told = {"class": self._class.name, "version": release.version, "why": str(error)}
                _log.error("trees not taken", extra={"told": told})
        return Serving(release.version, release.baseline, scorer, ProcessBreaker(self._breaker, self._now))

    def _reject(self, version: int, why: str) -> None:
        self._rejected[version] = why
        _log.error("release rejected", extra={"told": {"class": self._class.name, "version": version, "why": why}})
