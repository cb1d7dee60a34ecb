"""The ray target from call to result against a bare Ray job: same command, code and inputs through Ray's own client.

Both wait for the end with the target's pauses. The bare job brings no results back, has no folder and no environment
of its own. Ray's part varies by tenths of a second, hence the rounds.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from backbone.targets import TargetContext
from benchmarks.measure import Benchmark, interleaved, line
from resources.clock import SystemClock
from resources.targets import ray as ray_target

ROUNDS = 9
PAUSE_S = 0.1
PROGRAM = "import backbone.targets, pathlib; pathlib.Path('record.json').write_text('{}'); print('done')"


def _rows() -> Iterator[str]:
    if importlib.util.find_spec("ray") is None:
        yield "| ray target | – | – | – | skipped: Ray is not installed (pip install 'hybrid-assets[ray]') |"
        return
    from tests.resources.targets.ray_cluster import RayCluster

    cluster = RayCluster()
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield from _compared(cluster.address, Path(folder))
    finally:
        cluster.stop()


def _compared(address: str, folder: Path) -> Iterator[str]:
    from ray.job_submission import JobStatus, JobSubmissionClient

    (store := folder / "store").mkdir()
    (store / "rows").write_bytes(bytes(1_000_000))
    target = ray_target.SPEC.open(TargetContext("bench", store, SystemClock(), {"address": address}))
    for package in ("backbone", "maintenance", "resources", "hybrid_assets"):
        found = importlib.util.find_spec(package)
        assert found is not None
        assert found.submodule_search_locations
        place = found.submodule_search_locations[0]
        shutil.copytree(place, folder / "code" / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(store / "rows", folder / "code" / "rows")
    bare = JobSubmissionClient(address)

    def ours() -> None:
        handle = target.launch(["{python}", "-c", PROGRAM], {}, {"rows": store / "rows"})
        while (status := target.poll(handle)).running:
            time.sleep(PAUSE_S)
        assert status.state == "succeeded", status.detail
        assert "done" in target.logs(handle)

    def peer() -> None:
        job = bare.submit_job(
            entrypoint=f'python -c "{PROGRAM}"',
            runtime_env={"working_dir": str(folder / "code")},
            entrypoint_num_cpus=1,
        )
        while not (status := bare.get_job_status(job)).is_terminal():
            time.sleep(PAUSE_S)
        assert status == JobStatus.SUCCEEDED, status
        assert "done" in bare.get_job_logs(job)

    ours_s, peer_s = interleaved(ours, peer, rounds=ROUNDS)
    yield line("ray target, call to result / bare Ray job", ours_s, peer_s, "≤ 1.2×")


SPEC = Benchmark("ray_target", _rows)
