"""What runs of a plant tell, as the translator would, without running them: for tests and benchmarks of the index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from backbone.lineage import facets
from backbone.lineage.events import EVENT_SCHEMA, PRODUCER, Event, run_id_of, time_text
from backbone.lineage.history import Asset, ColumnSource, Dataset

NAMESPACE = "hybrid-assets"
FIRST = date(2025, 1, 1)
SENSORS = ("flow", "pressure", "vibration", "temperature")
FEATURES = tuple(f"{sensor}_{statistic}" for sensor in SENSORS for statistic in ("mean", "slope", "spread"))
_UNUSED = ("note", "tag")
"""Columns of telemetry of which nothing is made, and only a feature that no model asks for."""
_WINDOWED = (
    "telemetry",
    "telemetry_quarantine",
    "condition_features",
    "prognoses",
    "rule_assessments",
    "advisories",
    "maintenance_plan",
)


def day(n: int) -> str:
    return (FIRST + timedelta(days=n)).isoformat()


@dataclass
class ToldPlant:
    """One site of pumps. Every call is a run; versions of tables grow as Delta's do.

    Attributes:
        machines: that have readings and get answers.
        events: all so far, in order.
    """

    site: str
    machines: Sequence[str] = ("pump-01", "pump-02", "pump-03")
    root: str = "/plants/on_prem/pump"
    at: datetime = datetime(2025, 6, 1, tzinfo=UTC)
    columns: int = 0
    events: list[Event] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=dict)
    epoch: int = 0
    release: int = 0
    _runs: int = 0

    # ---- runs

    def ingest(self, *days: int) -> str:
        """Telemetry of windows, from the landing."""
        run = self._run()
        self._write(run, "telemetry", days, reads=("landing/telemetry",))
        return run

    def train(self) -> str:
        """Baseline, training set, model and release, from everything there is."""
        run = self._run()
        self._write(run, "operating_baseline", (None,), reads=("telemetry",))
        self._write(run, "training_set", (None,), reads=("condition_features", "maintenance_history"))
        self._write(run, "trained_model", (None,), reads=("training_set",))
        self.release += 1
        self._write(run, "model_release", (None,), reads=("trained_model", "operating_baseline"))
        return run

    def score(self, *days: int, instead: str | None = None, degraded: Sequence[str] = ()) -> str:
        """Features, prognoses, assessments, answers and plan of windows.

        Args:
            instead: the rules answer, for this reason, and no model is asked.
        """
        run = self._run()
        self.epoch += 1
        if instead is None:
            self._write(run, "condition_features", days, reads=("telemetry", "operating_baseline"))
            self._write(run, "prognoses", days, reads=("condition_features", "model_release"))
        self._write(run, "rule_assessments", days, reads=("condition_features",))
        answer = {
            machine: {"served_by": "rules", "fallback_reason": instead or "out_of_range"}
            if instead or machine in degraded or not self.release
            else {"served_by": f"model:v{self.release}"}
            for machine in self.machines
        }
        self._write(run, "advisories", days, reads=("prognoses", "rule_assessments"), answer=answer, because=instead)
        self._write(run, "maintenance_plan", days, reads=("advisories",))
        return run

    def refuse(self, *days: int, run: str) -> None:
        """Rows of windows that the run which stored the others has put into quarantine."""
        self._write(run, "telemetry_quarantine", days, reads=("landing/telemetry",))

    def check(self, asset: str, *days: int, passed: bool = True, **numbers: Any) -> str:
        """Two checks of windows of an asset.

        Args:
            numbers: what the second one tells: `actual`, `expected`, `params`.
        """
        run = self._run()
        for n in days:
            assertions = [
                {"assertion": name, "name": name, "success": good, "severity": "error"}
                for name, good in (("not_null", True), ("stuck_sensors", passed))
            ]
            assertions[-1] |= numbers
            found = self._dataset(asset, n, way="in")
            found["inputFacets"]["dataQualityAssertions"] = {"assertions": assertions}
            self._pair(run, "checks", asset, n, inputs=[found], outputs=[])
        return run

    def fail(self, asset: str, n: int) -> str:
        """A run in which an asset fails."""
        run = self._run()
        error = {"errorMessage": {"message": "StorageFull: no room", "programmingLanguage": "python"}}
        self._pair(run, "asset", asset, n, inputs=[], outputs=[self._dataset(asset, n, way="out")], state="FAIL",
                   more=error)  # fmt: skip
        return run

    # ---- how they are told

    def _run(self) -> str:
        self._runs += 1
        self.at += timedelta(minutes=10)
        return run_id_of(self.site, self._runs)

    def _write(
        self,
        run: str,
        asset: str,
        days: Sequence[int | None],
        *,
        reads: Sequence[str],
        answer: Mapping[str, Any] | None = None,
        because: str | None = None,
    ) -> None:
        self.versions[asset] = self.versions.get(asset, -1) + 1
        for n in days:
            more: dict[str, Any] = {}
            if asset in ("prognoses", "trained_model"):
                more["hybrid_placement"] = {"target": "worker", "location": "cloud" if n is None else "hall",
                                            "workload": "work", "candidates": [], "failedTries": []}  # fmt: skip
            if asset == "trained_model":
                moved = {"what": "pump/training_set", "from": "on_prem", "to": "cloud", "files": 1, "bytes": 1234,
                         "digest": "0" * 64, "at": time_text(self.at)}  # fmt: skip
                more["hybrid_crossings"] = {"crossings": [moved]}
            if answer is not None:
                told = {"epoch": self.epoch, "rows": len(answer), "machines": answer, "holds": True}
                more["hybrid_answer"] = facets.answer(told, because=because, instead_of=None)
            inputs = [self._dataset(read, n, way="in") for read in reads if self._there(read)]
            made = self._dataset(asset, n, way="out")
            lineage = facets.column_lineage(self._sources(asset), self._columns(asset), self._where(reads))
            if lineage is not None:
                made["facets"]["columnLineage"] = lineage
            self._pair(run, "asset", asset, n, inputs=inputs, outputs=[made], more=more)

    def _there(self, asset: str) -> bool:
        return asset in self.versions or asset == "landing/telemetry"

    def _pair(
        self,
        run: str,
        kind: str,
        asset: str,
        n: int | None,
        *,
        inputs: list[dict[str, Any]],
        outputs: list[dict[str, Any]],
        state: str = "COMPLETE",
        more: Mapping[str, Any] | None = None,
    ) -> None:
        partition = self.site if n is None else f"{day(n)}|{self.site}"
        mine = facets.orchestrator_run(run, kind, step="step", attempt=0, asset=f"pump/{asset}", partition=partition)
        for kind_of_event, said in (("START", {}), (state, dict(more or {}))):
            self.at += timedelta(milliseconds=10)
            self.events.append(
                {
                    "eventType": kind_of_event,
                    "eventTime": time_text(self.at),
                    "producer": PRODUCER,
                    "schemaURL": EVENT_SCHEMA,
                    "run": {"runId": run_id_of(run, kind, asset, n), "facets": {"hybrid_run": mine, **said}},
                    "job": {"namespace": NAMESPACE, "name": f"pump/{asset}", "facets": self._tags(asset)},
                    "inputs": inputs,
                    "outputs": outputs,
                }
            )

    @staticmethod
    def _tags(asset: str) -> dict[str, Any]:
        if asset in ("prognoses", "trained_model"):
            return {}  # placed: no code says where
        return {"tags": {"tags": [{"key": "hybrid/location", "value": "on_prem", "source": "DAGSTER"}]}}

    def _dataset(self, asset: str, n: int | None, *, way: str) -> dict[str, Any]:
        told = self._as_told(asset)
        known = Asset(f"pump/{asset}", windowed=asset in (*_WINDOWED, "landing/telemetry"))
        about = facets.dataset_facets(told, known, NAMESPACE)
        version = self.release if asset == "model_release" else self.versions.get(asset, 0)
        about["version"] = facets.version(version)
        if asset == "model_release":
            about["hybrid_model"] = {"release": self.release, "metrics": {}}
        if asset == "trained_model":
            about["hybrid_model"] = {"metrics": {}}
        if way == "out" and self.columns:
            fields = [{"name": f"column_{i}", "type": "double"} for i in range(self.columns)]
            about["schema"] = {"fields": fields}
        partition = self.site if n is None else f"{day(n)}|{self.site}"
        side = {"subset": facets.output_subset(partition)}
        if way == "in":
            side = {"subset": facets.input_subset(partition, windowed=known.windowed)}
            if asset == "landing/telemetry":
                side["hybrid_offsets"] = facets.offsets({f"batch-{n}": [0, 95, 96]}, "mqtt://broker:1883", "plant/#")
        return {"namespace": told.namespace, "name": told.name, "facets": about, f"{way}putFacets": side}

    def _as_told(self, asset: str) -> Dataset:
        source = ("mqtt://broker:1883", "plant/#") if asset == "landing/telemetry" else None
        per_site = asset not in _WINDOWED
        name = f"{self.root}/{asset}" + (f"/{self.site}" if per_site else "")
        return Dataset("file", name, layer="delta", made_from=source)

    def _where(self, reads: Sequence[str]) -> dict[str, Dataset]:
        return {f"pump/{read}": self._as_told(read) for read in reads}

    @staticmethod
    def _columns(asset: str) -> Sequence[str]:
        return {
            "telemetry": (*SENSORS, *_UNUSED),
            "condition_features": (*FEATURES, "tag_last"),
            "training_set": FEATURES,
            "prognoses": ("rul",),
            "advisories": ("action",),
        }.get(asset, ())

    @staticmethod
    def _sources(asset: str) -> dict[str, tuple[ColumnSource, ...]]:
        match asset:
            case "telemetry":
                names = (*SENSORS, *_UNUSED)
                return {n: (ColumnSource("pump/landing/telemetry", n, "DIRECT", "IDENTITY"),) for n in names}
            case "condition_features":
                sources = {name: name.partition("_")[0] for name in (*FEATURES, "tag_last")}
                return {
                    name: (ColumnSource("pump/telemetry", source, "DIRECT", "TRANSFORMATION"),)
                    for name, source in sources.items()
                }
            case "training_set":
                return {n: (ColumnSource("pump/condition_features", n, "DIRECT", "IDENTITY"),) for n in FEATURES}
            case "prognoses":
                return {"rul": tuple(ColumnSource("pump/condition_features", n, "INDIRECT", "MODEL") for n in FEATURES)}
            case "advisories":
                return {"action": (ColumnSource("pump/prognoses", "rul", "INDIRECT", "CONDITIONAL"),)}
        return {}


def by_run(events: Sequence[Event]) -> Iterator[tuple[str, list[Event]]]:
    """Events of each run of the orchestrator, as a collector reads them."""
    found: dict[str, list[Event]] = {}
    for event in events:
        found.setdefault(event["run"]["facets"]["hybrid_run"]["dagsterRunId"], []).append(event)
    yield from found.items()
