"""Runs on the cluster, beside the code and inputs it came with: starts the work, passes on its output and its results.

Standard library only: the cluster needs nothing of ours. What the work prints goes to standard output as it comes, in
whole lines of valid UTF-8. Lines of our own begin with `#<handle># `, so they can be told from those of the work:

- `begin` before the first line of the work,
- `result <base64>`: a piece of a `tar.gz` of the work's folder, where it succeeded,
- `end <JSON>` last: `error` (why there are no results) or `sha256` of the archive.

The exit code is the work's. Where a signal killed the work, this process dies of the same.
"""

from __future__ import annotations

import base64
import codecs
import contextlib
import ctypes
import hashlib
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import Any, NoReturn

JOB = "HYBRID_JOB"
"""Environment variable with the job: JSON, compressed, in base64. Its keys are `handle`, `command`, `env`, `inputs`
(name → path beside this file), `max_results_bytes` and `max_output_bytes`."""
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")
_PIECE = 48 * 1024
_LONGEST_LINE = 1 << 20
_GRACE_S = 2.0
_ORPHANS_S = 0.2
_NO_RESULTS = 70
"""Exit code where the work went well but its results cannot be sent; `EX_SOFTWARE` of sysexits.h."""
_GUARD = 'trap \'\' TERM INT HUP; read -r gone; kill -s KILL -- -"$1" 2>/dev/null; rm -rf -- "$2"'


def main() -> NoReturn:
    job = json.loads(zlib.decompress(base64.b64decode(os.environ[JOB])))
    out = _Lines(sys.stdout.buffer, job["handle"], job["max_output_bytes"])
    folder = Path(tempfile.mkdtemp(prefix="hybrid-"))
    (folder / "tmp").mkdir()
    out.own("begin")
    try:
        work = _start(job, folder)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        out.own("end", json.dumps({"error": f"could not start {job['command'][0]}: {error}"}))
        sys.exit(127)
    # Its standard input closes when this process ends, however it ends: then it ends what the work started.
    _guard = subprocess.Popen(  # noqa: S603 - fixed program, its arguments are a number and a folder of ours
        ["/bin/sh", "-c", _GUARD, "guard", str(work.pid), str(folder)], stdin=subprocess.PIPE, start_new_session=True
    )
    signal.signal(signal.SIGTERM, lambda *_: _stop(work))
    assert work.stdout is not None
    too_much = out.pass_on(work.stdout.fileno(), work)
    code = work.wait()
    _end(work.pid)
    told = _results(out, folder, job["max_results_bytes"]) if code == 0 and not too_much else {"error": too_much}
    shutil.rmtree(folder, ignore_errors=True)
    out.own("end", json.dumps({k: v for k, v in told.items() if v}))
    if code < 0 and not too_much:
        _die_of(-code)
    sys.exit(code if code > 0 else _NO_RESULTS if "sha256" not in told else 0)


def _start(job: dict[str, Any], folder: Path) -> subprocess.Popen[bytes]:
    here = Path(__file__).resolve().parent
    env = {k: os.environ[k] for k in _PASSED_ON if k in os.environ}
    env |= {"HOME": str(folder), "TMPDIR": str(folder / "tmp"), "PYTHONPATH": str(here), "PYTHONUNBUFFERED": "1"}
    env |= {"OMP_WAIT_POLICY": "PASSIVE"}
    env |= {f"INPUT_{name.upper()}": str(here / path) for name, path in job["inputs"].items()}
    env |= job["env"]
    env["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([env["PYTHONPATH"], str(here)]))
    return subprocess.Popen(  # noqa: S603 - the command is the launcher's, no shell
        [sys.executable if part == "{python}" else part for part in job["command"]],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=_end_with_parent,
    )


class _Lines:
    """Standard output, in whole lines: who reads it meanwhile never sees half a character."""

    def __init__(self, stream: Any, handle: str, most: int) -> None:
        self._stream, self._mark, self._most = stream, f"#{handle}#", most

    def own(self, word: str, rest: str = "") -> None:
        self._write(f"{self._mark} {word} {rest}".rstrip() + "\n")

    def pass_on(self, source: int, work: subprocess.Popen[bytes]) -> str:
        """Everything that is printed until the work and all it started have ended; says why they were ended, if so."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        held, total, ended = "", 0, False
        while True:
            if not select.select([source], [], [], _ORPHANS_S)[0]:
                if ended:
                    break
                if work.poll() is not None:
                    # Only what it started can still hold its output open.
                    _end(work.pid)
                    ended = True
                continue
            if not (piece := os.read(source, 1 << 16)):
                break
            total += len(piece)
            if total > self._most:
                _end(work.pid)
                return f"it printed more than max_output_mb = {self._most / 1e6:g}"
            lines, newline, held = (held + decoder.decode(piece)).rpartition("\n")
            self._write(lines + newline)
            if len(held) > _LONGEST_LINE:
                self._write(held + "\n")
                held = ""
        held += decoder.decode(b"", final=True)
        self._write(held + "\n" if held else "")
        return ""

    def _write(self, text: str) -> None:
        if text:
            self._stream.write(text.encode())
            self._stream.flush()


def _results(out: _Lines, folder: Path, most: int) -> dict[str, str]:
    """Send the folder's files, as one archive in pieces; nothing where they are too large."""
    shutil.rmtree(folder / "tmp", ignore_errors=True)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    size = sum(p.stat().st_size for p in files)
    if size > most:
        return {"error": f"it left {size / 1e6:.1f} MB of results, more than max_results_mb = {most / 1e6:g}"}
    digest = hashlib.sha256()
    with tempfile.TemporaryFile() as archive:
        # Results are mostly compressed already, or small.
        with tarfile.open(fileobj=archive, mode="w:gz", compresslevel=1) as tar:
            for path in files:
                tar.add(path, path.relative_to(folder).as_posix(), recursive=False)
        archive.seek(0)
        while piece := archive.read(_PIECE):
            digest.update(piece)
            out.own("result", base64.b64encode(piece).decode())
    return {"sha256": digest.hexdigest()}


def _stop(work: subprocess.Popen[bytes]) -> NoReturn:
    """We are asked to end: so is the work, and what does not heed it is killed."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(work.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        work.wait(_GRACE_S)
    _end(work.pid)
    _die_of(signal.SIGTERM)


def _end(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _die_of(number: int) -> NoReturn:
    sys.stdout.flush()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


if __name__ == "__main__":
    main()
