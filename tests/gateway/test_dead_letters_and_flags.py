"""All that a real gateway keeps without being able to use it, or uses and flags, over a real broker."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chaos.floor.machines import FLOWING
from gateway import reasons
from gateway.decoding import digest_of
from tests.gateway.floor import SITE, Floor, floor
from tests.gateway.mosquitto import Listener, Mosquitto, needs_mosquitto

pytestmark = [needs_mosquitto, pytest.mark.slow]
BEGAN = datetime.now(UTC) - timedelta(hours=1)


def sent(seq: int, *, at: datetime | None = None, values: str | None = None, **more: Any) -> bytes:
    """A reading, with the text of its values as given."""
    head = {"ts": (at or BEGAN + timedelta(seconds=seq)).isoformat(), "seq": seq} | more
    values = json.dumps(FLOWING | {"flow_m3_h": 100 + seq}) if values is None else values
    return (json.dumps(head)[:-1] + f', "values": {values}}}').encode()


def flow(text: str) -> str:
    return f'{{"flow_m3_h": {text}}}'


LETTERS = [
    (b'{"ts": "\xff"}', reasons.INVALID_UTF8),
    (b'{"ts": ', reasons.INVALID_JSON),
    (sent(1, values=flow("12,5")), reasons.INVALID_JSON),
    (sent(2, values=flow("NaN")), reasons.NOT_FINITE),
    (sent(3, values=flow("-Infinity")), reasons.NOT_FINITE),
    (sent(4, values=flow("1e999")), reasons.NOT_FINITE),
    (sent(5, values='{"flow_m3_h": 1, "flow_m3_h": 2}'), reasons.DUPLICATE_KEY),
    (sent(6, values=flow("[" * 5000 + "]" * 5000)), reasons.TOO_DEEP),
    (sent(7, values=flow("9" * 5000)), reasons.TOO_LONG_NUMBER),
    (sent(8, values=flow('"12,5"')), "wrong_type:flow_m3_h"),
    (sent(9, values=flow("true")), "wrong_type:flow_m3_h"),
    (sent(10, values=flow("9999")), "out_of_range:flow_m3_h"),
    (sent(11, units={"flow_m3_h": "gpm"}), reasons.UNKNOWN_UNIT),
    (sent(12, contract="99.0.0"), reasons.UNKNOWN_CONTRACT_VERSION),
    (b'{"seq": 13, "values": {}}', reasons.NOT_A_READING),
    (json.dumps({"ts": None, "seq": 14, "values": {}}).encode(), reasons.NOT_A_READING),
    (sent(100, values=flow("77")), reasons.CONFLICTING_DUPLICATE),
]
"""What P-101 sends; its reading 100 is kept before."""


@pytest.fixture
def works(tmp_path: Path, broker: Mosquitto) -> Iterator[Floor]:
    made = floor(tmp_path, f'[[gateway.sources]]\nkind = "mqtt"\nurl = "{broker.url}"')
    made.start()
    made.until(lambda: made.ask()["sources"]["mqtt-1"]["connected"])
    yield made
    made.end()


def landed(works: Floor, count: int) -> dict[str, Any]:
    works.until(lambda: works.ask()["spool"]["landed"] >= count)
    return dict(works.ask())


def table(path: Path) -> list[dict[str, Any]]:
    from deltalake import DeltaTable

    return list(DeltaTable(str(path)).to_pyarrow_table().to_pylist())


def test_what_is_no_reading_is_kept_with_its_reason_its_digest_and_who_sent_it(works: Floor, broker: Mosquitto) -> None:
    with Listener(broker.port, "nothing") as device:
        device.publish(f"hybrid/{SITE}/P-101/telemetry", sent(100))
        for payload, _ in LETTERS:
            device.publish(f"hybrid/{SITE}/P-101/telemetry", payload)
        device.publish(f"hybrid/{SITE}/X-1/telemetry", sent(0))
    wanted = [("P-101", raw, why) for raw, why in LETTERS] + [("X-1", sent(0), reasons.UNREGISTERED_EQUIPMENT)]
    told = landed(works, len(wanted) + 1)
    rows = table(works.plant.dead_letters().path)
    assert Counter((r["source"], r["raw"], r["reason"]) for r in rows) == Counter(wanted)
    assert all(r["digest"] == f"sha256:{hashlib.sha256(r['raw']).hexdigest()}" for r in rows)
    assert told["reasons"] == {f"dead_letter: {why}": n for why, n in Counter(why for *_, why in wanted).items()}
    log = [json.loads(line) for line in (works.home.root / "gateway.log").read_text().splitlines()]
    logged = {(e["source"], e["reason"], e["digest"]) for e in log if e["message"] == "dead letter"}
    assert logged == {(source, why, digest_of(raw).hex()) for source, raw, why in wanted}
    assert told["messages"] == {"kept": 1, "dead_letter": len(wanted)}
    assert works.process is not None
    assert told["pid"] == works.process.pid
    assert works.stop() == 0


def test_what_is_odd_but_usable_is_stored_and_flagged_and_a_repetition_has_no_effect(
    works: Floor, broker: Mosquitto
) -> None:
    ahead = datetime.now(UTC) + timedelta(hours=1)
    readings = [
        *(sent(n, values=json.dumps(FLOWING | {"flow_m3_h": 100 + min(n, 3)})) for n in range(20)),  # then it is stuck
        sent(20, at=BEGAN - timedelta(minutes=5)),
        sent(21, values=json.dumps(FLOWING | {"oil_level_mm": 40})),
        sent(22, at=ahead),
    ]
    with Listener(broker.port, "nothing") as device:
        for payload in [*readings, readings[3]]:
            device.publish(f"hybrid/{SITE}/P-101/telemetry", payload)
    told = landed(works, len(readings))
    assert told["messages"] == {"kept": len(readings), "duplicate": 1}
    flags = told["flags"]
    assert (flags[reasons.LATE], flags[reasons.NEW_COLUMN], flags[reasons.AHEAD_OF_CLOCK]) == (1, 1, 1)
    assert flags[reasons.STUCK] >= 1
    rows = table(works.plant.landing("pump").path("telemetry"))
    assert len(rows) == len(readings)
    (early,) = [row for row in rows if row["reading_id"].endswith("/22")]
    assert early["ts"] == ahead
    assert early["received_at"] < ahead - timedelta(minutes=55), "both times are kept"
    assert works.stop() == 0
