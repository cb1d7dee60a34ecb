"""A real OpenLineage backend over HTTP, that can be ended, brought back, slow, full or picky."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Backend:
    """Takes events at `/api/v1/lineage`; what it took outlives its ends.

    Attributes:
        answer: the status for an event; asked before the event is taken.
    """

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.asked = 0
        self.answer: Callable[[dict[str, Any]], int] = lambda _event: 201
        self.released = threading.Event()
        self.released.set()
        self.port = 0
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """At the same port as before."""
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                backend.asked += 1
                backend.released.wait(20)
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                right = self.path == "/api/v1/lineage"
                status = backend.answer(json.loads(body)) if right else 404
                if status < 300:
                    backend.bodies.append(body)
                    backend.headers.append(dict(self.headers))
                said = b"{}" if status < 300 else b"no such luck"
                self.send_response(status)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                with suppress(BrokenPipeError):  # who asked may have given up
                    self.wfile.write(said)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(b) for b in self.bodies]

    def of_run(self) -> dict[str, list[str]]:
        """Types of events by run, in the order in which they came; what came twice, once."""
        found: dict[str, list[str]] = {}
        for event in self.events:
            types = found.setdefault(event["run"]["runId"], [])
            if event["eventType"] not in types:
                types.append(event["eventType"])
        return found
