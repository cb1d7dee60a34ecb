"""A Job on a Kubernetes cluster. The location's store is a volume that the cluster mounts; the code is in the image."""

from __future__ import annotations

import codecs
import os
import signal
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from backbone.bounded_calls import within
from backbone.errors import ConfigurationError, TargetFailed, TargetUnreachable
from backbone.settings import settings_from
from backbone.targets import SCRATCH, WORK, ComputeTarget, TargetContext, TargetSpec, TargetStatus

T = TypeVar("T")

HANDLE_LABEL = "hybrid-assets/handle"
_CONTAINER = "work"
_STOP_S = 30.0
"""How long the cluster may take to end a work: twice the grace its pods have, and some for the API."""
_GRACE_S = 5
_UNSURE_S = 60.0
_HOPELESS = (
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "InvalidImageName",
    "RunContainerError",
)
"""Reasons for which a container waits that no patience mends."""

Positive = Annotated[float, Field(gt=0)]
Amount = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class _Toleration:
    key: str
    operator: str = "Exists"
    value: str = ""
    effect: str = ""


@dataclass(frozen=True)
class _Settings:
    """See docs/targets.md."""

    image: str
    claim: str
    kubeconfig: str = ""
    context: str = ""
    namespace: str = "default"
    mount_path: str = "/store"
    python: str = "python"
    service_account: str = ""
    run_as_user: Annotated[int, Field(gt=0)] = 1000
    cpu: Positive = 1.0
    memory_gb: Positive = 2.0
    gpus: Annotated[int, Field(ge=0)] = 0
    gpu_resource: str = "nvidia.com/gpu"
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[_Toleration, ...] = ()
    deadline_s: Annotated[int, Field(gt=0)] = 4 * 3600
    pending_s: Positive = 300.0
    ttl_s: Annotated[int, Field(ge=0)] = 24 * 3600
    request_timeout_s: Positive = 10.0

    def __post_init__(self) -> None:
        if not self.mount_path.startswith("/") or self.mount_path == "/":
            raise ConfigurationError(
                f"mount_path is {self.mount_path!r}.", next_step="Give the absolute path of a folder, such as /store."
            )


@dataclass
class _Seen:
    """What this process knows of a work: how much of its output was read, what is still to give, how it ended."""

    read: int = 0
    kept: str = ""
    status: TargetStatus | None = None
    pending_since: float | None = None
    decoder: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))


class KubernetesTarget:
    """Work outlives who launched it: any process that knows a handle may ask for it, or end it."""

    def __init__(self, context: TargetContext, settings: _Settings) -> None:
        self._name, self._settings, self._clock = context.name, settings, context.clock
        self._store = context.store.resolve()
        self._seen: dict[str, _Seen] = {}
        self._unsure: dict[str, float] = {}

    def launch(self, command: Sequence[str], env: Mapping[str, str], inputs: Mapping[str, Path]) -> str:
        """See `backbone.targets.ComputeTarget.launch`. A program that is not there fails the work, not its launch."""
        handle = uuid.uuid4().hex
        body = self._manifest(handle, command, env, inputs)
        folder = self._store / WORK / handle
        try:
            (folder / SCRATCH).mkdir(parents=True)
            for made in (folder, folder / SCRATCH):
                # The pod's user is not ours; without its folder, the container runtime would make one that is root's.
                made.chmod(0o777)
        except OSError as error:
            raise TargetFailed(
                f"Target {self._name} could not make the work's folder: {error}.",
                next_step="See that the location's store can be written.",
            ) from error
        self._create(handle, body)
        return handle

    def poll(self, handle: str) -> TargetStatus:
        """See `backbone.targets.ComputeTarget.poll`."""
        seen = self._seen.setdefault(handle, _Seen())
        if seen.status is None:
            status = self._status(handle, seen)
            if status.running:
                return status
            seen.status = status
        return seen.status

    def cancel(self, handle: str) -> None:
        """See `backbone.targets.ComputeTarget.cancel`; returns once its pods are gone."""
        job = self._job(handle)
        if job is None or _condition(job):
            return
        seen = self._seen.setdefault(handle, _Seen())
        seen.kept += self._new_output(handle, seen)
        self._delete(handle)
        deadline = self._clock.monotonic() + _STOP_S
        while self._job(handle) is not None or self._pods(handle):
            if self._clock.monotonic() > deadline:
                raise TargetFailed(
                    f"Target {self._name}: the pods of work {handle} did not end within {_STOP_S:g} s.",
                    next_step=f"See kubectl get pods -l {HANDLE_LABEL}={handle}; a node that is gone keeps its pods.",
                )
            self._clock.sleep(0.1)
        seen.status = seen.status or TargetStatus("failed", "it was cancelled")

    def logs(self, handle: str) -> str:
        """See `backbone.targets.ComputeTarget.logs`."""
        seen = self._seen.setdefault(handle, _Seen())
        new, seen.kept = seen.kept, ""
        return new + self._new_output(handle, seen)

    def _manifest(
        self, handle: str, command: Sequence[str], env: Mapping[str, str], inputs: Mapping[str, Path]
    ) -> dict[str, Any]:
        settings = self._settings
        folder = f"{settings.mount_path}/{WORK}/{handle}"
        variables = {
            "HOME": folder,
            "TMPDIR": f"{folder}/{SCRATCH}",
            "PYTHONUNBUFFERED": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        variables |= {f"INPUT_{name.upper()}": self._mounted(name, path) for name, path in inputs.items()} | dict(env)
        resources = {"cpu": f"{settings.cpu:g}", "memory": f"{int(settings.memory_gb * 1e9)}"}
        if settings.gpus:
            resources[settings.gpu_resource] = str(settings.gpus)
        labels = {"app.kubernetes.io/managed-by": "hybrid-assets", HANDLE_LABEL: handle}
        pod: dict[str, Any] = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": _GRACE_S,
            "automountServiceAccountToken": bool(settings.service_account),
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": settings.run_as_user,
                "runAsGroup": settings.run_as_user,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": _CONTAINER,
                    "image": settings.image,
                    "command": [_literal(settings.python if p == "{python}" else p) for p in command],
                    "workingDir": folder,
                    "env": [{"name": name, "value": _literal(value)} for name, value in sorted(variables.items())],
                    # Equal requests and limits: what was asked for is there, and no neighbour takes it.
                    "resources": {"requests": resources, "limits": resources},
                    "volumeMounts": [{"name": "store", "mountPath": settings.mount_path}],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "privileged": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
            "volumes": [{"name": "store", "persistentVolumeClaim": {"claimName": settings.claim}}],
        }
        if settings.service_account:
            pod["serviceAccountName"] = settings.service_account
        if settings.node_selector:
            pod["nodeSelector"] = dict(settings.node_selector)
        if settings.tolerations:
            pod["tolerations"] = [
                {key: value for key, value in _plain(toleration).items() if value}
                for toleration in settings.tolerations
            ]
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": _job_name(handle), "namespace": settings.namespace, "labels": labels},
            "spec": {
                # One attempt: to try again, here or elsewhere, is for who placed the work to decide.
                "backoffLimit": 0,
                "activeDeadlineSeconds": settings.deadline_s,
                "ttlSecondsAfterFinished": settings.ttl_s,
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }

    def _mounted(self, name: str, path: Path) -> str:
        try:
            below = path.resolve().relative_to(self._store)
        except ValueError:
            raise TargetFailed(
                f"Target {self._name} was given {path} as input {name}, which is not in its location's store.",
                next_step=f"Bring it into {self._store} first; that is the volume the cluster mounts.",
            ) from None
        return f"{self._settings.mount_path}/{below.as_posix()}"

    def _create(self, handle: str, body: Mapping[str, Any]) -> None:
        def create() -> None:
            from kubernetes.client import ApiException

            try:
                self._call("batch", "create_namespaced_job", body=body)
            except ApiException as error:
                if error.status != 409:
                    raise

        try:
            try:
                self._told(create)
            except _Unanswered:
                # Whether it started is unknown. A name is taken once, so to ask again starts nothing twice.
                self._told(create)
        except _Unanswered:
            self._unsure[handle] = self._clock.monotonic()
            raise
        self._settle()

    def _settle(self) -> None:
        """End what was launched without our knowing: its launch failed as far as anybody was told."""
        for handle, since in list(self._unsure.items()):
            if self._job(handle) is not None:
                self._delete(handle)
                del self._unsure[handle]
            elif self._clock.monotonic() - since > _UNSURE_S:
                del self._unsure[handle]

    def _status(self, handle: str, seen: _Seen) -> TargetStatus:
        job = self._job(handle)
        if self._unsure:
            self._settle()
        if job is None:
            return TargetStatus("failed", f"target {self._name} knows no work {handle}")
        condition = _condition(job)
        if condition == "Complete":
            return TargetStatus("succeeded")
        pods = self._pods(handle)
        if condition == "Failed":
            return TargetStatus("failed", self._how_it_failed(job, pods))
        if job.metadata.deletion_timestamp is None and (why := self._stuck(pods, seen)):
            # It must not start after it was given up.
            self._delete(handle)
            return TargetStatus("failed", why)
        return TargetStatus("running")

    def _stuck(self, pods: Sequence[Any], seen: _Seen) -> str:
        """Why the work will not start, or has not for too long; empty where it runs or may yet."""
        waiting = [why for pod in pods if (why := _waits_for(pod))]
        if pods and not waiting:
            seen.pending_since = None
            return ""
        now = self._clock.monotonic()
        seen.pending_since = now if seen.pending_since is None else seen.pending_since
        for reason, message in waiting:
            if reason in _HOPELESS:
                return f"it could not start: {reason}: {message}"
        if now - seen.pending_since <= self._settings.pending_s:
            return ""
        reasons = "; ".join(f"{reason}: {message}" for reason, message in waiting) or "no pod was made for it"
        return f"it did not start within {self._settings.pending_s:g} s: {reasons}"

    def _how_it_failed(self, job: Any, pods: Sequence[Any]) -> str:
        failed = next(c for c in job.status.conditions if c.type == "Failed" and c.status == "True")
        if failed.reason == "DeadlineExceeded":
            return f"it took longer than deadline_s = {self._settings.deadline_s}"
        for pod in pods:
            for container in pod.status.container_statuses or ():
                ended = container.state.terminated
                if ended is not None and ended.exit_code != 0:
                    return self._how_it_ended(ended)
            if pod.status.reason:
                return f"{pod.status.reason}: {pod.status.message}"
        return f"{failed.reason}: {failed.message}"

    def _how_it_ended(self, ended: Any) -> str:
        code = ended.exit_code
        if ended.reason == "OOMKilled":
            return f"OOMKilled: it used more than memory_gb = {self._settings.memory_gb:g} (exit code {code})"
        if ended.reason in ("StartError", "ContainerCannotRun"):
            return f"could not start: {ended.message}"
        number = ended.signal or code - 128
        if number in set(signal.Signals):
            return f"killed by {signal.Signals(number).name} (exit code {code})"
        return f"ended with exit code {code}"

    def _job(self, handle: str) -> Any:
        return self._found("batch", "read_namespaced_job", name=_job_name(handle)) if handle.isalnum() else None

    def _pods(self, handle: str) -> Sequence[Any]:
        found = self._found("core", "list_namespaced_pod", label_selector=f"{HANDLE_LABEL}={handle}")
        return [] if found is None else list(found.items)

    def _delete(self, handle: str) -> None:
        self._found("batch", "delete_namespaced_job", name=_job_name(handle), propagation_policy="Foreground")

    def _new_output(self, handle: str, seen: _Seen) -> str:
        if not handle.isalnum():
            return ""
        try:
            pods = self._pods(handle)
            # Not decoded by the client, which takes a line that is JSON for a document of its own.
            answer = (
                self._found(
                    "core", "read_namespaced_pod_log", name=pods[0].metadata.name, container=_CONTAINER, raw=True
                )
                if pods
                else None
            )
        except TargetFailed:
            return ""
        if answer is None:
            return ""
        # A log that became shorter was rotated by its node: what it holds is new.
        new = answer[seen.read :] if len(answer) >= seen.read else answer
        seen.read = len(answer)
        return seen.decoder.decode(new)

    def _found(self, group: str, method: str, **arguments: Any) -> Any:
        """The cluster's answer; None where there is no such thing."""

        def ask() -> Any:
            from kubernetes.client import ApiException

            try:
                return self._call(group, method, **arguments)
            except ApiException as error:
                if error.status == 404:
                    return None
                raise

        return self._told(ask)

    def _call(self, group: str, method: str, *, raw: bool = False, **arguments: Any) -> Any:
        wait_s = self._settings.request_timeout_s
        api = getattr(self._apis[group], method)

        def call() -> Any:
            answer = api(
                namespace=self._settings.namespace, _request_timeout=wait_s, _preload_content=not raw, **arguments
            )
            return (answer.data if answer.status == 200 else None) if raw else answer

        return within(wait_s, call)

    def _told(self, call: Callable[[], T]) -> T:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return call()
        except (HTTPError, ConnectionError, TimeoutError) as error:
            raise _Unanswered(
                f"Target {self._name}: no answer from the cluster's API: {_short(str(error))}.",
                next_step="Check the context in the kubeconfig, and that its server can be reached from here.",
            ) from error
        except ApiException as error:
            raise TargetFailed(
                f"Target {self._name}: the cluster refused ({error.status}): {_short(error.body or error.reason)}.",
                next_step="Check the namespace, its quotas, and what the kubeconfig's user may do there.",
            ) from error

    @cached_property
    def _apis(self) -> Mapping[str, Any]:
        try:
            from kubernetes import client, config
        except ImportError as error:
            raise ConfigurationError(
                f"Target {self._name} needs the Kubernetes client: {error}.",
                next_step="Install it: pip install 'hybrid-assets[kubernetes]'.",
            ) from error
        settings = self._settings
        configuration = client.Configuration()
        inside = not settings.kubeconfig and not settings.context and "KUBERNETES_SERVICE_HOST" in os.environ
        try:
            if inside:
                config.load_incluster_config(client_configuration=configuration)
            else:
                config.load_kube_config(
                    config_file=str(Path(settings.kubeconfig).expanduser()) if settings.kubeconfig else None,
                    context=settings.context or None,
                    client_configuration=configuration,
                    persist_config=False,
                )
        except config.ConfigException as error:
            raise ConfigurationError(
                f"Target {self._name} has no way to its cluster: {error}.",
                next_step="Check kubeconfig and context; kubectl config get-contexts lists what there is.",
            ) from error
        # Retries are for who placed the work; the client's own would make every wait four times as long.
        configuration.retries = False
        api = client.ApiClient(configuration)
        return {"batch": client.BatchV1Api(api), "core": client.CoreV1Api(api)}


class _Unanswered(TargetUnreachable):
    """No answer came: whether the request had an effect is unknown."""


def _job_name(handle: str) -> str:
    return f"hybrid-{handle}"


def _literal(text: str) -> str:
    """Text as the cluster hands it on: it replaces `$(NAME)` by a variable, and `$$` by `$`."""
    return text.replace("$", "$$")


def _plain(toleration: _Toleration) -> dict[str, str]:
    return {
        "key": toleration.key,
        "operator": toleration.operator,
        "value": toleration.value,
        "effect": toleration.effect,
    }


def _condition(job: Any) -> str | None:
    """How a job ended, if it has."""
    ended = [c.type for c in job.status.conditions or () if c.status == "True" and c.type in ("Complete", "Failed")]
    return ended[0] if ended else None


def _waits_for(pod: Any) -> tuple[str, str] | None:
    """Reason and message of what keeps a pod from running."""
    if pod.status.phase not in (None, "Pending"):
        return None
    for container in pod.status.container_statuses or ():
        if container.state is not None and container.state.waiting is not None:
            return container.state.waiting.reason, container.state.waiting.message or ""
    for condition in pod.status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False":
            return condition.reason, condition.message or ""
    return "Pending", pod.status.message or "no reason is given"


def _short(text: str) -> str:
    return " ".join(text.split())[:300].rstrip(".")


def _open(context: TargetContext) -> ComputeTarget:
    return KubernetesTarget(context, settings_from(_Settings, context.settings, where=f"target {context.name}"))


SPEC = TargetSpec(
    name="kubernetes",
    summary="A Job on a Kubernetes cluster that mounts the location's store; code is in the image.",
    cannot={
        "start a cluster": "clusters are somebody else's to size and to pay for",
        "ship code": "code that runs in a cluster comes in an image, which is built, scanned and admitted elsewhere",
        "reach a store it does not mount": "inputs and results are files of one volume; nothing is copied",
        "refuse a missing program at launch": "the cluster finds out later; the work then fails and says so",
        "stream much output": "each look fetches all that was printed, and nodes keep the last 10 MiB by default",
    },
    start_s=15.0,
    settings=_Settings,
    open=_open,
    poll_s=1.0,
)
