"""The page of a gateway: what it tells whom, and that nobody who asks wrongly or slowly is in its way."""

import asyncio
import json
import math
import socket
import urllib.request
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
import uvloop

from backbone.errors import ConfigurationError
from gateway.health_page import HealthPage

T = TypeVar("T")
STATUS = {"site": "north", "unit": "°C", "ratio": math.nan, "codes": {135: 1}}


def fails() -> bytes:
    raise RuntimeError("nothing to tell")


def with_page(
    what: Callable[[str], Awaitable[T]],
    *,
    listen: str = "127.0.0.1:0",
    metrics: Callable[[], bytes] = lambda: b"up 1\n" * 100_000,
    patience_s: float = 10.0,
) -> T:
    """What comes of it while a page is served at the address that it is given."""

    async def run() -> T:
        page, ready = HealthPage(listen, lambda: STATUS, metrics, patience_s=patience_s), asyncio.Event()
        serving = asyncio.create_task(page.serve(ready))
        async with asyncio.timeout(20):
            waiting = asyncio.create_task(ready.wait())
            await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                await serving
            try:
                return await what(page.address)
            finally:
                serving.cancel()

    return uvloop.run(run())


async def said(address: str, request: bytes) -> tuple[int, dict[str, str], bytes]:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.write(request)
    answer = await reader.read(-1)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body


def test_a_client_of_the_standard_library_reads_it() -> None:
    def read(address: str, page: str) -> tuple[str | None, bytes]:
        with urllib.request.urlopen(f"http://{address}/{page}", timeout=10) as answer:
            return answer.headers["Content-Type"], answer.read()

    async def all_three(address: str) -> list[tuple[str | None, bytes]]:
        return [await asyncio.to_thread(read, address, page) for page in ("healthz", "status?x=1", "metrics")]

    (_, health), (kind, status), (text, metrics) = with_page(all_three)
    assert json.loads(health) == {"ok": True}
    assert (kind, json.loads(status)) == (
        "application/json; charset=utf-8",
        STATUS | {"ratio": None, "codes": {"135": 1}},
    )
    assert text is not None
    assert text.startswith("text/plain; version=0.0.4")
    assert metrics == b"up 1\n" * 100_000


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"POST /status HTTP/1.1\r\n\r\n", 405),
        (b"nonsense\r\n\r\n", 400),
        (b"\xff\xfe \x00 HTTP/1.1\r\n\r\n", 404),
        (b"GET /status HTTP/2.0\r\n\r\n", 400),
        (b"GET /status HTTP/1.1\r\nx: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /metrics HTTP/1.1\r\n\r\n", 500),
    ],
)
def test_what_it_cannot_answer_it_says_so_of_and_goes_on(request_: bytes, status: int) -> None:
    async def both(address: str) -> tuple[int, int]:
        return (await said(address, request_))[0], (await said(address, b"GET /healthz HTTP/1.0\r\n\r\n"))[0]

    assert with_page(both, metrics=fails) == (status, 200)


def test_a_head_has_the_length_and_no_body() -> None:
    status, headers, body = with_page(lambda address: said(address, b"HEAD /metrics HTTP/1.1\r\n\r\n"))
    assert (status, headers["Content-Length"], headers["Connection"], body) == (200, "500000", "close", b"")


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\n"], ids=["nothing", "half a request"])
def test_who_never_finishes_a_request_is_left(sent: bytes) -> None:
    async def left(address: str) -> bytes:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        try:
            return await reader.read(-1)
        except ConnectionError:
            return b""

    assert with_page(left, patience_s=0.05) == b""


def test_an_address_of_ipv6_can_be_asked_as_it_is_told() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        status, _, _ = with_page(lambda a: said(a, b"GET /healthz HTTP/1.1\r\n\r\n"), listen="[::1]:0")
    except ConfigurationError:
        pytest.skip("no IPv6 here")
    assert status == 200


@pytest.mark.parametrize("listen", ["127.0.0.1", "127.0.0.1:none", "127.0.0.1:70000", "nowhere.invalid:0", "taken"])
def test_an_address_that_cannot_be_listened_at_is_a_matter_of_configuration(listen: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}" if listen == "taken" else listen
        with pytest.raises(ConfigurationError, match="cannot listen"):
            with_page(lambda address: said(address, b""), listen=where)
