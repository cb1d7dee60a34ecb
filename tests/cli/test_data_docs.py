"""Data Docs are served to this machine only, and let a browser load nothing from elsewhere."""

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.data_docs import server


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    folder = tmp_path / "docs"
    running = server(folder, 0)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield folder, running.server_address[1]
    running.shutdown()
    running.server_close()
    thread.join()


def get(port: int, path: str, host: str = "127.0.0.1") -> tuple[int, str, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Host": f"{host}:{port}"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers
    finally:
        connection.close()


def test_pages_are_served_and_nothing_is_loaded_from_elsewhere(served: tuple[Path, int]) -> None:
    folder, port = served
    assert "No window was judged yet" in get(port, "/")[1]
    page = folder / "pump" / "north" / "telemetry" / "2025-03-01.html"
    page.parent.mkdir(parents=True)
    page.write_text("<script src='https://elsewhere.example/x.js'></script>found")
    status, text, headers = get(port, "/pump/north/telemetry/2025-03-01.html")
    assert (status, "found" in text) == (200, True)
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "http" not in policy


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [
        ("/", "elsewhere.example", 403),
        ("/", "localhost", 200),
        ("/pump/", "127.0.0.1", 404),
        ("/../../etc/passwd", "127.0.0.1", 404),
        ("/%2e%2e/secret", "127.0.0.1", 404),
    ],
)
def test_what_is_not_a_page_is_not_shown(served: tuple[Path, int], path: str, host: str, status: int) -> None:
    folder, port = served
    (folder / "pump").mkdir()
    (folder.parent / "secret").write_text("not for them")
    assert get(port, path, host)[0] == status
