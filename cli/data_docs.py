"""Serves Data Docs to this machine's browsers, and to nobody else.

    python -m cli.data_docs FOLDER PORT

Its pages are Great Expectations', and would load styles, scripts and pictures from its makers' and others' servers; a
plant's browser must not tell them who looks at what, so it is forbidden. `quality.data_docs_style` leaves them out.
"""

from __future__ import annotations

import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HOST = "127.0.0.1"
_POLICY = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; form-action 'none'"
)
_NAMES = ("127.0.0.1", "localhost")


class Handler(SimpleHTTPRequestHandler):
    """The files of one folder, read only."""

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        # A page from elsewhere that has its own name point here must not read what the plant's checks found.
        if (self.headers.get("Host") or "").partition(":")[0] not in _NAMES:
            self.send_error(403)
            return False
        return True

    def list_directory(self, path: object) -> None:  # noqa: ARG002 - the index lists them
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: who looked at what is nobody's business."""


def server(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server of a folder, bound to the loopback interface; port 0: any that is free."""
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / "index.html"
    if not index.exists():
        index.write_text("<!doctype html><title>Data Docs</title><p>No window was judged yet.\n", encoding="utf-8")
    return ThreadingHTTPServer((HOST, port), partial(Handler, directory=str(folder)))


def main() -> int:
    server(Path(sys.argv[1]), int(sys.argv[2])).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
