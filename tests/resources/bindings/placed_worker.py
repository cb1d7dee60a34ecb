"""What the tests of placed work run: it adds up the numbers it is brought, unless it is told to fail."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from backbone.errors import IntegrityError
from hybrid_assets.workers.session import Job, run_worker


def work(job: Job) -> Mapping[str, Any]:
    fails = job.pipes.get_extra("fails")
    if fails == "of itself":
        raise IntegrityError("The numbers are not what they were.", next_step="Write them again.")
    if fails == "where it runs":
        raise MemoryError("there is no memory left")
    numbers = [int(word) for word in job.input("readings").read_text(encoding="utf-8").split()]
    (job.folder / "sum.txt").write_text(str(sum(numbers)), encoding="utf-8")
    return {"sum": sum(numbers), "budget": job.pipes.get_extra("budget")}


run = partial(run_worker, work)

if __name__ == "__main__":
    run()
