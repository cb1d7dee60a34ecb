"""Source `http` over real sockets: what is kept, what is refused, and what a sender is told."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gzip
import json
import re
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from backbone.errors import ConfigurationError
from gateway import reasons, signed_requests
from gateway.counters import Counters
from gateway.decoding import digest_of
from gateway.disk import RealDisk
from gateway.ports import Fate, Message, Settled
from gateway.settings import SpoolSettings
from gateway.signed_requests import KEY_ID, NONCE, SIGNATURE, TIMESTAMP, signature
from gateway.sources.http import JSON, NDJSON, SPEC
from tests.gateway.certificates import Authority
from tests.gateway.durable_intake import durable_intake, records
from tests.gateway.held_intake import HeldIntake, context, told, until
from tests.gateway.sources.http_client import (
    MANY,
    ONE,
    SECRET,
    Answer,
    Client,
    Door,
    door,
    keeping,
    lines,
    reading,
    refused_because,
)

TRACE = f"00-{'ab' * 16}-{'cd' * 8}-01"


def test_a_reading_is_answered_when_it_is_settled(tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = HeldIntake()
        async with door(tmp_path, intake) as at:
            asked = asyncio.create_task(at.client.post(body=reading(1), traceparent=TRACE))
            await intake.has(1)
            await asyncio.sleep(0)
            assert not asked.done()
            intake.settle(lambda _: True)
            answer = await asked
        (message,) = intake.offered
        assert (message.source, message.equipment, message.payload) == ("http:line-1:P-1", "P-1", reading(1))
        assert message.traceparent == TRACE
        assert (answer.status, answer.told) == (200, [{"fate": "kept", "session": "s", "seq": 1}])

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "given",
    [
        b"00-\xff",
        b"00-ab-cd-01",
        TRACE.upper().encode(),
        TRACE.encode() + b"-more",
        b"ff" + TRACE[2:].encode(),
        TRACE.replace("ab", "00").encode(),
        TRACE.replace("cd", "00").encode(),
    ],
)
def test_a_trace_context_that_is_none_is_left_out(tmp_path: Path, given: bytes) -> None:
    async def scenario() -> None:
        intake = keeping()
        async with door(tmp_path, intake) as at:
            named = "\r\n".join(f"{name}: {value}" for name, value in at.client.signed(ONE, reading(1)).items())
            head = f"POST {ONE} HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\n{named}\r\n"
            length = f"Content-Length: {len(reading(1))}\r\nConnection: close\r\n\r\n".encode()
            reader, writer = await asyncio.open_connection(*at.address)
            writer.write(head.encode() + b"traceparent: " + given + b"\r\n" + length + reading(1))
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
            writer.close()
        (message,) = intake.offered
        assert message.traceparent is None

    asyncio.run(scenario())


def test_many_readings_of_several_machines_are_told_one_by_one(tmp_path: Path) -> None:
    body = lines(
        reading(1, equipment="P-1"),
        reading(1, equipment="P-2"),
        b"",
        reading(2, equipment="P-1", values={"flow": 1e9}),
        b'{"equipment": "P-1", "ts"',
        b'{"no": "equipment"}',
        reading(1, equipment="P-1"),
    )

    async def scenario() -> None:
        async with durable_intake(tmp_path / "spool") as intake, door(tmp_path, intake) as at:
            answer = await at.client.post(MANY, body, kind=f"{NDJSON}; charset=utf-8")
        assert answer.status == 200
        assert answer.fates == [
            ("kept", None),
            ("kept", None),
            ("dead_letter", "out_of_range:flow"),
            ("dead_letter", "invalid_json"),
            ("dead_letter", "not_a_reading"),
            ("duplicate", None),
        ]
        kept = [(r.equipment, r.reason) for r in records(tmp_path / "spool")]
        assert kept[:2] == [("P-1", None), ("P-2", None)]
        assert len(kept) == 5

    asyncio.run(scenario())


def test_a_body_sent_again_over_a_restart_has_no_second_effect(tmp_path: Path) -> None:
    body = lines(*(reading(seq) for seq in range(1023)), b"no reading")

    async def scenario() -> None:
        fates = []
        for _ in range(2):
            async with durable_intake(tmp_path / "spool") as intake, door(tmp_path, intake) as at:
                fates.append((await at.client.post(ONE, body, kind=NDJSON, Idempotency_Key="k")).fates)
        assert fates == [
            [("kept", None)] * 1023 + [letter := ("dead_letter", "invalid_json")],
            [("duplicate", None)] * 1023 + [letter],
        ]
        assert len(list(records(tmp_path / "spool"))) == 1024

    asyncio.run(scenario())


def test_under_an_idempotency_key_the_same_body_gets_the_same_answer_and_another_none(tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = HeldIntake()
        async with door(tmp_path, intake) as at:
            asked = [asyncio.create_task(at.client.post(body=reading(1), Idempotency_Key="k")) for _ in range(2)]
            await intake.has(1)
            intake.settle(lambda _: True)
            first, second = await asyncio.gather(*asked)
            assert first.told == second.told == [{"fate": "kept", "session": "s", "seq": 1}]
            assert (await at.client.post(body=reading(1), Idempotency_Key="k")).told == first.told
            assert len(intake.offered) == 1
            intake.offered.clear()
            other = await at.client.post(body=reading(2), Idempotency_Key="k")
            refused_because(other, intake, 409, reasons.CONFLICTING_DUPLICATE)

    asyncio.run(scenario())


def test_over_its_rate_a_body_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    body = lines(*(reading(seq) for seq in range(120)))

    async def scenario() -> None:
        answers: list[Answer] = []
        async with durable_intake(tmp_path / "spool", per_source_per_s=100.0) as intake, door(tmp_path, intake) as at:
            while not answers or answers[-1].status != 200:
                if answers:
                    await asyncio.sleep(answers[-1].told["retry_after_s"])
                answers.append(await at.client.post(ONE, body, kind=NDJSON, Idempotency_Key="k"))
                assert len(answers) < 100
        first = answers[0]
        assert (first.status, first.told["reason"], first.headers["Retry-After"]) == (429, reasons.RATE_EXCEEDED, "1")
        kept = first.fates.count(("kept", None))
        assert 100 <= kept < 120
        assert first.fates == [("kept", None)] * kept + [("refused", reasons.RATE_EXCEEDED)] * (120 - kept)
        assert answers[-1].fates == [("kept", None)] * 120
        assert len(list(records(tmp_path / "spool"))) == 120

    asyncio.run(scenario())


@pytest.mark.parametrize("reason", [reasons.SPOOL_FULL, reasons.SPOOL_FAILED, reasons.DRAINING, reasons.BUSY])
def test_what_cannot_be_kept_now_is_to_be_sent_again(tmp_path: Path, reason: str) -> None:
    def answer(message: Message) -> Settled:
        kept = json.loads(message.payload)["seq"] < 2
        return told(message) if kept else told(message, Fate.REFUSED, reason, 2.5)

    async def scenario() -> None:
        intake = HeldIntake()
        intake.answer = answer
        async with door(tmp_path, intake) as at:
            said = await at.client.post(ONE, lines(*(reading(seq) for seq in range(4))), kind=NDJSON)
        assert (said.status, said.told["reason"], said.headers["Retry-After"]) == (503, reason, "3")
        assert said.fates == [("kept", None)] * 2 + [("refused", reason)] * 2
        assert [refusal[:2] for refusal in intake.refusals] == [("http:line-1", reason)]
        assert intake.seqs == [0, 1, 2]

    asyncio.run(scenario())


def test_when_the_spool_is_full_what_is_not_kept_is_not_answered_for(tmp_path: Path) -> None:
    small = SpoolSettings(max_mib=0.02, segment_mib=0.01)
    body = lines(*(reading(seq) for seq in range(400)))

    async def scenario() -> None:
        async with durable_intake(tmp_path / "spool", settings=small) as intake, door(tmp_path, intake) as at:
            said = await at.client.post(ONE, body, kind=NDJSON)
            assert (said.status, said.told["reason"], said.headers["Retry-After"]) == (503, reasons.SPOOL_FULL, "1")
            again = await at.client.post(ONE, body, kind=NDJSON)
        kept = said.fates.count(("kept", None))
        assert said.fates == [("kept", None)] * kept + [("refused", reasons.SPOOL_FULL)] * (400 - kept)
        assert (again.status, again.fates.count(("duplicate", None))) == (503, kept)
        assert len(list(records(tmp_path / "spool"))) == kept > 0

    asyncio.run(scenario())


def test_a_refusal_is_counted_and_logged_with_who_and_a_digest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counters = Counters()

    async def scenario() -> None:
        async with durable_intake(tmp_path / "spool", counters=counters) as intake, door(tmp_path, intake) as at:
            at.client.secret = b"another" * 5
            assert (await at.client.post(body=reading(1))).status == 401

    asyncio.run(scenario())
    assert counters.fates == {(Fate.REFUSED, "http:127.0.0.1"): 1}
    assert counters.reasons == {(Fate.REFUSED, reasons.BAD_SIGNATURE): 1}
    (told_of,) = [record.told for record in caplog.records if record.message == "refused"]  # type: ignore[attr-defined]
    assert told_of == {
        "source": "http:127.0.0.1",
        "reason": reasons.BAD_SIGNATURE,
        "digest": digest_of(reading(1)).hex(),
    }


def test_a_disk_that_does_not_answer_does_not_hold_the_sender_for_ever(tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = HeldIntake()
        async with door(tmp_path, intake, answer_s=0.05) as at:
            said = await at.client.post(body=reading(1), Idempotency_Key="k")
            assert (said.status, said.told["reason"]) == (503, reasons.BUSY)
            intake.settle(lambda _: True)
            again = await at.client.post(body=reading(1), Idempotency_Key="k")
            assert (again.status, again.fates, len(intake.offered)) == (200, [("kept", None)], 1)

    asyncio.run(scenario())


def test_on_shutdown_what_is_under_way_is_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = HeldIntake()
        async with door(tmp_path, intake) as at:
            asked = asyncio.create_task(at.client.post(body=reading(1)))
            await intake.has(1)
            idle, writer = await asyncio.open_connection(*at.address)
            serving_it = next(t for t in asyncio.all_tasks() if "HttpSource.serve" in repr(t.get_coro()))
            serving_it.cancel()
            await until(lambda: not at.source.health()["connected"])
            assert await idle.read() == b""
            writer.close()
            intake.settle(lambda _: True)
            assert (await asked).fates == [("kept", None)]

    asyncio.run(scenario())


async def refusal(tmp_path: Path, status: int, reason: str, ask: Any, **settings: object) -> Answer:
    """Ask once of a door that keeps everything, and be refused; whoever comes after that is not."""
    intake = keeping()
    async with door(tmp_path, intake, **settings) as at:
        answer: Answer = await ask(at.client)
        refused_because(answer, intake, status, reason)
        at.client.key, at.client.secret = "line-1", SECRET
        assert (await at.client.post(body=reading(1))).status == 200
    return answer


@pytest.mark.parametrize("what", ["secret", "body", "path", "key", "unsigned", "nonce", "timestamp"])
def test_a_bad_signature_is_refused(tmp_path: Path, what: str) -> None:
    async def ask(client: Client) -> Answer:
        if what == "secret":
            client.secret = b"another" * 5
        elif what == "key":
            client.key = "line-2"
        headers = {"Content-Type": JSON, **client.signed(ONE, reading(1))}
        if what == "nonce":
            headers[NONCE] = "f" * 32
        elif what == "timestamp":
            headers[TIMESTAMP] = str(int(headers[TIMESTAMP]) + 1)
        elif what == "unsigned":
            headers = {"Content-Type": JSON}
        return await client.send(f"{ONE}0" if what == "path" else ONE, reading(2 if what == "body" else 1), headers)

    asyncio.run(refusal(tmp_path, 401, reasons.BAD_SIGNATURE, ask))


@pytest.mark.parametrize("off_s", [-320, 320])
def test_an_old_timestamp_is_refused_and_the_sender_learns_the_time(tmp_path: Path, off_s: float) -> None:
    answer = asyncio.run(
        refusal(
            tmp_path, 401, reasons.OLD_TIMESTAMP, lambda client: client.post(body=reading(1), at=time.time() + off_s)
        )
    )
    found = re.search(r"it is (\d+)", answer.told["next_step"])
    assert found
    assert abs(int(found[1]) - time.time()) < 60


def test_a_clock_within_the_window_is_let_pass(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with door(tmp_path, keeping()) as at:
            for off_s in (-280, 280):
                assert (await at.client.post(body=reading(1), at=time.time() + off_s)).status == 200

    asyncio.run(scenario())


def test_a_replayed_nonce_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = keeping()
        async with door(tmp_path, intake) as at:
            assert (await at.client.post(body=reading(1))).status == 200
            intake.offered.clear()
            replayed = await at.client.send(ONE, reading(1), at.client.sent[0])
        refused_because(replayed, intake, 401, reasons.REPLAYED_NONCE)
        assert intake.refusals[0][0] == "http:127.0.0.1"

    asyncio.run(scenario())


def test_a_request_that_was_answered_is_refused_after_a_restart_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with door(tmp_path, keeping()) as at:
            assert (await at.client.post(body=reading(1))).status == 200
            sent = at.client.sent[0]
        intake = keeping()
        async with door(tmp_path, intake) as at:
            refused_because(await at.client.send(ONE, reading(1), sent), intake, 401, reasons.REPLAYED_NONCE)
            assert (await at.client.post(body=reading(1))).status == 200

    asyncio.run(scenario())


def test_where_nonces_cannot_be_written_nothing_is_answered_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = RealDisk.write

    def full(self: RealDisk, handle: int, data: bytes | memoryview) -> int:
        if b"line-1" in bytes(data):
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(self, handle, data)

    async def scenario() -> None:
        intake = keeping()
        async with door(tmp_path, intake) as at:
            with monkeypatch.context() as patched:
                patched.setattr(RealDisk, "write", full)
                said = await at.client.post(body=reading(1))
            assert (said.status, said.told["reason"], said.headers["Retry-After"]) == (503, reasons.SPOOL_FULL, "1")
            assert (await at.client.post(body=reading(1))).status == 200
        assert [refusal[:2] for refusal in intake.refusals] == [("http:line-1", reasons.SPOOL_FULL)]

    asyncio.run(scenario())


def test_nonces_are_remembered_as_long_as_their_timestamps_would_do_and_no_longer(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    key = signed_requests.Key("k", "secret", ("P-*",))
    keyring = signed_requests.Keyring((key,), tmp_path)

    def check(nonce: str, timestamp: int, now: float) -> None:
        headers = {KEY_ID: "k", TIMESTAMP: str(timestamp), NONCE: nonce}
        headers[SIGNATURE] = signature(SECRET, "POST", ONE, str(timestamp), nonce, b"")
        keyring.check(keyring.claimed(headers, now), "POST", ONE, headers, b"", now)

    check("a" * 16, 1300, now=1000)  # signed ahead of time: it would do until 1600
    with pytest.raises(signed_requests.NotAuthentic, match=reasons.REPLAYED_NONCE):
        check("a" * 16, 1300, now=1600)
    check("a" * 16, 1601, now=1601)


def test_a_nonce_is_not_taken_again_where_its_time_ends_between_head_and_body(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    keyring = signed_requests.Keyring((signed_requests.Key("k", "secret", ("P-*",)),), tmp_path)
    headers = {KEY_ID: "k", TIMESTAMP: "1000", NONCE: "a" * 16}
    headers[SIGNATURE] = signature(SECRET, "POST", ONE, "1000", "a" * 16, b"")
    keyring.check(keyring.claimed(headers, 1000), "POST", ONE, headers, b"", 1000)
    again = keyring.claimed(headers, 1299.5)
    with pytest.raises(signed_requests.NotAuthentic, match=reasons.OLD_TIMESTAMP):
        keyring.check(again, "POST", ONE, headers, b"", 1300.5)


def test_where_too_many_nonces_are_remembered_a_sender_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signed_requests, "NONCES", 3)

    async def scenario() -> None:
        intake = keeping()
        async with door(tmp_path, intake) as at:
            answers = [await at.client.post(body=reading(seq)) for seq in range(4)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429]
        assert 290 <= int(answers[-1].headers["Retry-After"]) <= 300

    asyncio.run(scenario())


def test_one_key_does_not_use_up_the_nonces_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signed_requests, "NONCES", 4)
    (tmp_path / "secret").write_bytes(SECRET)
    keys = {name: signed_requests.Key(name, "secret", ("P-*",)) for name in ("greedy", "modest")}
    keyring = signed_requests.Keyring(tuple(keys.values()), tmp_path)

    def ask(name: str, number: int, at: int = 1000) -> str:
        nonce = f"{number:016}"
        headers = {KEY_ID: name, TIMESTAMP: str(at), NONCE: nonce}
        headers[SIGNATURE] = signature(SECRET, "POST", ONE, str(at), nonce, b"")
        try:
            keyring.check(keyring.claimed(headers, at), "POST", ONE, headers, b"", at)
        except signed_requests.NotAuthentic as refused:
            return refused.reason
        return "taken"

    busy = reasons.RATE_EXCEEDED
    assert [ask("greedy", n) for n in range(6)] == ["taken"] * 4 + [busy] * 2
    assert [ask("modest", n) for n in range(3)] == ["taken", "taken", busy]
    assert [ask(name, 9, at=1301) for name in keys] == ["taken", "taken"]


@pytest.mark.parametrize("path", ["/v1/readings/V-1", "/v1/readings/V%2D1"])
def test_a_key_speaks_for_its_own_machines_only(tmp_path: Path, path: str) -> None:
    async def ask(client: Client) -> Answer:
        return await client.send(path, reading(1), {"Content-Type": JSON, **client.signed(path, reading(1))})

    asyncio.run(refusal(tmp_path, 403, reasons.IDENTITY_MISMATCH, ask))


@pytest.mark.parametrize(("path", "other"), [(MANY, "V-1"), (ONE, "P-2")])
def test_one_reading_of_another_machine_refuses_the_whole_body(tmp_path: Path, path: str, other: str) -> None:
    body = lines(reading(1, equipment="P-1"), reading(2, equipment=other))
    asyncio.run(refusal(tmp_path, 403, reasons.IDENTITY_MISMATCH, lambda c: c.post(path, body, kind=NDJSON)))


def test_a_withdrawn_key_is_known_no_more_and_a_renewed_one_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with door(tmp_path, keeping()) as at:
            assert (await at.client.post(body=reading(1))).status == 200
            (tmp_path / "secret").write_bytes(b"another secret altogether")
            assert (await at.client.post(body=reading(2))).status == 401
            at.client.secret = b"another secret altogether"
            assert (await at.client.post(body=reading(2))).status == 200
            (tmp_path / "secret").unlink()
            assert (await at.client.post(body=reading(3))).status == 401

    asyncio.run(scenario())


@pytest.mark.parametrize("told_length", [True, False])
def test_an_oversize_body_is_refused(tmp_path: Path, told_length: bool) -> None:
    body = reading(1, padding="x" * 5000)

    async def ask(client: Client) -> Answer:
        async def chunks() -> AsyncIterator[bytes]:
            yield body[:3000]
            yield body[3000:]

        headers = {"Content-Type": JSON, **client.signed(ONE, body)}
        return await client.send(ONE, body if told_length else chunks(), headers)

    asyncio.run(refusal(tmp_path, 413, reasons.TOO_LARGE, ask, max_body_kib=4))


def test_more_readings_than_can_be_known_again_are_refused(tmp_path: Path) -> None:
    body = lines(*(reading(seq) for seq in range(1025)))
    asyncio.run(refusal(tmp_path, 413, reasons.TOO_LARGE, lambda client: client.post(ONE, body, kind=NDJSON)))


def test_a_compressed_body_is_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = keeping()
        async with door(tmp_path, intake) as at:
            body = gzip.compress(lines(reading(1), reading(2)))
            assert (await at.client.post(ONE, body, kind=NDJSON, Content_Encoding="gzip")).status == 200
        assert intake.seqs == [1, 2]

    asyncio.run(scenario())


def test_a_gzip_bomb_is_refused(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(5 << 20))
    asyncio.run(refusal(tmp_path, 413, reasons.COMPRESSION_BOMB, lambda c: c.post(body=bomb, Content_Encoding="gzip")))


@pytest.mark.parametrize(
    "body",
    [b"no gzip", gzip.compress(reading(1))[:-4], gzip.compress(reading(1)) + b"more"],
    ids=["none", "cut short", "with more behind"],
)
def test_a_torn_compression_is_refused(tmp_path: Path, body: bytes) -> None:
    asyncio.run(refusal(tmp_path, 400, reasons.MALFORMED_REQUEST, lambda c: c.post(body=body, Content_Encoding="gzip")))


@pytest.mark.parametrize("headers", [{"kind": "text/csv"}, {"kind": ""}, {"Content_Encoding": "br"}])
def test_an_unknown_content_type_is_refused(tmp_path: Path, headers: dict[str, str]) -> None:
    asyncio.run(refusal(tmp_path, 415, reasons.UNKNOWN_CONTENT_TYPE, lambda c: c.post(body=reading(1), **headers)))


@pytest.mark.parametrize(
    ("status", "path", "method", "body"),
    [
        (404, "/", "POST", reading(1)),
        (404, "/v1/readingsx", "POST", reading(1)),
        (405, ONE, "PUT", reading(1)),
        (400, ONE, "POST", b" \n"),
    ],
)
def test_a_request_for_something_else_is_refused(
    tmp_path: Path, status: int, path: str, method: str, body: bytes
) -> None:
    asyncio.run(
        refusal(tmp_path, status, reasons.MALFORMED_REQUEST, lambda c: c.post(path, body, kind=NDJSON, method=method))
    )


async def raw_answer(at: Door, sent: bytes) -> bytes:
    """Everything the door says to some bytes, until it closes the connection."""
    reader, writer = await asyncio.open_connection(*at.address)
    writer.write(sent)
    try:
        return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01 this is not HTTP\r\n\r\n",
        b"POST /v1/readings HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"POST /v1/readings HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 100 + b"\r\n",
        b"POST /v1/readings HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 5000 + b"\r\n\r\n",
        b"POST /v1/readings/%ff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"POST /v1/readings HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
)
def test_a_malformed_request_is_refused(tmp_path: Path, sent: bytes) -> None:
    async def scenario() -> None:
        intake = keeping()
        async with door(tmp_path, intake) as at:
            answer = await raw_answer(at, sent)
            head, _, body = answer.partition(b"\r\n\r\n")
            assert b" 400 " in head.partition(b"\r\n")[0]
            assert json.loads(body)["reason"] == reasons.MALFORMED_REQUEST
            ((source, reason, raw),) = intake.refusals
            assert (source, reason) == ("http:127.0.0.1", reasons.MALFORMED_REQUEST)
            assert raw[:8] == sent[:8]
            assert (await at.client.post(body=reading(1))).status == 200

    asyncio.run(scenario())


@pytest.mark.parametrize("requests_before", [0, 1])
def test_who_sends_the_head_of_a_request_too_slowly_is_turned_away(tmp_path: Path, requests_before: int) -> None:
    async def scenario() -> None:
        intake = keeping()
        async with door(tmp_path, intake, request_s=0.2) as at:
            reader, writer = await asyncio.open_connection(*at.address)
            for _ in range(requests_before):
                headers = {"Content-Type": JSON, **at.client.signed(ONE, reading(1))}
                head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
                length = len(reading(1))
                writer.write(f"POST {ONE} HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {length}\r\n\r\n".encode())
                writer.write(reading(1))
                assert b" 200 " in await reader.readuntil(b"]")

            async def drip() -> None:
                with contextlib.suppress(ConnectionError):
                    for byte in b"POST /v1/readings HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"a" * 200:
                        writer.write(bytes([byte]))
                        await writer.drain()
                        await asyncio.sleep(0.01)

            dripping = asyncio.create_task(drip())
            answer = await reader.read(1 << 16)
            dripping.cancel()  # a line that is closed resets who still writes, and takes what is unread with it
            head, _, body = (answer + await reader.read()).partition(b"\r\n\r\n")
            assert b" 408 " in head
            assert json.loads(body)["reason"] == reasons.TOO_SLOW
            writer.close()
        ((source, reason, raw),) = intake.refusals
        assert (source, reason, raw[:4]) == ("http:127.0.0.1", reasons.TOO_SLOW, b"POST")

    asyncio.run(scenario())


def test_who_sends_a_body_too_slowly_is_turned_away(tmp_path: Path) -> None:
    async def ask(client: Client) -> Answer:
        body = reading(1)

        async def slow() -> AsyncIterator[bytes]:
            for byte in body:
                yield bytes([byte])
                await asyncio.sleep(0.01)

        return await client.send(ONE, slow(), {"Content-Type": JSON, **client.signed(ONE, body)})

    asyncio.run(refusal(tmp_path, 408, reasons.TOO_SLOW, ask, request_s=0.1))


def test_who_goes_away_within_a_body_is_counted_and_troubles_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        intake = keeping()
        async with door(tmp_path, intake) as at:
            _, writer = await asyncio.open_connection(*at.address)
            headers = {"Content-Type": JSON, "Content-Length": "1000", **at.client.signed(ONE, reading(1))}
            head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            writer.write(f"POST {ONE} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode() + reading(1))
            await writer.drain()
            writer.close()
            await until(lambda: bool(intake.refusals))
            assert intake.refusals == [("http:127.0.0.1", reasons.MALFORMED_REQUEST, reading(1))]
            assert (await at.client.post(body=reading(1))).status == 200
            assert at.source.health()["bytes_under_way"] == 0
        assert [record for record in caplog.records if record.levelname == "ERROR"] == []

    asyncio.run(scenario())


def test_who_is_silent_is_let_go_without_a_word(tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = keeping()
        async with door(tmp_path, intake, request_s=0.1) as at:
            with contextlib.suppress(ConnectionError):
                assert await raw_answer(at, b"") == b""
            await until(lambda: at.source.health()["connections"] == 0)
        assert intake.refusals == []

    asyncio.run(scenario())


def test_connections_are_bounded_and_those_there_are_go_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = keeping()
        async with door(tmp_path, intake, max_connections=3) as at:
            assert (await at.client.post(body=reading(1))).status == 200
            idle = [await asyncio.open_connection(*at.address) for _ in range(2)]
            await until(lambda: at.source.health()["connections"] == 3)
            answer = await raw_answer(at, b"")
            assert b" 503 " in answer
            assert b"Retry-After: 1" in answer
            assert (await at.client.post(body=reading(2))).status == 200
            for _, writer in idle:
                writer.close()
        assert [refusal[1] for refusal in intake.refusals] == [reasons.BUSY]

    asyncio.run(scenario())


def test_one_address_cannot_take_all_connections_there_may_be(tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = keeping()
        async with door(tmp_path, intake, max_connections_of_one=2) as at:
            greedy = [await asyncio.open_connection(*at.address, local_addr=("127.0.0.2", 0)) for _ in range(2)]
            await until(lambda: at.source.health()["connections"] == 2)
            reader, writer = await asyncio.open_connection(*at.address, local_addr=("127.0.0.2", 0))
            assert b" 503 " in await reader.read()
            assert (await at.client.post(body=reading(1))).status == 200
            for _, each in (*greedy, (reader, writer)):
                each.close()
        assert [refusal[:2] for refusal in intake.refusals] == [("http:127.0.0.2", reasons.BUSY)]

    asyncio.run(scenario())


def test_all_bodies_together_are_bounded(tmp_path: Path) -> None:
    async def scenario() -> None:
        intake = HeldIntake()
        async with door(tmp_path, intake, max_body_kib=4, max_bodies_kib=5) as at:
            first = asyncio.create_task(at.client.post(body=reading(1, padding="x" * 3500)))
            await intake.has(1)
            second = await at.client.post(body=reading(2, padding="x" * 3500))
            assert (second.status, second.told["reason"]) == (503, reasons.BUSY)
            intake.settle(lambda _: True)
            assert (await first).status == 200
            intake.answer = told
            assert (await at.client.post(body=reading(2, padding="x" * 3500))).status == 200
            assert at.source.health()["bytes_under_way"] == 0

    asyncio.run(scenario())


def test_who_asks_before_sending_a_body_is_told_to_go_on_or_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with door(tmp_path, keeping()) as at:
            headers = {"Content-Type": JSON, "Expect": "100-continue"}
            signed = at.client.signed(ONE, reading(1))
            for more, first in ((signed, b"100 Continue"), ({}, b"401 ")):
                reader, writer = await asyncio.open_connection(*at.address)
                told = "".join(f"{k}: {v}\r\n" for k, v in {**headers, **more}.items())
                writer.write(
                    f"POST {ONE} HTTP/1.1\r\nHost: x\r\n{told}Content-Length: {len(reading(1))}\r\n\r\n".encode()
                )
                assert first in await reader.readline()
                if more:
                    writer.write(reading(1))
                    assert await reader.readline() == b"\r\n"
                    assert b"200 OK" in await reader.readline()
                writer.close()

    asyncio.run(scenario())


def test_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.server()

    async def scenario() -> None:
        intake = keeping()
        async with door(tmp_path, intake, certificate=str(certificate), key=str(key)) as at:
            at.client.scheme, at.client.ssl = "https", ssl.create_default_context(cafile=str(authority.certificate))
            assert (await at.client.post(body=reading(1))).status == 200
            at.client.scheme = "http"
            with pytest.raises((aiohttp.ClientError, ConnectionError)):
                await at.client.post(body=reading(2))
        assert intake.seqs == [1]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"listen": "8080"}, "listen"),
        ({"listen": "127.0.0.1:99999"}, "listen"),
        ({"keys": []}, "no key"),
        ({"keys": [{"id": "a", "secret_file": "missing", "equipment": ["P-*"]}]}, "missing"),
        ({"keys": [{"id": "a", "secret_file": "short", "equipment": ["P-*"]}]}, "5 bytes"),
        ({"keys": [{"id": "a", "secret_file": "long", "equipment": []}]}, "equipment"),
        ({"keys": [{"id": "a b", "secret_file": "long", "equipment": ["P-*"]}]}, "id"),
        ({"keys": [{"id": "a", "secret_file": "long", "equipment": ["P-*"]}] * 2}, "same id"),
        ({"keys": [{"id": "a", "secret": "0" * 32, "equipment": ["P-*"]}]}, "secret_file"),
        ({"certificate": "a.pem"}, "key"),
        ({"certificate": "a.pem", "key": "a.key"}, "PEM"),
        ({"max_body": 7}, "max_body_kib"),
    ],
)
def test_settings_that_can_never_work_are_refused_at_once(tmp_path: Path, wrong: dict[str, Any], says: str) -> None:
    (tmp_path / "short").write_text("short")
    (tmp_path / "long").write_bytes(SECRET)
    good = {"listen": "127.0.0.1:0", "keys": [{"id": "a", "secret_file": "long", "equipment": ["P-*"]}]}
    SPEC.open(context(tmp_path, good))
    with pytest.raises(ConfigurationError, match=says):
        SPEC.open(context(tmp_path, good | wrong))


def test_an_address_that_is_taken_is_said_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with door(tmp_path, keeping()) as at:
            with pytest.raises(ConfigurationError, match="cannot listen"):
                async with door(tmp_path, keeping(), listen=at.client.address):
                    pass

    asyncio.run(scenario())
