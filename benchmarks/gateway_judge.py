"""What judging takes of the processor, 10,000 readings of 20 sensors of 1,000 machines: against the JSON parser alone.

Of Sparkplug's way to a message in the JSON form, against what pysparkplug offers publicly to decode the same payloads.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import orjson

from backbone.contracts import Column, Contract, WindowRule
from benchmarks.measure import Benchmark, line, paired
from gateway.contract_check import ContractJudge, Equipment, MachineWatch, ReadingCheck
from gateway.decoding import Reading, decode
from gateway.ports import Message
from gateway.sparkplug import SparkplugDecoder

READINGS, MACHINES, SENSORS = 10_000, 1_000, 20
NOON_MS = 1_735_819_200_000
LIMIT_US = 5.0
_NAMES = [f"sensor_{at:02d}" for at in range(SENSORS)]
_CONTRACT = Contract(
    "fan",
    "1.0.0",
    "",
    "reliability",
    (
        Column("equipment_id", "string", required=True, key=True),
        Column("ts", "timestamp", required=True, key=True),
        *(Column(name, "number", unit="K", role="input", minimum=0, maximum=100) for name in _NAMES),
    ),
    rules=(WindowRule("stuck_sensors", "warning", "accuracy", {"longest_run": 8}),),
)


def _rows() -> Iterator[str]:
    drawn = random.Random(7)  # noqa: S311 - values for a benchmark
    messages = [
        Message(
            "dev",
            f"F-{at % MACHINES}",
            orjson.dumps(
                {
                    "ts": f"2025-01-02T12:{at // MACHINES:02d}:00.123456Z",
                    "seq": at,
                    "session": "2025-01-02",
                    "values": {name: drawn.uniform(0, 100) for name in _NAMES},
                }
            ),
            NOON_MS * 1000,
        )
        for at in range(READINGS)
    ]
    check = ReadingCheck(_CONTRACT, ahead_s=3600.0)
    equipment = Equipment({"fan": ["F-*"]})

    def parsed() -> None:
        for message in messages:
            orjson.loads(message.payload)

    def decoded() -> None:
        for message in messages:
            decode(message.payload)

    def judged() -> None:
        judge = ContractJudge(equipment, {"fan": check}, {"fan": MachineWatch(_CONTRACT, check.columns)})
        assert all(type(judge.judge(message)) is Reading for message in messages)

    yield _line("payload decoded / orjson alone", decoded, parsed, f"≤ {LIMIT_US:g} µs")
    yield _line("decoded, held against its contract, watched / orjson alone", judged, parsed, f"≤ {2 * LIMIT_US:g} µs")
    yield _line("Sparkplug B to JSON / pysparkplug's decode", *_sparkplug(drawn), "≤ 1×")


def _line(what: str, ours: Callable[[], None], peer: Callable[[], None], limit: str) -> str:
    _, cpu = paired(ours, peer)
    each = f"{cpu.ours_s / READINGS * 1e6:.1f} µs of a processor each"
    return line(f"{READINGS:,} readings of {SENSORS} sensors, {what} ({each})", cpu.ours_s, cpu.peer_s, limit)


def _sparkplug(drawn: random.Random) -> tuple[Callable[[], None], Callable[[], None]]:
    from pysparkplug import DataType, DBirth, DData, Metric, NBirth

    bd_seq = Metric(NOON_MS, "bdSeq", DataType.INT64, value=1)
    born = NBirth(NOON_MS, 0, (bd_seq,)).encode()
    announced = tuple(Metric(NOON_MS, name, DataType.DOUBLE, value=1.0, alias=at) for at, name in enumerate(_NAMES))
    device_born = DBirth(NOON_MS, 1, announced)
    payloads = [
        DData(
            NOON_MS + at,
            (at + 2) % 256,
            tuple(Metric(None, None, DataType.DOUBLE, value=drawn.uniform(0, 100), alias=a) for a in range(SENSORS)),
        ).encode()
        for at in range(READINGS)
    ]

    def ours() -> None:
        decoder = SparkplugDecoder()
        decoder.decode("spBv1.0/plant/NBIRTH/edge", born, NOON_MS)
        decoder.decode("spBv1.0/plant/DBIRTH/edge/F-1", device_born.encode(), NOON_MS)
        found = (decoder.decode("spBv1.0/plant/DDATA/edge/F-1", payload, NOON_MS) for payload in payloads)
        assert all(len(decoded.messages) == 1 and not decoded.commands for decoded in found)

    def peer() -> None:
        for payload in payloads:
            DData.decode(payload, birth=device_born)

    return ours, peer


SPEC = Benchmark("gateway_judge", _rows)
