"""The gateway's way in, less its scoring: `python -m benchmarks._mqtt_gateway PORT COUNT FOLDER VERSION`.

Source, decoding, contract check, sequences, spool with its fsync, acknowledgement: all real. It says `ready`, and at
the end what it cost.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from pathlib import Path

import uvloop

from backbone.contracts import Column, Contract, WindowRule
from benchmarks._mqtt_publisher import SENSORS
from gateway.contract_check import ContractJudge, Equipment, MachineWatch, ReadingCheck
from gateway.counters import Counters
from gateway.garbage import collect_rarely
from gateway.intake import DurableIntake
from gateway.known_letters import KnownLetters
from gateway.ports import SourceContext
from gateway.rates import Rates
from gateway.sequences import Sequences
from gateway.settings import SpoolSettings
from gateway.sources.mqtt import SPEC
from gateway.spool import Spool


def now_us() -> int:
    return time.time_ns() // 1000


def contract() -> Contract:
    key = [
        Column("equipment_id", "string", required=True, key=True),
        Column("ts", "timestamp", required=True, key=True),
    ]
    sensors = [Column(f"sensor_{n:02d}", "number", minimum=0, maximum=100) for n in range(SENSORS)]
    stuck = WindowRule("stuck_sensors", "warning", "accuracy", {"longest_run": 30})
    return Contract("pump", "1.0.0", "", "benchmark", (*key, *sensors), rules=(stuck,))


async def _serve(port: int, count: int, folder: Path, version: str) -> None:
    checked = ReadingCheck(contract(), ahead_s=600.0)
    watch = MachineWatch(contract(), checked.columns)
    judge = ContractJudge(Equipment({"pump": ["P-*"]}), {"pump": checked}, {"pump": watch})
    kept, all_kept, counters = 0, asyncio.Event(), Counters()

    def confirmed(readings: list[object], _: int) -> None:
        nonlocal kept
        kept += len(readings)
        if kept >= count:
            asyncio.get_running_loop().call_later(0, all_kept.set)  # after the acknowledgements were written

    with Spool(folder / "spool", SpoolSettings()) as spool:
        intake = DurableIntake(
            spool,
            judge,
            Sequences(),
            KnownLetters(),
            pending=50_000,
            rates=Rates(None, time.monotonic),
            counters=counters,
            kept=confirmed,  # type: ignore[arg-type]
            now_us=now_us,
        )
        given = {"url": f"mqtt://127.0.0.1:{port}", "version": 5 if version == "5" else version}
        source = SPEC.open(SourceContext("bench", "gw", folder, folder, given, now_us))
        ready = asyncio.Event()
        serving = asyncio.create_task(source.serve(intake, ready))
        await ready.wait()
        collect_rarely()
        began = resource.getrusage(resource.RUSAGE_SELF)
        print("ready", flush=True)
        await all_kept.wait()
        ended = resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime
        print(json.dumps({"cpu_s": cpu_s, "kept": kept, "counted": sum(counters.fates.values())}), flush=True)
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await intake.drain()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]))
