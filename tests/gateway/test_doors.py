"""A real gateway with three doors: what each acknowledged is stored once, whenever it is killed; what is bad is refused
or put aside and counted, and it serves on.
"""

from __future__ import annotations

import gzip
import http.client
import json
import pickle
import random
import secrets
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest

from chaos.floor.machines import FLOWING
from gateway import reasons
from gateway.signed_requests import KEY_ID, NONCE, SIGNATURE, TIMESTAMP, signature
from resources.landing import READING_ID
from tests.gateway.certificates import Authority
from tests.gateway.floor import Floor, floor
from tests.gateway.sources.plc import T0, Plc

pytestmark = pytest.mark.slow
KILLS = 6
BATCH, ROWS = 20, 700
SHOWN, SHOWN_WHILE_DOWN = 5, 3
PATH = "/v1/readings/P-101"
SECRET = secrets.token_bytes(32).hex().encode()
AT = T0.strftime("%Y-%m-%dT%H:%M:")
"""What a test's readings begin with: a minute."""


@dataclass
class Sender:
    """Sends batch after batch by HTTP with a certificate, each until it is answered with 200."""

    port: int
    tls: ssl.SSLContext
    acknowledged: set[str] = field(default_factory=set)
    answered: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    """Requests that were."""
    wrong: list[object] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """After the batch that is under way."""
        self._ended.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def ask(self, headers: dict[str, str], body: bytes) -> tuple[int, object]:
        with closing(http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=self.tls)) as line:
            line.request("POST", PATH, body, headers)
            answer = line.getresponse()
            return answer.status, json.loads(answer.read())

    def _run(self) -> None:
        first = 0
        while not self._ended.is_set():
            seqs = range(first, first + BATCH)
            self._send(seqs, b"\n".join(_reading(seq) for seq in seqs))
            first += BATCH

    def _send(self, seqs: range, body: bytes) -> None:
        for _ in range(2000):
            headers = signed(body)
            try:
                status, told = self.ask(headers, body)
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)
                continue
            if status == 200:
                assert isinstance(told, list)
                self.wrong += [each for each in told if each["fate"] not in ("kept", "duplicate")]
                self.acknowledged |= {f"http:line-1:P-101/s/{seq}" for seq in seqs}
                self.answered.append((headers, body))
                return
            if status != 503:
                self.wrong.append(told)


def _reading(seq: int) -> bytes:
    ts = f"{AT}{seq // 1000 % 60:02}.{seq % 1000:03}Z"
    return json.dumps({"ts": ts, "seq": seq, "session": "s", "values": FLOWING}).encode()


def signed(body: bytes, *, secret: bytes = SECRET, late_s: int = 0) -> dict[str, str]:
    timestamp, nonce = str(int(time.time()) - late_s), secrets.token_hex(16)
    signed = signature(secret, "POST", PATH, timestamp, nonce, body)
    made = {KEY_ID: "line-1", TIMESTAMP: timestamp, NONCE: nonce, SIGNATURE: signed}
    return {"Content-Type": "application/x-ndjson", **made}


@pytest.fixture
def plc(tmp_path: Path) -> Iterator[Plc]:
    folder = tmp_path / "plc"
    folder.mkdir()
    plc = Plc(folder, tuple(FLOWING))
    plc.show(0, FLOWING)
    yield plc
    plc.stop()


@pytest.fixture
def sender(tmp_path: Path) -> Sender:
    authority = Authority(tmp_path / "certificates")
    authority.server()
    authority.revoking(authority.client("revoked")[0])
    tls = ssl.create_default_context(cafile=str(authority.certificate))
    tls.load_cert_chain(*authority.client("line-1"))
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        return Sender(free.getsockname()[1], tls)


@pytest.fixture
def works(tmp_path: Path, plc: Plc, sender: Sender) -> Iterator[Floor]:
    (tmp_path / "secret").write_bytes(SECRET)
    certificates = tmp_path / "certificates"
    nodes = "\n".join(f'{name} = "ns=2;s={name}"' for name in FLOWING)
    sources = f"""\
[[gateway.sources]]
kind = "http"
listen = "127.0.0.1:{sender.port}"
certificate = "{certificates}/server.pem"
key = "{certificates}/server.key"
client_ca = "{certificates}/plant.pem"
revoked = "{certificates}/list-of-revoked.pem"
max_body_kib = 64
request_s = 2

[[gateway.sources.keys]]
id = "line-1"
secret_file = "{tmp_path}/secret"
equipment = ["P-101"]

[[gateway.sources]]
kind = "files"
folder = "{tmp_path}/in"
max_inflated_mib = 4
look_s = 0.05
settle_s = 0.1
give_up_s = 1

[[gateway.sources]]
kind = "opcua"
url = "{plc.url}"
publishing_ms = 20
sampling_ms = 0
carry_s = 86400

[gateway.sources.nodes.P-301]
{nodes}
"""
    made = floor(tmp_path, sources)
    yield made
    made.end()


def drop(folder: Path, number: int) -> str:
    """A file of many rows; the digest of its content."""
    names = [*FLOWING]
    rows = [f"P-201,{AT}{number:02}.{n:03}Z," + ",".join(str(FLOWING[name]) for name in names) for n in range(ROWS)]
    content = "\n".join(["equipment_id,ts," + ",".join(names), *rows, ""]).encode()
    folder.mkdir(exist_ok=True)
    part = folder / f"{number}.csv.part"
    part.write_bytes(content)
    part.rename(folder / f"{number}.csv")
    return sha256(content).hexdigest()


def kept(works: Floor, source: str) -> int:
    """Since the process began, by its metrics."""
    head = "hybrid_gateway_messages_total"
    lines = [each for each in works.ask("/metrics").splitlines() if each.startswith(head)]
    return sum(int(float(each.split()[-1])) for each in lines if 'fate="kept"' in each and f'source="{source}' in each)


def test_what_each_door_acknowledged_is_stored_once(works: Floor, plc: Plc, sender: Sender, tmp_path: Path) -> None:
    from deltalake import DeltaTable

    chance = random.Random(6)  # noqa: S311 - when it is killed
    dropped, shown_at = [], 0
    sure: set[int] = set()
    """Seconds after T0 of what the PLC showed and the gateway had kept, or must have begun with."""
    lost: set[int] = set()

    def show() -> int:
        nonlocal shown_at
        shown_at += 1
        plc.show(shown_at, {"flow_m3_h": 100 + shown_at / 10})
        return shown_at

    works.start()
    sender.start()
    for number in range(KILLS):
        works.until(lambda: kept(works, "opcua:") >= 1)  # it has subscribed, and has the newest value
        sure.add(shown_at)
        dropped.append(drop(tmp_path / "in", number))
        shown = [show() for _ in range(SHOWN)]
        some = chance.randrange(1, SHOWN + 2)
        rows, sent = chance.randrange(1, ROWS), chance.randrange(1, 200)
        works.until(lambda: kept(works, "opcua:") >= some)  # noqa: B023 - asked before it changes
        works.until(lambda: kept(works, "file:") >= rows or kept(works, "http:") >= sent)  # noqa: B023
        works.kill()
        sure |= set(shown[: some - 1])
        lost |= {show() for _ in range(SHOWN_WHILE_DOWN)}
        lost.discard(shown_at)
        replayed = sender.answered[-1]
        works.start()
        works.until(lambda: works.ask()["sources"]["http-1"]["connected"])
        status, told = sender.ask(*replayed)
        assert (status, told["reason"]) == (401, reasons.REPLAYED_NONCE)  # type: ignore[index]
    sender.stop()
    works.until(lambda: len(list((tmp_path / "in" / "done").iterdir())) == KILLS)
    works.until(lambda: kept(works, "opcua:") >= 1)
    sure.add(shown_at)
    works.until(lambda: works.ask()["spool"]["waiting"] == 0)
    assert works.stop() == 0

    found = works.reconciled()
    assert {name: found[name] for name in ("missing", "twice", "spooled", "dead_lettered")} == {
        "missing": 0,
        "twice": 0,
        "spooled": 0,
        "dead_lettered": 0,
    }
    table = DeltaTable(works.plant.landing("pump").path("telemetry")).to_pyarrow_table(
        columns=[READING_ID, "ts", "equipment_id"]
    )
    rows_by_id = Counter(table[READING_ID].to_pylist())
    assert set(rows_by_id.values()) == {1}
    assert sender.wrong == []
    assert len(sender.acknowledged) > KILLS * BATCH
    assert sender.acknowledged <= rows_by_id.keys()
    assert {f"file:files/{digest}/{row}" for digest in dropped for row in range(1, ROWS + 1)} <= rows_by_id.keys()
    told_at = {round((row["ts"] - T0).total_seconds()) for row in table.to_pylist() if row["equipment_id"] == "P-301"}
    assert sure <= told_at
    assert len(lost) == KILLS * (SHOWN_WHILE_DOWN - 1)
    assert not lost & told_at  # what a PLC shows while nobody listens is gone, but for the newest


def _handshake(port: int, tls: ssl.SSLContext) -> None:
    """With a certificate that does not do; the refusal is read."""
    with (
        pytest.raises(ssl.SSLError, match="ALERT"),
        socket.create_connection(("127.0.0.1", port), 10) as line,
        tls.wrap_socket(line, server_hostname="127.0.0.1") as secured,
    ):
        secured.recv(1)


def test_whatever_comes_is_refused_or_put_aside_and_counted_and_it_serves_on(
    works: Floor, sender: Sender, tmp_path: Path
) -> None:
    certificates, folder = tmp_path / "certificates", tmp_path / "in"
    authority, good = certificates / "plant.pem", _reading(1)
    works.start()
    works.until(lambda: works.ask()["sources"]["http-1"]["connected"])
    others = Authority(tmp_path / "others", "others")

    def with_certificate(*pair: Path) -> ssl.SSLContext:
        tls = ssl.create_default_context(cafile=str(authority))
        if pair:
            tls.load_cert_chain(*pair)
        return tls

    for pair in ((), others.client("line-1"), (certificates / "revoked.pem", certificates / "revoked.key")):
        _handshake(sender.port, with_certificate(*pair))
    slow = socket.create_connection(("127.0.0.1", sender.port), 20)
    dripping = sender.tls.wrap_socket(slow, server_hostname="127.0.0.1")
    dripping.sendall(b"POST /v1/readings HTTP/1.1\r\nX-Slow: ")

    asked = [
        (signed(good, secret=b"another" * 5), good),
        (signed(good, late_s=400), good),
        (signed(large := good + b" " * 70_000), large),
        (signed(good) | {"Content-Type": "text/csv"}, good),
        (signed(bomb := gzip.compress(bytes(5 << 20))) | {"Content-Encoding": "gzip"}, bomb),
        (signed(other := good.replace(b'"seq"', b'"equipment": "P-102", "seq"')), other),
    ]
    answers = [sender.ask(headers, body)[0] for headers, body in asked]
    assert answers == [401, 401, 413, 415, 413, 403]
    once = signed(good)
    assert [sender.ask(once, good)[0] for _ in range(2)] == [200, 401]
    assert b"408 too_slow" in dripping.recv(1000)
    dripping.close()

    folder.mkdir(exist_ok=True)
    (folder / "link.csv").symlink_to("/etc/passwd")
    files = {
        "a.pkl": pickle.dumps([1]),
        "bomb.csv.gz": gzip.compress(b"equipment_id,ts,flow_m3_h\n" + (b"P-1,1,1" + b" " * 60_000 + b"\n") * 100),
        "nested.csv.gz": gzip.compress(gzip.compress(b"equipment_id,ts\n")),
        "torn.parquet": b"PAR1" + bytes(1000) + b"PAR",
        "a\n.csv": b"equipment_id,ts\n",
        "unfinished.part": b"equipment_id,ts\n",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    works.until(lambda: {path.name for path in folder.iterdir()} == {"done", "quarantine"})
    drop(folder, 0)
    works.until(lambda: kept(works, "file:") == ROWS)

    refused = {
        reasons.NO_CERTIFICATE,
        reasons.UNKNOWN_CERTIFICATE,
        reasons.REVOKED_CERTIFICATE,
        reasons.BAD_SIGNATURE,
        reasons.OLD_TIMESTAMP,
        reasons.TOO_LARGE,
        reasons.UNKNOWN_CONTENT_TYPE,
        reasons.COMPRESSION_BOMB,
        reasons.IDENTITY_MISMATCH,
        reasons.REPLAYED_NONCE,
        reasons.TOO_SLOW,
    }
    put_aside = {
        reasons.SYMBOLIC_LINK,
        reasons.EXECUTABLE_FORMAT,
        reasons.COMPRESSION_BOMB,
        reasons.NESTED_ARCHIVE,
        reasons.UNREADABLE_FILE,
        reasons.BAD_NAME,
        reasons.STILL_WRITTEN,
    }
    counted = Counter(refused) + Counter(put_aside)
    told = works.ask()
    assert {f"refused: {reason}": times for reason, times in counted.items()}.items() <= told["reasons"].items()
    log = [json.loads(line) for line in (works.home.root / "gateway.log").read_text().splitlines()]
    logged = [each for each in log if each["message"] == "refused"]
    assert Counter(each["reason"] for each in logged) == counted
    assert all(each["source"] and len(each["digest"]) == 16 for each in logged)
    notes = [json.loads(path.read_text()) for path in (folder / "quarantine").glob("*.json")]
    assert {note["reason"] for note in notes} == put_aside
    assert all(len(note["sha256"]) == 64 for note in notes)
    assert told["pid"] == works.process.pid  # type: ignore[union-attr]
    assert works.stop() == 0
