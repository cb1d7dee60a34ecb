"""A worker as a target runs it: says something, reads its inputs, leaves files. `PYTHONPATH` holds its folder.

Settings: `wait_for` a file before it goes on, `fail` with these words, `says` one more line.
"""

from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from hybrid_assets.workers.session import Job, run_worker


def work(job: Job) -> dict[str, Any]:
    extras = job.pipes.extras
    print("a line of its own")
    job.pipes.log.info("half way")
    if "wait_for" in extras:
        while not Path(extras["wait_for"]).exists():
            Event().wait(0.005)
    if "fail" in extras:
        raise ValueError(extras["fail"])
    if "says" in extras:
        job.pipes.log.info(extras["says"])
    (job.folder / "parts").mkdir()
    (job.folder / "parts" / "answer.txt").write_text(extras.get("answer", "42"))
    (job.folder / ".cache").write_text("nobody's")
    return {"inputs": {name: _content(path) for name, path in job.inputs.items()}, "folder": str(job.folder)}


def _content(path: Path) -> str:
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return "+".join(p.read_text() for p in files)


run = partial(run_worker, work)

if __name__ == "__main__":
    run()
