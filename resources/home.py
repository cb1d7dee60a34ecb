"""Where everything this installation keeps lies: one folder, `HYBRID_HOME`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from backbone.errors import ConfigurationError

DEFAULT_HOME = ".hybrid"

_DAGSTER_YAML = """\
# Written on the first run; yours to change.
# Both have the same files and tables as Dagster's own, which can stand here at any time: SqliteRunStorage of
# dagster._core.storage.runs, ConsolidatedSqliteEventLogStorage of dagster._core.storage.event_log. See
# docs/performance.md for what that costs.
run_storage:
  module: resources.bindings.run_storage
  class: QuickSqliteRunStorage
  config:
    base_dir: {base}/history
# One event log for all runs, so that sensors and lineage can follow it by cursor.
event_log_storage:
  module: resources.bindings.event_log
  class: QuickSqliteEventLogStorage
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
  # A run whose process was killed is noticed after this long; until then nobody answers for it.
  poll_interval_seconds: 10
  # A killed run holds its pools; without this, whatever needs them is queued for ever, the rules' answer among it.
  free_slots_after_run_end_seconds: 1
  start_timeout_seconds: 180
  cancel_timeout_seconds: 60
sensors:
  use_threads: true
  # As many as there are sensors: the ticks of some wait until there is something to do.
  num_workers: 48
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
    def sound_contracts(self) -> Path:
        """Marks of contracts that were found to hold the standard, by digest; may be deleted at any time."""
        return self.root / "sound_contracts"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def quality(self) -> Path:
        """The quality worker's socket, Data Docs, and what is remembered between judgements."""
        return self.root / "quality"

    @property
    def state_url(self) -> str:
        return os.environ.get("HYBRID_STATE_URL") or f"sqlite:///{self.root / 'state.db'}"

    def store(self, location: str) -> Path:
        return self.root / "stores" / location

    def drop_folder(self, site: str, equipment_class: str) -> Path:
        """Where people put files for the source `files`."""
        return self.root / "drop" / site / equipment_class

    @property
    def since(self) -> date:
        """The day of the first run (UTC), from which calendars of simulated plants count; today before it."""
        try:
            return date.fromisoformat((self.root / "since").read_text(encoding="utf-8").strip())
        except (FileNotFoundError, NotADirectoryError):
            return datetime.now(UTC).date()

    def prepare(self) -> Home:
        """Make the folders and, on the first run, note the day and write Dagster's instance settings."""
        for folder in (self.dagster, self.sites, self.contracts):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigurationError(
                    f"HYBRID_HOME {self.root} cannot be a home: {error.strerror}.",
                    next_step="Name a folder that can be written to, or one that does not exist yet.",
                ) from error
        _write_once(self.root / "since", f"{datetime.now(UTC).date()}\n")
        _write_once(self.dagster / "dagster.yaml", _DAGSTER_YAML.format(base=self.dagster))
        return self


def _write_once(path: Path, text: str) -> None:
    """Write a file whole, unless it is there: two processes may start at once."""
    if not path.exists():
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
