"""A code location whose runs start warm, for `test_warm_runs.py`."""

import os
import sys
import time

import dagster as dg

from resources.bindings.warm_runs import start_runs_warm

# Stands for what is slow to import; the process of a run has it before it imports this module.
AHEAD = "wave"
FOUND = AHEAD in sys.modules


@dg.op
def works(context: dg.OpExecutionContext) -> None:
    context.log.info(f"found={FOUND} pid={os.getpid()}")
    for _ in range(int(context.run.tags.get("steps", "0"))):
        time.sleep(0.1)


@dg.job(executor_def=dg.in_process_executor)
def work() -> None:
    works()


start_runs_warm([AHEAD])
defs = dg.Definitions(jobs=[work])
