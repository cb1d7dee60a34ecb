"""What crosses to a training target and back: a folder with the rows, the contract and the baseline; a model bundle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from backbone.errors import IntegrityError
from maintenance.baseline import OperatingBaseline
from maintenance.equipment_class import EquipmentClass, equipment_class_from_contract
from maintenance.training_set import TrainingSet, training_set_from_arrow
from resources.catalog.contracts import read_contract

ROWS, CONTRACT, BASELINE = "rows.parquet", "contract.odcs.yaml", "baseline.json"
INCUMBENT_ROWS = "incumbent_rows.parquet"
"""The same rows against the baseline of the release in service, where that is another one."""
MODEL, MANIFEST, CARD = "model.onnx", "manifest.json", "model_card.md"
DRIFT_REFERENCE = "drift_reference.json"
"""What sensors told in the training set, see `quality.drift`; it goes with the model as it came."""


@dataclass(frozen=True, slots=True)
class TrainingFolder:
    """What a conduit brings to a worker: the class's contract, the baseline, labelled rows made under both, and what
    to tell drift by."""

    equipment_class: EquipmentClass
    baseline: OperatingBaseline
    rows: TrainingSet
    drift_reference: str


def read_training_folder(folder: Path) -> TrainingFolder:
    """Read what a conduit brought.

    Raises:
        IntegrityError: a file is missing or cannot be read.
    """
    try:
        cls = equipment_class_from_contract(read_contract(folder / CONTRACT))
        baseline = OperatingBaseline.from_json((folder / BASELINE).read_text(encoding="utf-8"))
        rows = training_set_from_arrow(pq.read_table(folder / ROWS))
        drift_reference = (folder / DRIFT_REFERENCE).read_text(encoding="utf-8")
    except (OSError, pa.ArrowInvalid) as error:
        raise IntegrityError(
            f"The training set in {folder} cannot be read: {error}.", next_step="Materialize training_set again."
        ) from error
    return TrainingFolder(cls, baseline, rows, drift_reference)


def read_incumbent_rows(folder: Path) -> TrainingSet | None:
    """The rows that the release in service can answer for; None: the same as the candidate's."""
    path = folder / INCUMBENT_ROWS
    return training_set_from_arrow(pq.read_table(path)) if path.exists() else None


def write_bundle(
    folder: Path,
    *,
    onnx: bytes,
    baseline: OperatingBaseline,
    card: str,
    manifest: dict[str, Any],
    drift_reference: str,
) -> None:
    """Write a model bundle; its manifest gains the digest of every other file."""
    folder.mkdir(parents=True)
    files = {
        MODEL: onnx,
        BASELINE: baseline.to_json().encode(),
        CARD: card.encode(),
        DRIFT_REFERENCE: drift_reference.encode(),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    digests = {name: f"sha256:{hashlib.sha256(content).hexdigest()}" for name, content in files.items()}
    text = json.dumps(manifest | {"digests": digests}, indent=2, sort_keys=True)
    (folder / MANIFEST).write_text(text, encoding="utf-8")
