"""The proxy does what it is told: a fault test proves nothing behind a proxy that only seems to misbehave."""

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from chaos.floor.tcp_proxy import TcpProxy


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while heard := self.request.recv(65536):
            self.server.heard += heard  # type: ignore[attr-defined]
            self.request.sendall(heard)


@pytest.fixture
def echo() -> Iterator[socketserver.ThreadingTCPServer]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo) as server:
        server.daemon_threads = True
        server.heard = b""  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def proxy(echo: socketserver.ThreadingTCPServer) -> Iterator[TcpProxy]:
    with TcpProxy("127.0.0.1", echo.server_address[1]) as proxy:
        yield proxy


def connect(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=5)


def exchange(client: socket.socket, said: bytes) -> bytes:
    sender = threading.Thread(target=client.sendall, args=(said,))
    sender.start()
    heard = b""
    while len(heard) < len(said):
        piece = client.recv(65536)
        if not piece:
            break
        heard += piece
    sender.join()
    return heard


def test_everything_passes_whole_at_first(proxy: TcpProxy) -> None:
    said = bytes(range(256)) * 20_000
    with connect(proxy) as client:
        assert exchange(client, said) == said
    assert proxy.bytes_to_server == len(said)


def test_the_end_of_one_side_passes(proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"last words")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b"last words"
        assert client.recv(100) == b""


def test_latency_delays_both_ways(proxy: TcpProxy) -> None:
    proxy.latency(0.1)
    with connect(proxy) as client:
        started = time.monotonic()
        assert exchange(client, b"hello") == b"hello"
        assert 0.2 <= time.monotonic() - started < 2


def test_reset_ends_connections_there_are_and_new_ones(proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        exchange(client, b"hello")
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with pytest.raises(ConnectionResetError), connect(proxy) as client:
        client.recv(1)


def test_a_blackhole_takes_everything_and_says_nothing(proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        exchange(client, b"hello")
        sent = proxy.bytes_to_server
        proxy.blackhole()
        client.sendall(b"is anybody there?" * 10_000)
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)
    assert proxy.bytes_to_server == sent


def test_mute_loses_the_answer_only(proxy: TcpProxy, echo: socketserver.ThreadingTCPServer) -> None:
    proxy.mute()
    with connect(proxy) as client:
        client.sendall(b"do it")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)
    assert echo.heard == b"do it"  # type: ignore[attr-defined]


def test_an_answer_is_lost_once_where_its_request_arrived(
    proxy: TcpProxy, echo: socketserver.ThreadingTCPServer
) -> None:
    proxy.lose_answer_to(b"POST")
    with connect(proxy) as client:
        assert exchange(client, b"GET") == b"GET"
        client.sendall(b"POST it")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with connect(proxy) as client:
        assert exchange(client, b"POST it") == b"POST it"
    assert echo.heard == b"GET" + b"POST it" * 2  # type: ignore[attr-defined]


def test_throttle_takes_as_long_as_it_says(proxy: TcpProxy) -> None:
    proxy.throttle(10_000)
    with connect(proxy) as client:
        started = time.monotonic()
        assert exchange(client, b"x" * 5_000) == b"x" * 5_000
        assert 0.5 <= time.monotonic() - started < 3


def test_refuse_leaves_nobody_listening_until_it_passes_again(proxy: TcpProxy) -> None:
    port = proxy.port
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.passing()
    assert proxy.port == port
    with connect(proxy) as client:
        assert exchange(client, b"back") == b"back"
