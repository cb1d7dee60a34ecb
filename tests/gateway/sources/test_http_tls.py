"""Source `http` with certificates of senders: who is let in, who is not and learns why, and what changes meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from backbone.errors import ConfigurationError
from gateway import reasons
from gateway.sources.http import SPEC
from tests.gateway.certificates import Authority
from tests.gateway.held_intake import HeldIntake, context, until
from tests.gateway.sources.http_client import SECRET, Door, door, keeping, reading

_SEEN = {
    "none": "",
    "unknown": "unknown ca",
    "expired": "certificate expired",
    "revoked": "certificate revoked",
    "forged": "decrypt error",
    "of a server": "unsupported certificate",
    "not to be checked": "",
}
_REASONS = {
    "none": reasons.NO_CERTIFICATE,
    "expired": reasons.EXPIRED_CERTIFICATE,
    "revoked": reasons.REVOKED_CERTIFICATE,
    "not to be checked": reasons.UNCHECKED_CERTIFICATE,
}


@dataclass
class Plant:
    folder: Path
    authority: Authority
    settings: dict[str, Any]

    def client(self, certificate: tuple[Path, Path] | None, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """What somebody connects with."""
        tls = ssl.create_default_context(cafile=str(self.authority.certificate))
        if version is not None:
            tls.maximum_version = version
        if certificate is not None:
            tls.load_cert_chain(*certificate)
        return tls


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """A door that asks for certificates of one authority, of which nobody's is revoked."""
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.server()
    files = {"certificate": certificate, "key": key, "client_ca": authority.certificate}
    settings = {name: str(path) for name, path in files.items()} | {"revoked": str(authority.revoking())}
    return Plant(tmp_path, authority, settings)


@contextlib.asynccontextmanager
async def opened(plant: Plant, intake: HeldIntake, name: str = "line-1", **more: object) -> AsyncIterator[Door]:
    """The door, and who comes with a certificate of this name."""
    async with door(plant.folder, intake, **plant.settings, **more) as at:
        at.client.scheme, at.client.ssl = "https", plant.client(plant.authority.client(name))
        yield at


def fingerprint(path: Path) -> bytes:
    return x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)


def test_who_comes_with_the_certificate_of_a_key_is_let_in(plant: Plant) -> None:
    async def scenario() -> None:
        intake = keeping()
        async with opened(plant, intake) as at:
            assert (await at.client.post(body=reading(1))).status == 200
            assert at.source.health()["trouble"] is None
        assert intake.seqs == [1]
        assert intake.refusals == []

    asyncio.run(scenario())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("case", list(_SEEN))
def test_who_has_no_good_certificate_learns_why_and_is_counted_with_what_was_shown(
    plant: Plant, case: str, version: ssl.TLSVersion
) -> None:
    shown: tuple[Path, Path] | None
    match case:
        case "none":
            shown = None
        case "unknown":
            shown = Authority(plant.folder / "others", "others").client("device")
        case "forged":  # by an authority by the same name
            shown = Authority(plant.folder / "others", "plant").client("device")
        case "of a server":
            shown = plant.authority.server("device")
        case "not to be checked":
            shown = plant.authority.client("device")
            plant.authority.revoking(stale=True)
        case _:
            shown = plant.authority.client("device", expired=case == "expired")
    if case == "revoked":
        assert shown is not None
        plant.authority.revoking(shown[0])

    def connect(port: int) -> str:
        tls = plant.client(shown, version)
        try:
            with (
                socket.create_connection(("127.0.0.1", port), 10) as line,
                tls.wrap_socket(line, server_hostname="127.0.0.1") as secured,
            ):
                secured.sendall(b"POST /v1/readings/P-1 HTTP/1.1\r\n")  # before the alert can have come
                return f"heard {secured.recv(100)!r}"
        except ssl.SSLError as error:
            return str(error)

    async def scenario() -> None:
        intake = keeping()
        async with opened(plant, intake, "line-1") as at:
            said = await asyncio.to_thread(connect, at.address[1])
            assert "alert" in said.lower()
            assert _SEEN[case] in said.lower().replace("_", " ")
            reason = _REASONS.get(case, reasons.UNKNOWN_CERTIFICATE)
            await until(lambda: bool(intake.refusals), lambda: f"nothing was counted; the sender heard {said}")
            ((source, why, raw),) = intake.refusals
            assert (source, why) == ("http:127.0.0.1", reason)
            assert raw == fingerprint(shown[0]) if shown is not None else raw
            assert at.source.health()["refused"] == 1
            if case != "not to be checked":
                assert (await at.client.post(body=reading(1))).status == 200

    asyncio.run(scenario())


@pytest.mark.parametrize(("name", "key"), [("line-2", {}), ("line-1", {"certificate": "robot-7"})])
def test_a_key_is_not_taken_from_another_than_whom_it_belongs_to(plant: Plant, name: str, key: dict[str, str]) -> None:
    table = {"id": "line-1", "secret_file": "secret", "equipment": ["P-*"], **key}

    async def scenario() -> None:
        intake = keeping()
        async with opened(plant, intake, name, keys=[table]) as at:
            answer = await at.client.post(body=reading(1))
            assert (answer.status, answer.told["reason"]) == (403, reasons.IDENTITY_MISMATCH)
            assert [refusal[:2] for refusal in intake.refusals] == [(f"http:{name}", reasons.IDENTITY_MISMATCH)]
            if key:
                at.client.ssl = plant.client(plant.authority.client(key["certificate"]))
                assert (await at.client.post(body=reading(1))).status == 200

    asyncio.run(scenario())


def test_a_certificate_and_its_key_speak_for_their_machines_only(plant: Plant) -> None:
    async def scenario() -> None:
        intake = keeping()
        async with opened(plant, intake) as at:
            answer = await at.client.post("/v1/readings/V-1", reading(1))
        assert (answer.status, answer.told["reason"]) == (403, reasons.IDENTITY_MISMATCH)
        assert intake.refusals == [("http:line-1", reasons.IDENTITY_MISMATCH, reading(1))]

    asyncio.run(scenario())


def test_a_certificate_that_is_revoked_meanwhile_is_so_at_the_next_request(plant: Plant) -> None:
    async def scenario() -> None:
        intake = keeping()
        async with opened(plant, intake) as at:
            mine = plant.authority.client("line-1")
            at.client.ssl = plant.client(mine)
            assert (await at.client.post(body=reading(1))).status == 200
            plant.authority.revoking(mine[0])
            first = await at.client.post(body=reading(2))  # on the connection that is open
            assert (first.status, first.headers["Retry-After"]) == (503, "1")
            with pytest.raises(aiohttp.ClientError):
                await at.client.post(body=reading(2))
            await until(lambda: len(intake.refusals) == 2)
            at.client.ssl = plant.client(plant.authority.client("line-1"))  # a new one of the same name
            assert (await at.client.post(body=reading(2))).status == 200
        assert [refusal[1] for refusal in intake.refusals] == [reasons.BUSY, reasons.REVOKED_CERTIFICATE]
        assert intake.seqs == [1, 2]

    asyncio.run(scenario())


def test_a_certificate_that_expires_meanwhile_is_refused(plant: Plant) -> None:
    async def scenario() -> None:
        intake = keeping()
        async with opened(plant, intake) as at:
            assert (await at.client.post(body=reading(1))).status == 200
            now_us = at.source._now_us  # type: ignore[attr-defined]
            at.source._now_us = lambda: now_us() + 2 * 86_400_000_000  # type: ignore[attr-defined]
            answer = await at.client.post(body=reading(2))
            assert (answer.status, answer.told["reason"]) == (403, reasons.EXPIRED_CERTIFICATE)
        assert [refusal[:2] for refusal in intake.refusals] == [("http:line-1", reasons.EXPIRED_CERTIFICATE)]

    asyncio.run(scenario())


@pytest.mark.parametrize("mine", [True, False])
def test_a_list_that_is_out_of_date_meanwhile_lets_nobody_of_its_authority_go_on(plant: Plant, mine: bool) -> None:
    lists = [plant.authority, Authority(plant.folder / "others", "others")]
    until = [timedelta(hours=1), timedelta(hours=12)]
    made = [each.revoking(lasts=lasts) for each, lasts in zip(lists, until if mine else until[::-1], strict=True)]
    Path(plant.settings["revoked"]).write_bytes(b"".join(path.read_bytes() for path in made))

    async def scenario() -> None:
        intake = keeping()
        async with opened(plant, intake) as at:
            assert (await at.client.post(body=reading(1))).status == 200
            now_us = at.source._now_us  # type: ignore[attr-defined]
            at.source._now_us = lambda: now_us() + 2 * 3_600_000_000  # type: ignore[attr-defined]
            later = await at.client.post(body=reading(2), at=now_us() / 1e6 + 2 * 3600)
            assert later.status == (503 if mine else 200)
        refused = [("http:line-1", reasons.UNCHECKED_CERTIFICATE)] if mine else []
        assert [refusal[:2] for refusal in intake.refusals] == refused

    asyncio.run(scenario())


def test_a_list_that_cannot_be_read_leaves_the_last_one_in_force_and_is_told(plant: Plant) -> None:
    async def scenario() -> None:
        intake = keeping()
        async with opened(plant, intake) as at:
            known, revoked = plant.authority.client("known"), plant.authority.client("line-1")
            before = plant.authority.revoking(known[0]).read_bytes()
            Path(plant.settings["revoked"]).write_bytes(b"half a list")
            at.client.ssl = plant.client(revoked)
            assert (await at.client.post(body=reading(1))).status == 200
            assert at.source.health()["trouble"]
            Path(plant.settings["revoked"]).write_bytes(before)
            assert (await at.client.post(body=reading(2))).status == 503
            assert at.source.health()["trouble"] is None
            at.client.ssl = plant.client(known)
            with pytest.raises(aiohttp.ClientError):
                await at.client.post(body=reading(2))

    asyncio.run(scenario())


def test_who_is_silent_or_slow_in_a_handshake_holds_nobody_up(plant: Plant) -> None:
    async def scenario() -> None:
        intake = keeping()
        async with opened(plant, intake, request_s=1.0) as at:
            silent = await asyncio.open_connection(*at.address)
            slow = await asyncio.open_connection(*at.address)
            slow[1].write(b"\x16\x03\x01\x02\x00\x01")  # a record that never ends
            plain = await asyncio.open_connection(*at.address)
            plain[1].write(b"POST /v1/readings HTTP/1.1\r\n\r\n")
            assert (await at.client.post(body=reading(1))).status == 200
            for reader, writer in (silent, slow, plain):
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
                writer.close()
            await until(lambda: at.source.health()["connections"] <= 1)
        assert [refusal[1] for refusal in intake.refusals] == [
            reasons.MALFORMED_REQUEST,
            reasons.TOO_SLOW,
        ]

    asyncio.run(scenario())


def test_those_who_are_not_let_in_yet_count_among_the_connections_there_may_be(plant: Plant) -> None:
    async def scenario() -> None:
        intake = keeping()
        async with opened(plant, intake, max_connections=3) as at:
            waiting = [await asyncio.open_connection(*at.address) for _ in range(3)]
            with pytest.raises((aiohttp.ClientError, ConnectionError)):
                await at.client.post(body=reading(1))
            assert [refusal[:2] for refusal in intake.refusals] == [("http:127.0.0.1", reasons.BUSY)]
            for _, writer in waiting:
                writer.close()
                await writer.wait_closed()
            await until(lambda: not at.source._shaking)  # type: ignore[attr-defined]
            assert (await at.client.post(body=reading(1))).status == 200

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"certificate": None, "key": None}, "certificate"), ({"client_ca": None}, "client_ca"), ({"revoked": "x"}, "x")],
)
def test_settings_that_can_never_work_are_refused_at_once(plant: Plant, wrong: dict[str, Any], says: str) -> None:
    (plant.folder / "secret").write_bytes(SECRET)
    keys = [{"id": "a", "secret_file": "secret", "equipment": ["P-*"]}]
    given = {"listen": "127.0.0.1:0", "keys": keys, **plant.settings}
    SPEC.open(context(plant.folder, given))
    with pytest.raises(ConfigurationError, match=says):
        SPEC.open(context(plant.folder, {name: value for name, value in (given | wrong).items() if value is not None}))
