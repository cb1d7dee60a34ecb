"""A door `http` over real sockets, and who has a key to it."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from gateway.ports import GatewaySource, Intake
from gateway.signed_requests import KEY_ID, NONCE, SIGNATURE, TIMESTAMP, signature
from gateway.sources.http import JSON, SPEC
from tests.gateway.held_intake import HeldIntake, context, serving, told

SECRET = b"0123456789abcdef0123456789abcdef"
ONE = "/v1/readings/P-1"
MANY = "/v1/readings"
NOW = "2026-01-02T12:00:00Z"


def reading(seq: int, **more: object) -> bytes:
    return json.dumps({"ts": NOW, "seq": seq, "session": "s", "values": {"flow": 1.5}, **more}).encode()


def lines(*readings: bytes) -> bytes:
    return b"".join(each + b"\n" for each in readings)


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    told: Any

    @property
    def fates(self) -> list[tuple[str, str | None]]:
        readings = self.told if isinstance(self.told, list) else self.told["readings"]
        return [(each["fate"], each.get("reason")) for each in readings]


@dataclass
class Client:
    """Who has a key."""

    address: str
    http: aiohttp.ClientSession
    key: str = "line-1"
    secret: bytes = SECRET
    scheme: str = "http"
    ssl: Any = True
    sent: list[dict[str, str]] = field(default_factory=list)

    def signed(self, path: str, body: bytes, *, method: str = "POST", at: float | None = None) -> dict[str, str]:
        timestamp, nonce = str(int(time.time() if at is None else at)), secrets.token_hex(16)
        signed = signature(self.secret, method, path, timestamp, nonce, body)
        return {KEY_ID: self.key, TIMESTAMP: timestamp, NONCE: nonce, SIGNATURE: signed}

    async def post(
        self,
        path: str = ONE,
        body: bytes = b"",
        *,
        kind: str = JSON,
        method: str = "POST",
        at: float | None = None,
        **headers: str,
    ) -> Answer:
        """Sign and send; underscores in names of headers stand for hyphens."""
        given = {"Content-Type": kind, **self.signed(path, body, method=method, at=at)}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        self.sent.append(given)
        return await self.send(path, body, given, method=method)

    async def send(self, path: str, body: Any, headers: Mapping[str, str], *, method: str = "POST") -> Answer:
        url = URL(f"{self.scheme}://{self.address}{path}", encoded=True)  # as it was signed
        async with self.http.request(method, url, data=body, headers=headers, ssl=self.ssl) as response:
            raw = await response.read()
            return Answer(response.status, response.headers, json.loads(raw) if raw else None)


@dataclass
class Door:
    source: GatewaySource
    client: Client

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = str(self.source.health()["address"]).rpartition(":")
        return host, int(port)


@contextlib.asynccontextmanager
async def door(folder: Path, intake: Intake, **settings: object) -> AsyncIterator[Door]:
    (folder / "secret").write_bytes(SECRET + b"\n")
    key = {"id": "line-1", "secret_file": "secret", "equipment": ["P-*"]}
    given = {"listen": "127.0.0.1:0", "keys": [key], **settings}
    async with (
        aiohttp.ClientSession(auto_decompress=False) as http,
        serving(SPEC, intake, context(folder, given)) as source,  # type: ignore[arg-type]
    ):
        yield Door(source, Client(str(source.health()["address"]), http))


def keeping() -> HeldIntake:
    intake = HeldIntake()
    intake.answer = told
    return intake


def refused_because(answer: Answer, intake: HeldIntake, status: int, reason: str) -> None:
    """The sender knows why and what to do, who sent what was counted, and nothing was taken in."""
    assert (answer.status, answer.told["reason"]) == (status, reason)
    assert answer.told["next_step"]
    ((source, counted, raw),) = intake.refusals
    assert (source in ("http:127.0.0.1", "http:line-1"), counted, bool(raw)) == (True, reason, True)
    assert intake.offered == []
