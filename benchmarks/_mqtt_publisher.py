"""A publisher that costs next to nothing: `python -m benchmarks._mqtt_publisher PORT COUNT`.

Its packets are made beforehand. It says `ready`, waits for a line, and sends at QoS 1 with at most 10,000 messages
unacknowledged; it says `done` when the broker has acknowledged all.
"""

from __future__ import annotations

import json
import random
import socket
import struct
import sys
import threading

MACHINES, SENSORS, UNDER_WAY, PIECE = 100, 16, 10_000, 100
TOPIC = "hybrid/bench/P-{:03d}/telemetry"


def reading(number: int) -> bytes:
    """One reading of 350 bytes, of one of a hundred machines in turn."""
    draw = random.Random(number)  # noqa: S311
    values = {f"sensor_{n:02d}": round(draw.uniform(10, 99), 3) for n in range(SENSORS)}
    sent = {"ts": 1_767_323_045_000 + number, "seq": number // MACHINES, "session": "s", "values": values}
    return json.dumps(sent, separators=(",", ":")).encode()


def _packet(number: int) -> bytes:
    topic = TOPIC.format(number % MACHINES).encode()
    body = struct.pack("!H", len(topic)) + topic + struct.pack("!HB", number % 65_000 + 1, 0) + reading(number)
    return struct.pack("!BBB", 0x32, len(body) % 128 | 128, len(body) // 128) + body


def main() -> None:
    port, count = int(sys.argv[1]), int(sys.argv[2])
    packets = [_packet(number) for number in range(count)]
    pieces = [b"".join(packets[at : at + PIECE]) for at in range(0, count, PIECE)]
    broker = socket.create_connection(("127.0.0.1", port))
    connect = struct.pack("!H4sBBHBH", 4, b"MQTT", 5, 2, 600, 0, 7) + b"bencher"
    broker.sendall(bytes((0x10, len(connect))) + connect)
    broker.recv(256)
    room, acknowledged = threading.Semaphore(UNDER_WAY // PIECE), threading.Event()

    def read() -> None:
        got, rest = 0, b""
        while got < count:
            rest += broker.recv(1 << 16)
            at, before = 0, got
            while at + 2 <= len(rest) and at + 2 + rest[at + 1] <= len(rest):
                at, got = at + 2 + rest[at + 1], got + 1
            rest = rest[at:]
            for _ in range(got // PIECE - before // PIECE):
                room.release()
        acknowledged.set()

    threading.Thread(target=read, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.readline()
    for piece in pieces:
        room.acquire()
        broker.sendall(piece)
    acknowledged.wait()
    print("done", flush=True)


if __name__ == "__main__":
    main()
