"""Training: a model is made and judged where the site places that, and an earned release comes to the premises."""

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from backbone.conduit import Crossing, StorePath
from backbone.document_checks import require_document
from backbone.errors import HybridError, NoFailuresYet, NotCommissioned
from hybrid_assets import pictures
from hybrid_assets.features import newest_baseline, plant_readings, released_baseline
from hybrid_assets.fleet import Fleet
from hybrid_assets.metadata import figures, picture, preview
from hybrid_assets.release_drift import training_reference
from hybrid_assets.workers.training_files import BASELINE, CONTRACT, DRIFT_REFERENCE, INCUMBENT_ROWS, ROWS
from maintenance.baseline import OperatingBaseline
from maintenance.condition_features import compute_features
from maintenance.equipment_class import EquipmentClass
from maintenance.evaluation import split
from maintenance.question import question_of, question_spec
from maintenance.reliability import CALIBRATION, INTERVAL_COVERAGE
from maintenance.training_set import training_set as labelled_rows
from maintenance.training_set import training_set_from_arrow
from quality.drift import DriftReference
from resources.bindings.placed_work import Parcel, placed_metadata, run_placed
from resources.bindings.plants import Plants, failures
from resources.plant import Plant
from resources.stores.opened import note_read
from resources.stores.tables import DATE, storage_errors

SEED = 20250101


def label_training_set(context: dg.AssetExecutionContext, plants: Plants, fleet: Fleet) -> dg.MaterializeResult:
    """Label the features of everything known, and pack them for whoever trains."""
    cls = fleet.equipment_class
    with failures():
        plant = plants.plant(context.partition_key)
        baseline = newest_baseline(plant, fleet.name)
        readings, history = plant_readings(plant, cls)
        features, _ = compute_features(cls, baseline, readings)
        labelled = labelled_rows(cls, features, history)
        rows = labelled.to_arrow()
        dated = rows.append_column(DATE, rows["ts"].cast(pa.date32(), safe=False))
        table = plant.table(fleet.name, "training_set")
        version = table.replace_site(plant.site.name, dated, run_id=context.run.run_id)
        files = {ROWS: rows}
        reference = training_reference(fleet, plant.site.name, dated, features)
        before = released_baseline(plant, fleet.name)
        if before is not None and before.id != baseline.id:
            features, _ = compute_features(cls, before, readings)
            files[INCUMBENT_ROWS] = labelled_rows(cls, features, history).to_arrow()
        _pack(plant, fleet.name, baseline, files, reference)
    return dg.MaterializeResult(
        metadata={
            "rows": rows.num_rows,
            "failed_lives": question_of(cls).cases(labelled),
            "machines": len(labelled.rows.machines),
            "features": len(labelled.names),
            "baseline": baseline.id,
            "table_version": version,
            "preview": preview(rows, columns=["equipment_id", "ts", "life", "rul", *labelled.names[:4]], last=True),
        }
    )


def train(context: dg.AssetExecutionContext, plants: Plants, fleet: Fleet) -> Iterator[dg.MaterializeResult]:
    """Train where the site places that; nothing is made where too few machines have failed."""
    with failures():
        plant = plants.plant(context.partition_key)
        try:
            _require_failures(plant, fleet.equipment_class)
        except NoFailuresYet as reason:
            # Asked before the work is sent: once a Pipes session was open, Dagster wants an output.
            _say_skipped(context, fleet, "trained_model", str(reason))
            return
        placed = run_placed(
            context,
            plant,
            fleet.name,
            "training",
            ["{python}", "-m", "hybrid_assets.workers.train"],
            parcels={"training_set": _training_set_parcel(plant, fleet.name)},
            extras={"seed": SEED},
        )
        record = placed.record
        bundle = f"{placed.folder.path}/{record['bundle']}"
        kept = {**record, "location": placed.location, "bundle": bundle}
        require_document(fleet.contracts["trained_model"], kept)
        plant.candidates(fleet.name).put(context.run.run_id, json.dumps(kept))
    manifest = record["manifest"]
    yield dg.MaterializeResult(
        metadata={
            **placed_metadata(placed, plant.site.currency),
            **crossings_metadata(placed.crossings),
            **figures(manifest["metrics"]),
            "chosen": " + ".join(manifest["model"]),
            "candidates": dg.MetadataValue.json(manifest["candidates"]),
            "train_seconds": record["train_seconds"],
            **_pictures(fleet.equipment_class, record, "Out of fold"),
            "model_card": dg.MetadataValue.md(record["card"]),
        }
    )


def evaluate(context: dg.AssetExecutionContext, plants: Plants, fleet: Fleet) -> dg.MaterializeResult:
    """Judge the newest model where the site places that."""
    with failures():
        plant = plants.plant(context.partition_key)
        candidate = _candidate(plant, fleet.name)
        parcels = {
            "training_set": _training_set_parcel(plant, fleet.name),
            "candidate": Parcel(f"{fleet.name}/trained_model", StorePath(candidate["location"], candidate["bundle"])),
        }
        incumbent = _incumbent(plant, fleet.name)
        if incumbent is not None:
            parcels["incumbent"] = Parcel(f"{fleet.name}/incumbent", incumbent)
        placed = run_placed(
            context,
            plant,
            fleet.name,
            "evaluation",
            ["{python}", "-m", "hybrid_assets.workers.evaluate"],
            parcels=parcels,
            extras={},
        )
        record = placed.record
        require_document(fleet.contracts["model_evaluation"], record)
        plant.evaluations(fleet.name).put(candidate["run_id"], json.dumps(record))
    return dg.MaterializeResult(
        metadata={
            **placed_metadata(placed, plant.site.currency),
            **crossings_metadata(placed.crossings),
            "earned": dg.MetadataValue.bool(record["passed"]),
            "why": "; ".join(record["reasons"]) or "better than the rules and than the release before",
            **figures(record["metrics"]),
            **_pictures(fleet.equipment_class, record, "Held-out machines"),
        }
    )


def release_model(context: dg.AssetExecutionContext, plants: Plants, fleet: Fleet) -> Iterator[dg.MaterializeResult]:
    """Bring a model that earned it to the premises, and sign it."""
    with failures():
        plant = plants.plant(context.partition_key)
        candidate = _candidate(plant, fleet.name)
        evaluation = json.loads(plant.evaluations(fleet.name).get(candidate["run_id"]))
    if not evaluation["passed"]:
        _say_skipped(context, fleet, "model_release", "; ".join(evaluation["reasons"]))
        return
    with failures():
        premises = plant.site.at("on_prem").name
        arrival = f"{fleet.name}/arrivals/{plant.site.name}/{context.run.run_id}"
        crossing = plant.conduit.carry(
            f"{fleet.name}/model_release",
            StorePath(candidate["location"], candidate["bundle"]),
            StorePath(premises, arrival),
            run_id=context.run.run_id,
        )
        release = plant.registry(fleet.name).publish(
            plant.root("on_prem") / arrival,
            additions={
                "training_run": candidate["run_id"],
                "release_run": context.run.run_id,
                "evaluation": evaluation["metrics"],
            },
            permit=partial(require_document, fleet.contracts["model_release"]),
        )
    yield dg.MaterializeResult(
        metadata={
            "version": release.version,
            "model": " + ".join(release.manifest["model"]),
            "baseline": release.manifest["baseline"],
            **figures(evaluation["metrics"]),
            **_pictures(fleet.equipment_class, evaluation, f"{release.name}, held-out machines"),
            **crossings_metadata([crossing]),
            "manifest": dg.MetadataValue.json(dict(release.manifest)),
        }
    )


def _pictures(cls: EquipmentClass, record: Mapping[str, Any], title: str) -> dict[str, dg.MarkdownMetadataValue]:
    """What a model said of readings against how long their machines went on, and whether it was as sure as it said."""
    left, told = np.array(record["points"]["true"]), np.array(record["points"]["predicted"])
    risk, unit = question_spec(cls).risk, cls.rul.unit
    if risk is None:
        answers = pictures.predicted_against_true(left, told, unit=unit, title=title)
    else:
        answers = pictures.risk_against_life(left, told, unit=unit, what=risk.replace("_", " "), title=title)
    drawn = {"predicted_against_true": picture(answers)}
    reliability = record.get("reliability")  # records of before it was told have none
    if reliability is not None and reliability["bands"]:
        drawn[reliability["kind"]] = picture(_reliability(cls, reliability, title))
    return drawn


def _reliability(cls: EquipmentClass, record: Mapping[str, Any], title: str) -> bytes:
    """`maintenance.reliability.Reliability`, as a record holds it."""
    bands = record["bands"]
    told, share = (np.array([band[name] for band in bands], float) for name in ("told", "share"))
    risk = (question_spec(cls).risk or "").replace("_", " ")
    if record["kind"] == INTERVAL_COVERAGE:
        width = np.array([band["width"] for band in bands], float)
        return pictures.interval_coverage(
            told, share, width, promised=record["promised"], unit=cls.rul.unit, title=title
        )
    if record["kind"] == CALIBRATION:
        return pictures.calibration(told, share, [band["rows"] for band in bands], what=risk, title=title)
    return pictures.false_alarms(told, share, promised=record["promised"], what=risk, title=title)


def crossings_metadata(crossings: Sequence[Crossing]) -> dict[str, Any]:
    """What the UI shows of what went through the conduit for an asset."""
    if not crossings:
        return {}
    lines = [f"- {c.what}: {c.source.location} → {c.destination.location}, `{c.digest}`" for c in crossings]
    return {
        "conduit": dg.MetadataValue.md("\n".join(lines)),
        "conduit_bytes": sum(c.size_bytes for c in crossings),
    }


def _require_failures(plant: Plant, cls: EquipmentClass) -> None:
    """Raises `NoFailuresYet` where the stored training set, less what is held out, is not enough to learn from."""
    table = plant.table(cls.name, "training_set")
    labels = training_set_from_arrow(table.read(plant.site.name, columns=["equipment_id", "ts", "life", "rul"]))
    question_of(cls).require_enough(split(cls, labels)[0])


def _candidate(plant: Plant, equipment_class: str) -> dict[str, Any]:
    """What the newest training reported, its run among it."""
    documents = plant.candidates(equipment_class)
    name = documents.current()
    if name is None:
        raise NotCommissioned(
            f"{plant.site.name} has no trained model.", next_step=f"Materialize {equipment_class}/trained_model."
        )
    return {**json.loads(documents.get(name)), "run_id": name}


def _training_set_parcel(plant: Plant, equipment_class: str) -> Parcel:
    table = plant.table(equipment_class, "training_set")
    if (version := table.version) is not None:
        note_read(table.path, version)  # the folder holds what the table does
    folder = f"{equipment_class}/training_folder/{plant.site.name}"
    return Parcel(f"{equipment_class}/training_set", StorePath(plant.site.at("on_prem").name, folder))


def _pack(
    plant: Plant,
    equipment_class: str,
    baseline: OperatingBaseline,
    files: Mapping[str, pa.Table],
    reference: DriftReference,
) -> None:
    """Put the training set in a folder with the contract and the baseline it was made under, and what to tell drift
    from it by, all at once."""
    folder = plant.root("on_prem") / _training_set_parcel(plant, equipment_class).at.path
    packed = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    packed.mkdir(parents=True)
    try:
        with storage_errors(packed):
            for name, rows in files.items():
                pq.write_table(rows, packed / name)
            (packed / BASELINE).write_text(baseline.to_json(), encoding="utf-8")
            (packed / DRIFT_REFERENCE).write_text(json.dumps(reference.to_json()), encoding="utf-8")
            shutil.copyfile(plant.catalog.contract_file(equipment_class), packed / CONTRACT)
        shutil.rmtree(folder, ignore_errors=True)
        packed.replace(folder)
    finally:
        shutil.rmtree(packed, ignore_errors=True)


def _incumbent(plant: Plant, equipment_class: str) -> StorePath | None:
    """Where the release in service lies, to be judged beside the candidate; None if there is none."""
    try:
        release = plant.registry(equipment_class).current()
    except HybridError:
        return None  # none was made, or none verifies: nothing to be better than
    premises = plant.site.at("on_prem").name
    return StorePath(premises, _relative(release.bundle, plant.store(premises)))


def _relative(path: Path, root: Path) -> str:
    return path.resolve().relative_to(root.resolve()).as_posix()


def _say_skipped(context: dg.AssetExecutionContext, fleet: Fleet, asset: str, reason: str) -> None:
    """No model, or none better, is an outcome, not a failure: the run stays green and the asset says why."""
    context.log.warning(f"{asset} was not made: {reason}")
    metadata: Mapping[str, str] = {"not_made_because": reason}
    context.log_event(dg.AssetObservation(fleet.key(asset), partition=context.partition_key, metadata=metadata))
