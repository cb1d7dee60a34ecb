"""Runs of a real code server that start warm end, and are ended, like others."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_representation.handle import JobHandle
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget

pytestmark = pytest.mark.slow
S = dg.DagsterRunStatus


class Location:
    """A code server with its instance."""

    def __init__(self, instance: dg.DagsterInstance, workspace: WorkspaceProcessContext) -> None:
        self.instance, self._workspace = instance, workspace

    def launch(self, **tags: str) -> str:
        """A run from the location, as the UI starts it; the id."""
        context = self._workspace.create_request_context()
        (entry,) = context.get_code_location_entries().values()
        assert entry.code_location is not None, entry.load_error
        (repository,) = entry.code_location.get_repositories().values()
        job = repository.get_full_job("work")
        plan = entry.code_location.get_execution_plan(job, {}, None, None)
        run = self.instance.create_run(
            job_name="work", run_id=None, run_config={}, status=None, tags=tags, root_run_id=None, parent_run_id=None,
            step_keys_to_execute=None, execution_plan_snapshot=plan.execution_plan_snapshot,
            job_snapshot=job.job_snapshot, parent_job_snapshot=None, remote_job_origin=job.get_remote_origin(),
            job_code_origin=job.get_python_origin(), asset_selection=None, resolved_op_selection=None,
            op_selection=None, asset_check_selection=None, asset_graph=repository.asset_graph,
        )  # fmt: skip
        assert JobHandle("work", repository.handle).job_name == "work"
        self.instance.launch_run(run.run_id, context)
        return run.run_id

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run.status

    def until(self, true: Callable[[], object], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def said(self, run_id: str) -> dict[str, str]:
        """What the step has logged of itself."""
        told = [e.user_message for e in self.instance.all_logs(run_id) if e.user_message.startswith("found=")]
        return dict(word.split("=") for word in told[0].split()) if told else {}


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Location]:
    home = tmp_path_factory.mktemp("dagster")
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    target = ModuleTarget("tests.resources.bindings.warm_location", None, str(Path(__file__).parents[3]), "here")
    with ExitStack() as stack:
        instance = stack.enter_context(dg.DagsterInstance.from_config(str(home)))
        workspace = stack.enter_context(WorkspaceProcessContext(instance, target))
        yield Location(instance, workspace)


def test_a_run_starts_with_its_imports_behind_it_in_a_process_of_its_own(location: Location) -> None:
    first, second = (location.launch() for _ in range(2))
    location.until(lambda: location.status(first) == location.status(second) == S.SUCCESS)
    assert location.said(first)["found"] == location.said(second)["found"] == "True"
    assert location.said(first)["pid"] != location.said(second)["pid"]


def test_a_run_can_be_terminated(location: Location) -> None:
    run_id = location.launch(steps="600")
    location.until(lambda: location.said(run_id))
    assert location.instance.run_launcher.terminate(run_id)
    location.until(lambda: location.status(run_id) == S.CANCELED)


def test_a_run_that_is_killed_fails(location: Location) -> None:
    run_id = location.launch(steps="600")
    location.until(lambda: location.said(run_id))
    os.kill(int(location.said(run_id)["pid"]), signal.SIGKILL)
    location.until(lambda: location.status(run_id) == S.FAILURE)
    messages = [e.message for e in location.instance.all_logs(run_id)]
    assert any("SIGKILL" in message for message in messages), messages[-3:]
