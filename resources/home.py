"""Where everything this installation keeps lies: one folder, `HYBRID_HOME`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

DEFAULT_HOME = ".hybrid"

_DAGSTER_YAML = """\
# Written on the first run; yours to change.
run_storage:
  module: dagster._core.storage.runs
  class: SqliteRunStorage
  config:
    base_dir: {base}/history
# One event log for all runs, so that sensors and lineage can follow it by cursor.
event_log_storage:
  module: dagster._core.storage.event_log
  class: ConsolidatedSqliteEventLogStorage
  config:
    base_dir: {base}/history
schedule_storage:
  module: dagster._core.storage.schedules
  class: SqliteScheduleStorage
  config:
    base_dir: {base}/schedules
telemetry:
  enabled: false
nux:
  enabled: false
run_queue:
  dequeue_interval_seconds: 1
concurrency:
  runs:
    max_concurrent_runs: 4
    # Two runs that write the same tables conflict: one at a time.
    tag_concurrency_limits:
      - key: hybrid/writes
        value: {{applyLimitPerUniqueValue: true}}
        limit: 1
  pools:
    granularity: op
    default_limit: 1
run_monitoring:
  enabled: true
  start_timeout_seconds: 180
  cancel_timeout_seconds: 60
sensors:
  use_threads: true
  num_workers: 4
schedules:
  use_threads: true
  num_workers: 2
"""


@dataclass(frozen=True, slots=True)
class Home:
    """The layout below `HYBRID_HOME`."""

    root: Path

    @classmethod
    def from_environment(cls) -> Home:
        return cls(Path(os.environ.get("HYBRID_HOME") or DEFAULT_HOME).resolve())

    @property
    def dagster(self) -> Path:
        return self.root / "dagster"

    @property
    def sites(self) -> Path:
        """A user's own plants, one TOML each."""
        return self.root / "sites"

    @property
    def contracts(self) -> Path:
        """A user's own equipment classes, one contract each."""
        return self.root / "contracts"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def state_url(self) -> str:
        return os.environ.get("HYBRID_STATE_URL") or f"sqlite:///{self.root / 'state.db'}"

    def store(self, location: str) -> Path:
        return self.root / "stores" / location

    def drop_folder(self, site: str, equipment_class: str) -> Path:
        """Where people put files for the source `files`."""
        return self.root / "drop" / site / equipment_class

    def prepare(self) -> Home:
        """Make the folders and, on the first run, Dagster's instance settings."""
        for folder in (self.dagster, self.sites, self.contracts):
            folder.mkdir(parents=True, exist_ok=True)
        settings = self.dagster / "dagster.yaml"
        if not settings.exists():
            partial = settings.with_suffix(f".{os.getpid()}.tmp")
            partial.write_text(_DAGSTER_YAML.format(base=self.dagster), encoding="utf-8")
            partial.replace(settings)
        return self
