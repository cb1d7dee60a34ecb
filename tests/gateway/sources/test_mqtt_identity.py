"""Who may connect and publish: TLS, mutual TLS, passwords and access lists of a real mosquitto."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway.mqtt_connection import Broker
from gateway.sender import Sender
from gateway.sources.mqtt import SPEC
from tests.gateway.certificates import Authority
from tests.gateway.held_intake import HeldIntake, context, serving, told, until
from tests.gateway.mosquitto import Mosquitto, needs_mosquitto

pytestmark = needs_mosquitto
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass
class Plant:
    broker: Mosquitto
    authority: Authority
    gateway: dict[str, object]


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """A broker that knows clients by their certificates and lets each write to its own topic only."""
    folder = tmp_path_factory.mktemp("plant")
    authority = Authority(folder / "certificates")
    certificate, key = authority.server()
    revoked, _ = authority.client("revoked")
    access = folder / "access"
    access.write_text(
        "user gateway\ntopic read hybrid/north/+/telemetry\ntopic write hybrid/north/+/ack\n"
        "topic write hybrid/north/+/advisory\ntopic readwrite hybrid/north/status/#\n"
        "pattern write hybrid/north/%u/telemetry\npattern read hybrid/north/%u/ack\n"
    )
    settings = f"""
cafile {authority.certificate}
certfile {certificate}
keyfile {key}
crlfile {authority.revoking(revoked)}
require_certificate true
use_identity_as_username true
acl_file {access}
"""
    certificate, key = authority.client("gateway")
    with Mosquitto(folder / "mosquitto", settings) as broker:
        url = f"mqtts://127.0.0.1:{broker.port}"
        mine = {"url": url, "ca": str(authority.certificate), "certificate": str(certificate), "key": str(key)}
        yield Plant(broker, authority, {**mine, "keepalive_s": 5})


def device(plant: Plant, name: str) -> Broker:
    certificate, key = plant.authority.client(name)
    return Broker(str(plant.gateway["url"]), 5, plant.authority.certificate, certificate, key)


async def trouble(folder: Path, settings: dict[str, Any]) -> str:
    """Why a source cannot connect."""
    source = SPEC.open(context(folder, settings))
    task = asyncio.create_task(source.serve(HeldIntake(), asyncio.Event()))
    await until(lambda: source.health()["trouble"] is not None)
    assert source.health()["connections"] == 0
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return str(source.health()["trouble"])


@pytest.mark.parametrize("version", [5, "3.1.1"])
def test_a_device_with_its_certificate_is_heard_and_answered(plant: Plant, tmp_path: Path, version: object) -> None:
    async def scenario() -> None:
        intake = HeldIntake()
        intake.answer = told
        given = context(tmp_path, {**plant.gateway, "version": version}, gateway=f"gw-{version}")
        async with serving(SPEC, intake, given):
            with Sender(device(plant, "P-1"), "north", "P-1") as sender:
                sender.send(NOW, {"flow": 1.0})
                assert await asyncio.to_thread(sender.drain, 20.0)
        assert [m.source for m in intake.offered] == ["P-1"]

    asyncio.run(scenario())


@pytest.mark.parametrize("case", ["none", "unknown", "expired", "revoked"])
def test_a_client_without_a_good_certificate_is_refused(plant: Plant, tmp_path: Path, case: str) -> None:
    settings = {k: v for k, v in plant.gateway.items() if k not in ("certificate", "key")}
    if case == "unknown":
        certificate, key = Authority(tmp_path / "others", "others").client("gateway")
    elif case == "expired":
        certificate, key = plant.authority.client("late", expired=True)
    else:
        certificate, key = (plant.authority.certificate.with_name(f"revoked.{end}") for end in ("pem", "key"))
    if case != "none":
        settings |= {"certificate": str(certificate), "key": str(key)}
    before = len(plant.broker.log)
    said = asyncio.run(trouble(tmp_path, settings))
    seen = plant.broker.log[before:]
    assert ("peer did not return a certificate" if case == "none" else "certificate verify failed") in seen
    assert "CONNACK" not in seen
    assert "It is tried again" in said


def test_a_broker_that_another_authority_vouches_for_is_not_talked_to(plant: Plant, tmp_path: Path) -> None:
    other = Authority(tmp_path / "others", "others")
    said = asyncio.run(trouble(tmp_path, {**plant.gateway, "ca": str(other.certificate)}))
    assert "certificate verify failed" in said.lower()


def test_a_device_cannot_write_for_another(plant: Plant, tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = HeldIntake()
        intake.answer = told
        async with serving(SPEC, intake, context(tmp_path, dict(plant.gateway), gateway="gw-acl")):
            with (
                Sender(device(plant, "P-2"), "north", "P-3") as forged,
                Sender(device(plant, "P-4"), "north", "P-4") as honest,
            ):
                forged.send(NOW, {"flow": 1.0})
                await until(lambda: "Denied PUBLISH from P-3" in plant.broker.log)
                honest.send(NOW, {"flow": 1.0})
                assert await asyncio.to_thread(honest.drain, 20.0)
                assert forged.unacknowledged == 1
        assert [m.source for m in intake.offered] == ["P-4"]

    asyncio.run(scenario())


def test_a_renewed_password_is_taken_up_without_a_restart(tmp_path: Path) -> None:
    known = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", known, "gateway", "swordfish"], check=True, timeout=10)
    mine = tmp_path / "password"
    mine.write_text("oldpassword\n")
    given = {"username": "gateway", "password_file": "password"}

    async def scenario(broker: Mosquitto) -> None:
        source = SPEC.open(context(tmp_path, {"url": broker.url, **given}))
        ready = asyncio.Event()
        task = asyncio.create_task(source.serve(HeldIntake(), ready))
        await until(lambda: source.health()["trouble"] is not None)
        assert "not authorised" in str(source.health()["trouble"]).lower().replace("z", "s")
        assert "oldpassword" not in str(source.health())
        mine.write_text("swordfish\n")
        await until(ready.is_set)
        assert source.health()["connected"]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with Mosquitto(tmp_path / "mosquitto", f"password_file {known}\n") as broker:
        asyncio.run(scenario(broker))
