"""A stand-in for a Kubernetes API server on loopback: checks Jobs against the official schema, and runs them.

It speaks the five requests the target sends. A container is a process of this machine, with the environment of the
manifest and nothing else; paths below a mount are those of the folder that stands for the volume. There are no images,
users, limits, nodes or network policies here; what a kubelet would say about them is said for certain images.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

IMAGE = "registry.example/worker:1"
NOT_THERE = "registry.example/no-such-image:1"
"""Never comes: `ImagePullBackOff`."""
MISNAMED = "Registry Example"
"""No image can have this name: `InvalidImageName`."""
LEAKY = "registry.example/leaky:1"
"""Its container is killed for its memory."""
NO_NODE = "registry.example/too-large:1"
"""Fits on no node: `Unschedulable`."""


@dataclass
class _Run:
    """One Job with its pod and its process."""

    job: dict[str, Any]
    waiting: dict[str, str] | None = None
    unschedulable: bool = False
    process: subprocess.Popen[bytes] | None = None
    terminated: dict[str, Any] | None = None
    failed: dict[str, str] | None = None
    log: bytes = b""
    deleting: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def pod(self) -> str:
        return f"{self.job['metadata']['name']}-x7k2p"


class ClusterApi:
    """Use as a context manager.

    Args:
        volume: the folder that stands for the volume claim of a manifest, by its container's working directory.
    """

    def __init__(self, volume: Callable[[str], Path]) -> None:
        self.volume = volume
        self.runs: dict[str, _Run] = {}
        self.refuse: dict[str, Any] | None = None
        self.created = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> ClusterApi:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for run in self.runs.values():
            _signal(run, signal.SIGKILL)

    def kubeconfig(self, path: Path, port: int = 0) -> Path:
        """A file with two contexts: `plant` leads here, `elsewhere` to a port where nobody listens."""
        clusters = {"plant": port or self.port, "elsewhere": 1}
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "elsewhere",
                    "clusters": [
                        {"name": n, "cluster": {"server": f"http://127.0.0.1:{p}"}} for n, p in clusters.items()
                    ],
                    "users": [{"name": "me", "user": {"token": "t"}}],
                    "contexts": [{"name": n, "context": {"cluster": n, "user": "me"}} for n in clusters],
                }
            )
        )
        return path

    # What the API server does.

    def create(self, job: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        import kubernetes_validate

        if self.refuse is not None:
            return self.refuse["code"], self.refuse
        try:
            kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)
        except kubernetes_validate.ValidationError as error:
            return 422, _status(422, "Invalid", f"{'.'.join(map(str, error.path))}: {error.message}")
        name = job["metadata"]["name"]
        if name in self.runs:
            return 409, _status(409, "AlreadyExists", f'jobs.batch "{name}" already exists')
        self.created += 1
        job["metadata"] |= {"uid": name, "creationTimestamp": _now()}
        run = self.runs[name] = _Run(job)
        self._start(run)
        return 201, self.told(run)

    def delete(self, name: str, policy: str) -> tuple[int, dict[str, Any]]:
        run = self.runs.get(name)
        if run is None:
            return _not_found("jobs.batch", name)
        if policy not in ("Foreground", "Background"):
            return 400, _status(400, "BadRequest", "pods would be left behind")
        run.deleting = True
        threading.Thread(target=self._remove, args=(run, name), daemon=True).start()
        return 200, self.told(run)

    def _remove(self, run: _Run, name: str) -> None:
        _signal(run, signal.SIGTERM)
        if run.process is not None:
            grace = run.job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.process.wait(grace)
            _signal(run, signal.SIGKILL)
            run.process.wait()
        del self.runs[name]

    def _start(self, run: _Run) -> None:
        spec = run.job["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        image = container["image"]
        if image == NO_NODE:
            run.unschedulable = True
        elif image == NOT_THERE:
            run.waiting = {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{image}"'}
        elif image == MISNAMED:
            run.waiting = {"reason": "InvalidImageName", "message": f'Failed to apply default image tag "{image}"'}
        elif image == LEAKY:
            run.terminated = {"exitCode": 137, "reason": "OOMKilled"}
            run.failed = {"reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}
        else:
            threading.Thread(target=self._run, args=(run, container), daemon=True).start()

    def _run(self, run: _Run, container: dict[str, Any]) -> None:
        (mount,) = container["volumeMounts"]
        try:
            volume = self.volume(container["workingDir"])
        except ValueError:
            run.waiting = {"reason": "CreateContainerError", "message": f"no volume has {container['workingDir']}"}
            return

        def mapped(path: str) -> str:
            below = path.removeprefix(mount["mountPath"])
            return str(volume) + below if below != path and below.startswith("/") else path

        variables: dict[str, str] = {}
        for entry in container["env"]:
            variables[entry["name"]] = _expanded(entry["value"], variables)
        command = [_expanded(part, variables) for part in container["command"]]
        environment = {name: mapped(value) for name, value in variables.items()}
        try:
            run.process = subprocess.Popen(
                [sys.executable if part == "python" else part for part in command],
                cwd=mapped(container["workingDir"]),
                env={"PATH": os.defpath, "HOSTNAME": run.pod, "KUBERNETES_SERVICE_HOST": "127.0.0.1"} | environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            run.terminated = {"exitCode": 128, "reason": "StartError", "message": f"exec: {error}"}
            run.failed = {"reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}
            return
        deadline = threading.Timer(run.job["spec"]["activeDeadlineSeconds"], self._too_late, [run])
        deadline.start()
        assert run.process.stdout is not None
        while piece := os.read(run.process.stdout.fileno(), 65536):
            run.log += piece
        code = run.process.wait()
        deadline.cancel()
        # A container's processes end with its first one.
        _signal(run, signal.SIGKILL)
        run.terminated = {"exitCode": 128 - code if code < 0 else code, "reason": "Error" if code else "Completed"}
        if code and run.failed is None:
            run.failed = {"reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}

    def _too_late(self, run: _Run) -> None:
        run.failed = {"reason": "DeadlineExceeded", "message": "Job was active longer than specified deadline"}
        _signal(run, signal.SIGKILL)

    # What the API server tells.

    def told(self, run: _Run) -> dict[str, Any]:
        status: dict[str, Any] = {"active": 1}
        if run.failed and run.terminated:
            status = {"failed": 1, "conditions": [{"type": "Failed", "status": "True", **run.failed}]}
        elif run.terminated:
            status = {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}
        gone = {"deletionTimestamp": _now()} if run.deleting else {}
        return {**run.job, "metadata": {**run.job["metadata"], **gone}, "status": status}

    def pod_told(self, run: _Run) -> dict[str, Any]:
        template = run.job["spec"]["template"]
        state: dict[str, Any] = {"running": {"startedAt": _now()}}
        phase = "Running"
        if run.terminated:
            state, phase = {"terminated": run.terminated}, "Failed" if run.terminated["exitCode"] else "Succeeded"
        elif run.waiting:
            state, phase = {"waiting": run.waiting}, "Pending"
        elif run.process is None:
            state, phase = {"waiting": {"reason": "ContainerCreating"}}, "Pending"
        container = {"name": "work", "image": "i", "imageID": "i", "ready": False, "restartCount": 0, "state": state}
        status: dict[str, Any] = {"phase": phase, "containerStatuses": [container]}
        if run.unschedulable:
            why = {"reason": "Unschedulable", "message": "0/3 nodes are available: 3 Insufficient cpu."}
            status = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", **why}]}
        metadata = {"name": run.pod, "labels": template["metadata"]["labels"]}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"], "status": status}

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, dict[str, Any] | bytes]:
        """The answer to one request."""
        jobs = re.fullmatch(r"/apis/batch/v1/namespaces/([^/]+)/jobs(?:/([^/]+))?", path)
        pods = re.fullmatch(r"/api/v1/namespaces/([^/]+)/pods(?:/([^/]+)/log)?", path)
        if jobs and method == "POST":
            return self.create(body)
        if jobs and method == "DELETE":
            return self.delete(jobs[2], query.get("propagationPolicy", (body or {}).get("propagationPolicy", "")))
        if jobs and method == "GET":
            found = self.runs.get(jobs[2])
            return (200, self.told(found)) if found else _not_found("jobs.batch", jobs[2])
        if pods and method == "GET" and pods[2]:
            shown = next((run for run in list(self.runs.values()) if run.pod == pods[2]), None)
            if shown is None:
                return _not_found("pods", pods[2])
            if shown.process is None:
                return 400, _status(400, "BadRequest", 'container "work" in pod is waiting to start')
            return 200, shown.log
        if pods and method == "GET":
            key, _, value = query["labelSelector"].partition("=")
            chosen = [run for run in list(self.runs.values()) if run.job["metadata"]["labels"].get(key) == value]
            return 200, {
                "apiVersion": "v1",
                "kind": "PodList",
                "metadata": {},
                "items": list(map(self.pod_told, chosen)),
            }
        return _not_found("paths", path)


def _handler(api: ClusterApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            url = urllib.parse.urlsplit(self.path)
            said = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            query = dict(urllib.parse.parse_qsl(url.query))
            code, told = api.answer(self.command, url.path, query, json.loads(said) if said else None)
            content = told if isinstance(told, bytes) else json.dumps(told).encode()
            self.send_response(code)
            self.send_header("Content-Type", "text/plain" if isinstance(told, bytes) else "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _serve  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Nothing is told."""

    return Handler


def _expanded(text: str, variables: dict[str, str]) -> str:
    """As the API documents it: `$(NAME)` is a variable where there is one, `$$` stands for `$`."""
    return re.sub(r"\$\$|\$\((\w+)\)", lambda m: "$" if m[0] == "$$" else variables.get(m[1], m[0]), text)


def _signal(run: _Run, number: signal.Signals) -> None:
    if run.process is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.process.pid, number)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _status(code: int, reason: str, message: str) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


def _not_found(kind: str, name: str) -> tuple[int, dict[str, Any]]:
    return 404, _status(404, "NotFound", f'{kind} "{name}" not found')
