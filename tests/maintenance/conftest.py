"""A small made-up class and fleet: quick to learn from, and with everything a real one has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from backbone.contracts import Contract
from backbone.odcs import contract_from_odcs
from maintenance.equipment_class import EquipmentClass, equipment_class_from_contract
from maintenance.readings import MaintenanceHistory, Readings, history_from_arrow, readings_from_arrow

HOUR = 3600
FIRST = np.datetime64("2025-01-01T00:00", "us")


def _property(name: str, unit: str, role: str, component: str | None = None) -> dict[str, Any]:
    custom = [{"property": "unit", "value": unit}, {"property": "role", "value": role}]
    if component:
        custom.append({"property": "component", "value": component})
    return {"name": name, "logicalType": "number", "customProperties": custom}


def fan_contract(**settings: Any) -> Contract:
    """A fan with three sensors and one setting; settings as custom properties."""
    keys = [
        {"name": "equipment_id", "logicalType": "string", "primaryKey": True},
        {"name": "ts", "logicalType": "timestamp", "primaryKey": True},
    ]
    sensors = [
        _property("vibration", "mm/s", "input", "bearing"),
        _property("current", "A", "input", "motor"),
        _property("plate", "1", "input"),
        _property("speed", "rpm", "setting"),
    ]
    return contract_from_odcs(
        {
            "id": "fan",
            "version": "1.0.0",
            "schema": [{"name": "telemetry", "properties": keys + sensors}],
            "customProperties": [{"property": k, "value": v} for k, v in settings.items()],
        }
    )


RUL = {"unit": "hour", "seconds": HOUR, "cap": 30}
FEATURES = {"means": [3, 6], "deviations": [6], "slopes": [4, 12], "averages": [0.2], "levelReadings": 4}
MODELS = {"candidates": ["ridge", "hist_gradient_boosting"], "minimumFailures": 6, "folds": 3}


@pytest.fixture(scope="session")
def fan() -> EquipmentClass:
    rules = {"level": {"watch": 0.6, "plan": 0.9, "act": 1.2}, "trend": {"limit": 2.5}}
    return equipment_class_from_contract(
        fan_contract(remainingUsefulLife=RUL, features=FEATURES, models=MODELS, rules=rules)
    )


@pytest.fixture(scope="session")
def make_fan() -> Callable[..., Contract]:
    return fan_contract


@dataclass(frozen=True)
class Fleet:
    """A fleet's telemetry and maintenance events, as they are stored."""

    telemetry: pa.Table
    events: pa.Table

    @property
    def history(self) -> MaintenanceHistory:
        return history_from_arrow(self.events)

    def readings(self, cls: EquipmentClass) -> Readings:
        return readings_from_arrow(cls, self.telemetry, self.history)


def telemetry_table(equipment: Any, ts: np.ndarray, columns: Mapping[str, np.ndarray]) -> pa.Table:
    stamps = pa.array(ts.astype("datetime64[us]")).cast(pa.timestamp("us", tz="UTC"))
    return pa.table({"equipment_id": pa.array(equipment, pa.string()), "ts": stamps, **columns})


def event_table(events: list[tuple[str, np.datetime64, str]]) -> pa.Table:
    stamps = pa.array(np.array([e[1] for e in events], dtype="datetime64[us]")).cast(pa.timestamp("us", tz="UTC"))
    return pa.table(
        {
            "equipment_id": pa.array([e[0] for e in events], pa.string()),
            "ts": stamps,
            "event": pa.array([e[2] for e in events], pa.string()),
        }
    )


def make_fleet(machines: int = 12, lives: int = 2, seed: int = 0, silent: float = 0.0) -> Fleet:
    """Fans read every hour; vibration (and a little current) rise over the last thirty hours of each life."""
    random = np.random.default_rng(seed)
    names, stamps, columns, events = [], [], [], []
    for machine in range(machines):
        now = FIRST
        for _ in range(lives):
            length = int(random.integers(40, 80))
            left = np.arange(length)[::-1]
            wear = np.clip(1 - left / 30, 0, 1) ** 1.5
            fast = random.random(length) < 0.5
            vibration = 2 + 3 * fast + (4 + 2 * fast) * wear + random.normal(0, 0.3, length)
            current = 10 + 20 * fast + 2 * wear + random.normal(0, 0.5, length)
            speed = np.where(fast, 3000.0, 1500.0) + random.normal(0, 2, length)
            vibration[random.random(length) < silent] = np.nan
            names += [f"fan-{machine:02d}"] * length
            stamps.append(now + np.arange(length) * np.timedelta64(HOUR, "s"))
            columns.append(np.stack([vibration, current, np.full(length, 7.0), speed]))
            events.append((names[-1], stamps[-1][-1], "failure"))
            now = stamps[-1][-1] + np.timedelta64(5 * HOUR, "s")
    values = np.concatenate(columns, axis=1)
    telemetry = telemetry_table(
        names, np.concatenate(stamps), dict(zip(("vibration", "current", "plate", "speed"), values, strict=True))
    )
    return Fleet(telemetry, event_table(events))


@pytest.fixture(scope="session")
def fleet() -> Callable[..., Fleet]:
    return make_fleet


@pytest.fixture(scope="session")
def telemetry() -> Callable[..., pa.Table]:
    return telemetry_table


@pytest.fixture(scope="session")
def maintenance_events() -> Callable[..., pa.Table]:
    return event_table
