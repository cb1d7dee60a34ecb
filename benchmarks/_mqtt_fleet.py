"""Sends readings of 1,000 fans of 20 sensors at little cost: `python -m benchmarks._mqtt_fleet PORT SITE [STEP_MS]`.

A line in, `number`, or `number rate`: so many more are sent at QoS 1, so many a second at most, the machines in turn,
STEP_MS of their own time between two of a machine, from now on (by default a second, from yesterday on); a line out,
`done`, when the broker has acknowledged them all.
"""

from __future__ import annotations

import json
import random
import socket
import struct
import sys
import time

from benchmarks._released_fans import LEVEL, MACHINES, NAMES, SPREAD

_PIECE, _UNDER_WAY = 100, 5_000
_AGO_MS = 24 * 3_600_000
"""The first reading is so old: at a second each, ten million of 1,000 machines are of three hours."""
_VARIANTS, _TICK_S = 50, 0.001


def main() -> None:
    port, site = int(sys.argv[1]), sys.argv[2]
    drawn = random.Random(3)  # noqa: S311 - values for a benchmark
    values = [
        json.dumps({n: round(drawn.gauss(LEVEL, SPREAD), 2) for n in NAMES}, separators=(",", ":")).encode()
        for _ in range(_VARIANTS)
    ]
    topics = [f"hybrid/{site}/F-{n:04d}/telemetry".encode() for n in range(MACHINES)]
    step_ms = int(sys.argv[3]) if len(sys.argv) > 3 else 1000
    ago_ms = 0 if len(sys.argv) > 3 else _AGO_MS
    first_ms, session = time.time_ns() // 1_000_000 - ago_ms, str(time.time_ns()).encode()
    broker = socket.create_connection(("127.0.0.1", port))
    connect = struct.pack("!H4sBBHH", 4, b"MQTT", 4, 2, 0, 5) + b"fleet"
    broker.sendall(bytes((0x10, len(connect))) + connect)
    broker.recv(4)
    number = 0
    acknowledged = 0.0
    # An acknowledgement is four bytes, of which some may still be under way.

    def packet(number: int) -> bytes:
        topic, seq = topics[number % MACHINES], number // MACHINES
        of = values[(number * 7 + seq) % _VARIANTS]
        payload = b'{"ts":%d,"seq":%d,"session":"%b","values":%b}' % (first_ms + seq * step_ms, seq, session, of)
        body = b"%b%b%b%b" % (struct.pack("!H", len(topic)), topic, struct.pack("!H", number % 65_000 + 1), payload)
        return struct.pack("!BBB", 0x32, len(body) % 128 | 128, len(body) // 128) + body

    for line in sys.stdin:
        first, *rates = map(int, line.split())
        until, began, before = number + first, time.perf_counter(), number
        while number < until:
            count = min(_PIECE, until - number)
            if rates:
                count = min(count, int((time.perf_counter() - began) * rates[0]) - (number - before))
                if count <= 0:
                    time.sleep(_TICK_S)
                    continue
            broker.sendall(b"".join(packet(n) for n in range(number, number + count)))
            number += count
            while number - acknowledged > _UNDER_WAY:
                acknowledged += len(broker.recv(1 << 16)) / 4
        while acknowledged < number:
            acknowledged += len(broker.recv(1 << 16)) / 4
        print("done", flush=True)


if __name__ == "__main__":
    main()
