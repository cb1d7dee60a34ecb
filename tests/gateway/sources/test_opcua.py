"""Source `opcua` against a real server: what changed together is a reading, and what happens when it cannot be kept."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from asyncua import ua

from backbone.errors import ConfigurationError
from chaos.floor.tcp_proxy import TcpProxy
from gateway import reasons
from gateway.ports import Fate, Intake, Message, Settled
from gateway.sources import opcua
from gateway.sources.opcua import SPEC, OpcuaSource
from tests.gateway.durable_intake import durable_intake, records
from tests.gateway.held_intake import HeldIntake, context, serving, told, until
from tests.gateway.sources.plc import PASSWORD, T0, Plc, certificate

NODES = {"P-1": {"flow": "ns=2;s=P1.Flow", "heat": "ns=2;s=P1.Heat"}, "P-2": {"flow": "ns=2;s=P2.Flow"}}


@pytest.fixture(scope="module")
def plc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plc]:
    plc = Plc(tmp_path_factory.mktemp("plc"))
    yield plc
    plc.stop()


@contextlib.asynccontextmanager
async def subscribed(
    plc: Plc, folder: Path, intake: Intake, *, port: int | None = None, **settings: object
) -> AsyncIterator[OpcuaSource]:
    url = plc.url.replace(str(plc.port), str(port or plc.port))
    given = {"url": url, "nodes": NODES, "publishing_ms": 20.0, "sampling_ms": 0.0, **settings}
    async with serving(SPEC, intake, context(folder, given)) as source:  # type: ignore[arg-type]
        assert isinstance(source, OpcuaSource)
        yield source


def keeping() -> HeldIntake:
    intake = HeldIntake()
    intake.answer = told
    return intake


def readings(intake: HeldIntake) -> list[tuple[str, float, dict[str, Any]]]:
    """Machine, seconds after `T0`, values."""
    read = [(m.equipment, json.loads(m.payload)) for m in intake.offered]
    return [(equipment, r["ts"] / 1e6 - T0.timestamp(), r["values"]) for equipment, r in read]


def test_what_changed_together_is_a_reading_and_the_rest_is_carried(plc: Plc, tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = keeping()
        await plc.reset()
        async with subscribed(plc, tmp_path, intake, carry_s=60.0):
            await intake.has(2)
            await plc.write(1, P1_Flow=1.5, P1_Heat=40.0)
            await plc.write(2, P1_Flow=2.5)
            await plc.write(2, P2_Flow=7.0)
            await plc.write(70, P1_Flow=3.5)
            await intake.has(6)
        assert sorted(readings(intake)[:2]) == [("P-1", -1, {"flow": 0, "heat": 0}), ("P-2", -1, {"flow": 0})]
        assert sorted(readings(intake)[2:]) == [
            ("P-1", 1, {"flow": 1.5, "heat": 40}),
            ("P-1", 2, {"flow": 2.5, "heat": 40}),
            ("P-1", 70, {"flow": 3.5, "heat": None}),
            ("P-2", 2, {"flow": 7}),
        ]
        sent = [json.loads(m.payload) for m in intake.offered]
        assert [s["seq"] for s in sent] == list(range(6))
        assert len({s["session"] for s in sent}) == 1
        assert {m.source for m in intake.offered} == {"opcua:opcua"}

    asyncio.run(scenario())


def test_a_bad_value_is_null_until_a_good_one_comes(plc: Plc, tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = keeping()
        await plc.reset()
        async with subscribed(plc, tmp_path, intake, nodes={"P-1": NODES["P-1"]}) as source:
            await intake.has(1)
            await plc.write(1, ua.StatusCodes.BadSensorFailure, P1_Heat=99.0)
            await plc.write(2, P1_Flow=1.0)
            await plc.write(3, ua.StatusCodes.UncertainLastUsableValue, P1_Heat=41.0)
            await plc.write(4, P1_Flow=math.nan)
            await plc.write(5, P1_Flow=math.inf)
            await intake.has(6)
            assert source.health()["bad_values"] == 1
        assert [values for _, _, values in readings(intake)[1:5]] == [
            {"flow": 0, "heat": None},
            {"flow": 1, "heat": None},
            {"flow": 1, "heat": 41},
            {"flow": None, "heat": 41},
        ]
        assert b'"flow":Infinity' in intake.offered[5].payload

    asyncio.run(scenario())


def test_the_first_values_of_a_subscription_are_one_reading_of_a_machine(plc: Plc, tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = keeping()
        await plc.reset()
        await plc.write(5000, P1_Flow=1.0)
        async with subscribed(plc, tmp_path, intake, carry_s=60.0, nodes={"P-1": NODES["P-1"]}):
            await intake.has(1)
            await plc.write(5030, P1_Flow=2.0)
            await intake.has(2)
        assert readings(intake) == [
            ("P-1", 5000, {"flow": 1, "heat": 0}),
            ("P-1", 5030, {"flow": 2, "heat": 0}),
        ]

    asyncio.run(scenario())


def test_a_change_is_taken_in_again_until_it_is_kept_and_the_server_keeps_what_follows(
    plc: Plc, tmp_path: Path
) -> None:
    full = True

    def answer(message: Message) -> Settled:
        at = json.loads(message.payload)["ts"] / 1e6 - T0.timestamp()
        return told(message, Fate.REFUSED, reasons.SPOOL_FULL, 0.05) if full and at > 0 else told(message)

    async def scenario() -> None:
        nonlocal full
        intake = HeldIntake()
        intake.answer = answer
        await plc.reset()
        only = {"P-2": NODES["P-2"]}
        async with subscribed(plc, tmp_path, intake, nodes=only, queue=10) as source:
            await intake.has(1)
            await plc.write(1, P2_Flow=1.0)
            await until(lambda: source.health()["holding"] == reasons.SPOOL_FULL)
            for n in range(2, 31):
                await plc.write(n, P2_Flow=float(n))
            assert source.health()["queue"] == 10
            published = source.health()["publications"]
            await intake.has(5)
            assert source.health()["publications"] == published == 2
            full = False
            await until(lambda: readings(intake)[-1][1] == 30)
            assert source.health()["holding"] is None
        assert [refusal[:2] for refusal in intake.refusals] == [("opcua:opcua", reasons.SPOOL_FULL)]
        kept = sorted({at for _, at, _ in readings(intake)})
        assert kept[:2] == [-1, 1]
        assert kept[-9:] == list(range(22, 31))
        assert len(kept) < 31

    asyncio.run(scenario())


def test_what_waits_when_the_connection_ends_is_counted_and_the_newest_value_is_told_again(
    plc: Plc, tmp_path: Path
) -> None:
    full = True

    def answer(message: Message) -> Settled:
        return told(message, Fate.REFUSED, reasons.SPOOL_FULL, 30.0) if full else told(message)

    async def scenario() -> None:
        nonlocal full
        intake = HeldIntake()
        intake.answer = answer
        await plc.reset()
        with TcpProxy("127.0.0.1", plc.port) as proxy:
            only = {"P-2": NODES["P-2"]}
            async with subscribed(plc, tmp_path, intake, port=proxy.port, nodes=only) as source:
                await until(lambda: source.health()["holding"] == reasons.SPOOL_FULL)
                proxy.reset()
                await until(lambda: not source.health()["connected"] and source.health()["lost"] == 1)
                full = False
                proxy.passing()
                await intake.has(2)
                assert source.health()["holding"] is None
        assert readings(intake) == [("P-2", -1, {"flow": 0})] * 2

    asyncio.run(scenario())


def test_values_that_the_server_dropped_are_counted_where_it_says_so(plc: Plc, tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = keeping()
        await plc.reset()
        async with subscribed(plc, tmp_path, intake, nodes={"P-2": NODES["P-2"]}) as source:
            await intake.has(1)
            await plc.write(1, 0x480, P2_Flow=1.0)  # this server (asyncua 2.1) drops without a word
            await intake.has(2)
            assert source.health()["overflowed"] == 1
        assert readings(intake)[1] == ("P-2", 1, {"flow": 1})

    asyncio.run(scenario())


def test_the_next_publication_is_asked_for_when_the_one_before_is_settled(plc: Plc, tmp_path: Path) -> None:
    async def scenario() -> None:
        slow, quick = HeldIntake(), keeping()
        await plc.reset()
        only = {"P-2": NODES["P-2"]}
        async with (
            subscribed(plc, tmp_path, slow, nodes=only) as source,
            subscribed(plc, tmp_path, quick, nodes=only),
        ):
            await slow.has(1)
            for n in range(1, 5):
                await plc.write(n, P2_Flow=float(n))
                await quick.has(n + 1)  # the server has published it
            assert len(slow.offered) == source.health()["publications"] == 1
            slow.answer = told
            slow.settle(lambda _: True)
            await slow.has(5)
            assert source.health()["publications"] == 2

    asyncio.run(scenario())


def test_a_change_is_acknowledged_when_the_disk_has_it(plc: Plc, tmp_path: Path) -> None:
    async def scenario() -> None:
        await plc.reset()
        async with durable_intake(tmp_path / "spool") as intake:
            only = {"P-2": NODES["P-2"], "X-9": {"flow": "ns=2;s=P1.Flow"}}
            async with subscribed(plc, tmp_path, intake, nodes=only) as source:
                await until(lambda: source.health()["readings"] == 2)
                for n in range(1, 21):
                    await plc.write(n, P2_Flow=float(n))
                await until(lambda: source.health()["readings"] == 22)
        kept = [(record.reason, json.loads(record.raw)["ts"]) for record in records(tmp_path / "spool")]
        assert sorted(ts / 1e6 - T0.timestamp() for reason, ts in kept if reason is None) == [-1, *range(1, 21)]
        assert [reason for reason, _ in kept if reason] == [reasons.UNREGISTERED_EQUIPMENT]

    asyncio.run(scenario())


def test_after_a_lost_connection_it_begins_anew_with_what_is_new(
    plc: Plc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        intake = keeping()
        await plc.reset()
        with TcpProxy("127.0.0.1", plc.port) as proxy:
            async with subscribed(plc, tmp_path, intake, port=proxy.port) as source:
                await intake.has(2)
                proxy.reset()
                await until(lambda: not source.health()["connected"])
                await plc.write(1, P1_Flow=1.0)
                await plc.write(2, P1_Flow=2.0)
                proxy.passing()
                await intake.has(3)
                await plc.write(3, P2_Flow=3.0)
                await intake.has(4)
                assert source.health()["connections"] == 2
        assert readings(intake)[2:] == [("P-1", 2, {"flow": 2, "heat": 0}), ("P-2", 3, {"flow": 3})]
        sent = [json.loads(m.payload) for m in intake.offered]
        assert [s["seq"] for s in sent] == [0, 1, 0, 1]
        assert sent[0]["session"] != sent[2]["session"]

    asyncio.run(scenario())


def test_a_half_open_connection_is_noticed_by_its_silence(
    plc: Plc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opcua, "_KEEP_ALIVE_S", 0.2)

    async def scenario() -> None:
        intake = keeping()
        await plc.reset()
        with TcpProxy("127.0.0.1", plc.port) as proxy:
            async with subscribed(plc, tmp_path, intake, port=proxy.port) as source:
                await intake.has(2)
                proxy.blackhole()
                await until(lambda: not source.health()["connected"])
                proxy.refuse()
                proxy.passing()
                await plc.write(1, P2_Flow=1.0)
                await intake.has(3)

    asyncio.run(scenario())


def test_a_server_that_is_down_at_the_start_is_waited_for(plc: Plc, tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = keeping()
        await plc.reset()
        with TcpProxy("127.0.0.1", plc.port) as proxy:
            proxy.refuse()
            url = plc.url.replace(str(plc.port), str(proxy.port))
            source = SPEC.open(context(tmp_path, {"url": url, "nodes": NODES, "publishing_ms": 20.0}))
            ready = asyncio.Event()
            task = asyncio.create_task(source.serve(intake, ready))  # type: ignore[arg-type]
            await until(lambda: source.health()["trouble"] is not None)
            assert not source.health()["connected"]
            assert "tried again" in source.health()["trouble"]
            proxy.passing()
            await until(ready.is_set)
            await intake.has(2)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())


def test_a_node_that_is_not_there_is_named_and_the_others_are_watched(plc: Plc, tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = keeping()
        await plc.reset()
        nodes = {"P-2": {**NODES["P-2"], "heat": "ns=2;s=Nowhere"}}
        async with subscribed(plc, tmp_path, intake, nodes=nodes) as source:
            await intake.has(1)
            assert source.health()["nodes_not_there"] == {"ns=2;s=Nowhere": "BadNodeIdUnknown"}
        assert readings(intake) == [("P-2", -1, {"flow": 0, "heat": None})]

    asyncio.run(scenario())


def secured(plc: Plc, **more: object) -> dict[str, object]:
    own, key = plc.trusted
    named = {"certificate": str(own), "key": str(key), "server_certificate": str(plc.certificate)}
    return {"policy": "Basic256Sha256", **named, **more}


def test_over_a_secure_channel_with_a_password(plc: Plc, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")

    async def scenario() -> None:
        intake = keeping()
        await plc.reset()
        given = secured(plc, username="gateway", password_file="password")  # noqa: S106
        async with subscribed(plc, tmp_path, intake, **given) as source:
            await intake.has(2)
            assert PASSWORD not in str(source.health())

    asyncio.run(scenario())


@pytest.mark.parametrize("case", ["unknown certificate", "another server", "wrong password"])
def test_who_is_not_trusted_is_not_talked_to(
    plc: Plc, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opcua, "CONNECT_S", 1.0)
    other, key = certificate(tmp_path, "other")
    given = secured(plc)
    if case == "unknown certificate":
        given |= {"certificate": str(other), "key": str(key)}
    elif case == "another server":
        given |= {"server_certificate": str(other)}
    else:
        (tmp_path / "password").write_text("swordfish\n")
        given |= {"username": "gateway", "password_file": "password"}

    async def scenario() -> None:
        source = SPEC.open(context(tmp_path, {"url": plc.url, "nodes": NODES, **given}))
        task = asyncio.create_task(source.serve(HeldIntake(), asyncio.Event()))  # type: ignore[arg-type]
        await until(lambda: source.health()["trouble"] is not None)
        assert source.health()["connections"] == 0
        assert "swordfish" not in str(source.health())
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"url": "http://plc"}, "opc.tcp"),
        ({"url": "opc.tcp://user:secret@plc"}, "password_file"),
        ({"nodes": {}}, "nodes"),
        ({"nodes": {"P-1": {}}}, "nodes"),
        ({"nodes": {"P-1": {"flow": "somewhere"}}}, "somewhere"),
        ({"queue": 1}, "queue"),
        ({"policy": "Basic256Sha256"}, "certificate"),
        ({"policy": "Basic128Rsa15"}, "policy"),
        ({"password_file": "x"}, "username"),
        ({"username": "u", "password_file": "missing"}, "missing"),
        ({"carry": 1}, "carry_s"),
    ],
)
def test_settings_that_can_never_work_are_refused_at_once(tmp_path: Path, wrong: dict[str, Any], says: str) -> None:
    good = {"url": "opc.tcp://plc", "nodes": NODES}
    SPEC.open(context(tmp_path, good))
    with pytest.raises(ConfigurationError, match=says):
        SPEC.open(context(tmp_path, good | wrong))
