"""Readings as ugly as plants send them, once duplicates are out: what features must be the same over, however cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backbone.odcs import contract_from_odcs
from maintenance.equipment_class import EquipmentClass, equipment_class_from_contract
from maintenance.readings import Readings, Rows

SECOND = np.timedelta64(1_000_000, "us")
FIRST = np.datetime64("2025-01-01T00:00", "us")


def class_of(inputs: int, settings: int = 0, **features: object) -> EquipmentClass:
    """A class with so many sensors and settings."""

    def column(name: str, role: str) -> dict[str, object]:
        custom = [{"property": "unit", "value": "1"}, {"property": "role", "value": role}]
        return {"name": name, "logicalType": "number", "customProperties": custom}

    names = [*((f"s{j}", "input") for j in range(inputs)), *((f"set{j}", "setting") for j in range(settings))]
    keys = [
        {"name": "equipment_id", "logicalType": "string", "primaryKey": True},
        {"name": "ts", "logicalType": "timestamp", "primaryKey": True},
    ]
    custom = [
        {"property": "remainingUsefulLife", "value": {"unit": "hour", "seconds": 3600, "cap": 100}},
        {"property": "features", "value": features},
    ]
    schema = [{"name": "telemetry", "properties": keys + [column(*n) for n in names]}]
    return equipment_class_from_contract(
        contract_from_odcs({"id": "thing", "version": "1.0.0", "schema": schema, "customProperties": custom})
    )


@dataclass(frozen=True)
class Ugliness:
    """Shares of: single values missing, sensors silent from some moment on, sensors stuck, infinite values."""

    missing: float = 0.0
    fallen_silent: float = 0.0
    stuck: float = 0.0
    infinite: float = 0.0


def ugly_readings(
    cls: EquipmentClass, seed: int, how: Ugliness, *, machines: int = 3, lives: int = 3, longest: int = 60
) -> Readings:
    """Irregular times, from a second to a month apart; lives of one reading to `longest`; outliers; several regimes."""
    random = np.random.default_rng(seed)
    columns = cls.contract.inputs + cls.contract.with_role("setting")
    machine, ts, life, values = [], [], [], []
    for number in range(machines):
        now = FIRST + int(random.integers(0, 86_400)) * SECOND
        for index in range(lives):
            length = int(random.integers(1, longest + 1))
            apart = np.exp(random.uniform(0, np.log(30 * 86_400), length) * (random.random(length) < 0.1)).astype(int)
            stamps = now + np.cumsum(np.maximum(apart, 1) * int(random.choice([1, 60, 3600]))) * SECOND
            part = random.normal(random.normal(0, 3), 1, (length, len(columns)))
            part[random.random(part.shape) < 0.01] *= 1e4
            for j in range(len(cls.contract.inputs)):
                since = int(random.integers(length))
                if random.random() < how.stuck:
                    part[since:, j] = part[since, j]
                if random.random() < how.fallen_silent:
                    part[since:, j] = np.nan
            part[random.random(part.shape) < how.missing] = np.nan
            part[random.random(part.shape) < how.infinite] = random.choice([np.inf, -np.inf])
            for j in range(len(cls.contract.inputs), len(columns)):
                part[:, j] = np.where(np.isfinite(part[:, j]), np.round(part[:, j]) * 10, part[:, j])
            machine.append(np.full(length, number))
            ts.append(stamps)
            life.append(np.full(length, index))
            values.append(part)
            now = stamps[-1] + 3600 * SECOND
    names = np.array([f"m{n}" for n in range(machines)], dtype=object)
    rows = Rows(names, np.concatenate(machine), np.concatenate(ts), np.concatenate(life))
    return Readings(rows, columns, np.concatenate(values))
