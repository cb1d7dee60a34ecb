"""The standard client configuration, right and wrong, and what arrives where it points."""

import json
from pathlib import Path

import pytest

from backbone.errors import ConfigurationError
from backbone.lineage.events import canonical
from resources.lineage.transports import Destination, NdjsonFile, NotSent, destination
from tests.resources.lineage.backend import Backend
from tests.resources.lineage.events import pair

BODIES = [canonical(e) for e in pair("a-é")]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def default(home: Path) -> Path:
    return home / "lineage" / "events.ndjson"


def _send(to: Destination, bodies: list[bytes]) -> None:
    assert to.channel is not None
    for body in bodies:
        to.channel.send([body])
    to.channel.close()


def test_without_configuration_events_go_to_the_file(default: Path) -> None:
    to = destination(default.parent.parent)
    _send(to, BODIES)
    assert default.read_bytes() == b"".join(b + b"\n" for b in BODIES)
    assert str(to) == str(default)


@pytest.mark.parametrize(
    ("left", "kept"),
    [(b'{"a": 1}\n{"b": ', b'{"a": 1}\n'), (b'{"a": 1}', b'{"a": 1}\n'), (b"{", b""), (b"x" * 200_000, b"")],
)
def test_a_torn_last_line_is_mended(default: Path, left: bytes, kept: bytes) -> None:
    default.parent.mkdir(parents=True)
    default.write_bytes(left)
    NdjsonFile(default).send(BODIES)
    assert default.read_bytes() == kept + b"".join(b + b"\n" for b in BODIES)


def test_a_full_disk_is_told_and_loses_nothing(full_disk: Path) -> None:
    file = NdjsonFile(full_disk / "events.ndjson")
    file.send(BODIES)
    (full_disk / "filler").write_bytes(bytes(900_000))
    big = canonical({"a": "x" * 300_000})
    with pytest.raises(NotSent, match="No space left"):
        file.send([big])
    (full_disk / "filler").unlink()
    file.send([big])
    assert [json.loads(line) for line in file.path.read_bytes().splitlines()] == [json.loads(b) for b in [*BODIES, big]]


def test_the_bytes_arrive_as_they_are(default: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", backend.url)
    monkeypatch.setenv("OPENLINEAGE_API_KEY", "s3cret")
    to = destination(default.parent.parent)
    _send(to, BODIES)
    assert backend.bodies == BODIES
    assert backend.headers[0]["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in str(to)
    assert not default.exists()


def test_the_file_is_found_and_its_settings_hold(
    default: Path, backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "somewhere.yml"
    config.write_text(
        f"""
transport:
  type: http
  url: http://user:s3cret@127.0.0.1:{backend.port}
  compression: gzip
  custom_headers: {{X-Plant: riverside}}
filters:
  - {{type: exact, match: job-noise}}
"""
    )
    monkeypatch.setenv("OPENLINEAGE_CONFIG", str(config))
    to = destination(default.parent.parent)
    _send(to, BODIES)
    assert backend.bodies == BODIES
    assert backend.headers[0]["X-Plant"] == "riverside"
    assert "s3cret" not in str(to)
    assert to.wanted is not None
    assert [to.wanted(name) for name in ("job-noise", "job-a")] == [False, True]


def test_a_file_in_the_working_folder_is_found(default: Path, backend: Backend) -> None:
    Path("openlineage.yml").write_text(f"transport: {{type: async_http, url: '{backend.url}'}}")
    _send(destination(default.parent.parent), BODIES)
    assert backend.bodies == BODIES


def test_variables_of_the_client_hold_and_none_is_left_behind(
    default: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.setenv("OPENLINEAGE_URL", backend.url)
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "composite")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TRANSPORTS__COPY__TYPE", "file")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TRANSPORTS__COPY__LOG_FILE_PATH", str(default))
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TRANSPORTS__COPY__APPEND", "true")
    before = dict(os.environ)
    _send(destination(default.parent.parent), BODIES)
    assert backend.bodies == BODIES
    assert default.read_bytes() == b"".join(b + b"\n" for b in BODIES)
    assert dict(os.environ) == before


def test_other_transports_of_the_client_are_given_the_event(default: Path, tmp_path: Path) -> None:
    Path("openlineage.yml").write_text(f"transport: {{type: file, log_file_path: {tmp_path}/each}}")
    _send(destination(default.parent.parent), BODIES)
    assert [json.loads(p.read_text()) for p in sorted(tmp_path.glob("each-*.json"))] == [json.loads(b) for b in BODIES]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("transport: {type: http, url: [", r"openlineage\.yml, line 1: this is not YAML"),
        ("transport:\n  type: http\n url: x", r"openlineage\.yml, line \d: this is not YAML"),
        ("", "the file is empty"),
        ("- transport", "not a mapping"),
        ("transport: http", "`transport` is not a mapping"),
        ("transports: {type: http}", "There is no section named 'transports'"),
        ("transport: {type: http}", "`url` key not passed"),
        ("transport: {type: http, url: nowhere}", "Need valid url"),
        ("transport: {type: http, url: 'ftp://x.example'}", "neither http:// nor https://"),
        ("transport: {type: http, url: 'http://x.example', timout: 3}", "named 'timout'"),
        ("transport: {type: http, url: 'http://x.example', timeout: soon}", "`timeout` is 'soon'"),
        ("transport: {type: http, url: 'http://x.example', auth: {type: api_key}}", "apiKey is required"),
        ("transport: {type: htpp, url: 'http://x.example'}", "There is no transport type named 'htpp'; known: .*http"),
        ("transport: {type: composite, transports: {a: {type: htpp}}}", "'htpp'; known: .*console, .*file, .*http"),
        ("transport: {type: transform, transport: {type: htpp}}", "'htpp'; known: .*console, .*file, .*http"),
        ("transport: {type: no.such.Transport}", "refuses this configuration"),
        ("transport: {type: file, append: true, log_file_path: /proc/nope/x.ndjson}", "/proc/nope/x.ndjson, where no"),
        ("transport: {type: file, log_file_path: /proc/nope/x}", "/proc/nope/x, where no file can be written"),
        ("transport: {type: file, append: true, log_file_path: /proc}", "/proc, where no file can be written"),
        (
            "transport: {type: composite, transports: [{type: file, log_file_path: /proc/nope/x}]}",
            "/proc/nope/x, where",
        ),
        ("transport: {url: 'http://x.example'}", "`transport` has no `type`"),
        ("transport: {type: composite, transports: [{type: http, url: 'http://x.example', timout: 1}]}", "'timout'"),
        ("filters: [{type: exact}]", r"filters\[0\] is neither"),
        ("filters: [{type: regex, regex: '['}]", "refuses this configuration"),
        ("filters: [{typ: regex}]", "refuses this configuration"),
    ],
)
def test_a_wrong_file_is_told_with_what_to_do(default: Path, text: str, said: str) -> None:
    Path("openlineage.yml").write_text(text)
    with pytest.raises(ConfigurationError, match=said) as caught:
        destination(default.parent.parent)
    assert "openlineage.yml" in caught.value.problem
    assert caught.value.next_step


def test_a_file_that_can_be_written_is_left_as_it_is(default: Path, tmp_path: Path) -> None:
    there, to_be = tmp_path / "there.ndjson", tmp_path / "deep" / "to-be.ndjson"
    there.write_text("{}\n")
    for path in (there, to_be):
        Path("openlineage.yml").write_text(f"transport: {{type: file, append: true, log_file_path: {path}}}")
        assert str(destination(default.parent.parent)) == str(path)
    assert there.read_text() == "{}\n"
    assert list(to_be.parent.iterdir()) == []


def test_a_full_disk_is_no_wrong_configuration(default: Path, full_disk: Path) -> None:
    (full_disk / "filler").write_bytes(b"x" * (1 << 20))
    path = full_disk / "lineage" / "events.ndjson"
    Path("openlineage.yml").write_text(f"transport: {{type: file, append: true, log_file_path: {path}}}")
    assert str(destination(default.parent.parent)) == str(path)


def test_a_file_that_is_named_but_not_there_is_told(default: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE_CONFIG", "/nowhere/openlineage.yml")
    with pytest.raises(ConfigurationError, match="OPENLINEAGE_CONFIG names /nowhere/"):
        destination(default.parent.parent)


def test_an_address_that_is_none_is_told_without_its_password(default: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", "ftp://user:s3cret@x.example")
    with pytest.raises(ConfigurationError, match="neither http") as caught:
        destination(default.parent.parent)
    assert "s3cret" not in str(caught.value)


def test_emission_can_be_switched_off(default: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE_DISABLED", "true")
    Path("openlineage.yml").write_text("transport: {type: nonsense}")
    assert destination(default.parent.parent).channel is None


@pytest.mark.parametrize(
    ("status", "fault"),
    [(400, "refused"), (413, "refused"), (422, "refused"), (401, "backend"), (404, "backend"), (503, "backend"),
     (429, "backend"), (302, "backend"), (500, "event"), (408, "event")],
)  # fmt: skip
def test_what_a_refusal_says_of_the_others(
    default: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch, status: int, fault: str
) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", backend.url)
    backend.answer = lambda _event: status
    with pytest.raises(NotSent, match=f"answered {status}") as caught:
        _send(destination(default.parent.parent), BODIES)
    assert caught.value.fault == fault
    assert backend.asked == 1


def test_a_backend_that_is_not_there_or_silent(
    default: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("openlineage.yml").write_text(f"transport: {{type: http, url: '{backend.url}', timeout: 0.2}}")
    backend.released.clear()
    with pytest.raises(NotSent, match=r"did not answer within 0\.2 s") as caught:
        _send(destination(default.parent.parent), BODIES)
    assert caught.value.fault == "event"
    backend.released.set()
    backend.stop()
    with pytest.raises(NotSent, match="cannot be reached") as caught:
        _send(destination(default.parent.parent), BODIES)
    assert caught.value.fault == "backend"
