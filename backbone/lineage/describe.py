"""What an event says of a run, its job and its data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cached_property
from typing import Any, Literal

from backbone.lineage import facets
from backbone.lineage.events import run_id_of
from backbone.lineage.facets import Facets
from backbone.lineage.history import Asset, Backfill, Dataset, Entry, Facts, Failure, RunHistory
from backbone.lineage.naming import dimensions
from backbone.lineage.secrets import Scrubber, redacted

Made = tuple[str, str | None]
"""An asset's key, and its partition."""
Kind = Literal["backfill", "run", "step", "asset", "checks", "observation"]

_JOB_TYPES: Mapping[Kind, str] = {
    "backfill": "BACKFILL",
    "run": "JOB",
    "step": "OP",
    "asset": "ASSET",
    "checks": "ASSET_CHECK",
    "observation": "ASSET_OBSERVATION",
}
_ROWS_OF_PARTITION = "dagster/partition_row_count"
_SIZES_OF_WINDOW = "window_sizes_written"
_RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
_PARTITION = "dagster/partition"
_NOT_MADE_BECAUSE = "not_made_because"
_FLEET, _SERVES, _IN_PLACE_OF = "hybrid/fleet", "hybrid/serves", "hybrid/in_place_of"


@dataclass(frozen=True, slots=True)
class Subject:
    """One of our runs: what it is of, and what it is called.

    Attributes:
        parent: run id and job of the run above.
        makes: the assets and partitions it makes, or looks at.
        alone: it is all that its step makes, so that what the step read is what it read.
        shared: its step makes other assets too.
    """

    kind: Kind
    run_id: str
    namespace: str
    job: str
    parent: tuple[str, str] | None = None
    step: str | None = None
    attempt: int = 0
    makes: tuple[Made, ...] = ()
    alone: bool = False
    shared: bool = False

    @property
    def asset(self) -> str:
        return self.makes[0][0]

    @property
    def partition(self) -> str | None:
        return self.makes[0][1] if self.makes else None


@dataclass(frozen=True, slots=True)
class Ending:
    """How one of our runs ended.

    Attributes:
        result: what its asset told of itself; `results`, all that the assets of a step did.
        verdicts: of its checks.
        observed: what was looked at.
        not_made: what an asset that was not made told, though its step went well.
    """

    at: datetime
    failure: Failure | None = None
    result: Entry | None = None
    results: Sequence[tuple[Made, Entry]] = ()
    verdicts: Sequence[Entry] = ()
    observed: Entry | None = None
    not_made: Mapping[str, Any] | None = None


def backfill_run(backfill: Backfill) -> tuple[str, str]:
    """Run id and job of a backfill."""
    return run_id_of("backfill", backfill.id), "backfill"


class Describer:
    """Describes the runs of one history."""

    def __init__(self, history: RunHistory, facts: Facts) -> None:
        self._history, self._facts = history, facts
        above = backfill_run(history.backfill) if history.backfill is not None else None
        self._above = history.parent or above
        self._root = history.root or above or (history.run_id, history.job)
        self._scrub = Scrubber(facts.secrets)
        self._environment: dict[str, str] = {}
        self._written: dict[str, Any] = {}
        self._promised: dict[Any, Facets] = {}
        self._made_rows: dict[Made, int] = {}
        self._made_sizes: dict[Made, tuple[int, int]] = {}

    def note(self, entry: Entry) -> None:
        """Something was made: what is checked from now on is this version of it."""
        self._written |= _mapping(entry.metadata.get("writes"))
        rows = entry.metadata.get(_ROWS_OF_PARTITION)
        if entry.asset is None:
            return
        made = entry.asset, entry.partition
        if isinstance(rows, int):
            self._made_rows[made] = rows
        size = _size(entry.metadata.get(_SIZES_OF_WINDOW), self._lies(*made).name)
        if size is not None:
            self._made_sizes[made] = size

    def note_environment(self, entry: Entry) -> None:
        """A process of the run said which variables it had; where several did, the last one's value holds."""
        said = {str(name): value for name, value in entry.metadata.items() if isinstance(value, str)}
        self._environment |= redacted(said, self._scrub)

    # ---- who is who
    def run(self) -> Subject:
        return Subject("run", self._history.run_id, self._facts.namespace, self._history.job, self._above)

    def backfill(self) -> Subject | None:
        """What the run is a part of."""
        if self._history.backfill is None:
            return None
        run_id, job = backfill_run(self._history.backfill)
        return Subject("backfill", run_id, self._facts.namespace, job)

    def step(self, step: str, attempt: int, makes: Sequence[Made]) -> Subject:
        run_id = run_id_of(self._history.run_id, "step", step, attempt)
        assets = dict(reversed(makes))
        found = self._child("step", run_id, step, step, attempt, tuple(sorted(assets.items())))
        return replace(found, shared=len(assets) > 1)

    def asset(self, made: Made, step: str, attempt: int, parent: Subject | None) -> Subject:
        run_id = run_id_of(self._history.run_id, "asset", step, *made, attempt)
        found = self._child("asset", run_id, made[0], step, attempt, (made,), parent)
        return replace(found, shared=parent is not None and parent.shared)

    def checks(self, made: Made, step: str, attempt: int) -> Subject:
        run_id = run_id_of(self._history.run_id, "checks", step, *made, attempt)
        return self._child("checks", run_id, f"{made[0]}/checks", step, attempt, (made,))

    def observation(self, made: Made, step: str | None, number: int) -> Subject:
        run_id = run_id_of(self._history.run_id, "observation", *made, number)
        return self._child("observation", run_id, f"{made[0]}/observation", step, 0, (made,))

    def _child(
        self,
        kind: Kind,
        run_id: str,
        job: str,
        step: str | None,
        attempt: int,
        makes: tuple[Made, ...],
        parent: Subject | None = None,
    ) -> Subject:
        above = (parent.run_id, parent.job) if parent else (self._history.run_id, self._history.job)
        return Subject(kind, run_id, self._facts.namespace, job, above, step, attempt, makes, alone=parent is None)

    # ---- what is said of it
    def begun(self, subject: Subject) -> Mapping[str, Any]:
        """Facets, inputs and outputs of a START: what is known beforehand."""
        run = self._run_facets(subject)
        inputs = [self._input(subject, d, asset) for d, asset in self._expected(subject)]
        outputs = [self._output(subject, made, None) for made in subject.makes] if self._writes(subject) else []
        return {"run": run, "job": self._job_facets(subject), "inputs": inputs, "outputs": outputs}

    def ended(self, subject: Subject, since: datetime, end: Ending) -> Mapping[str, Any]:
        """Facets, inputs and outputs of a terminal event."""
        failure, result, results, verdicts, observed = end.failure, end.result, end.results, end.verdicts, end.observed
        run, job = self._run_facets(subject), self._job_facets(subject)
        if failure is not None:
            message, stack = self._scrub.text(failure.message), self._scrub.text(failure.stack)
            run["errorMessage"] = facets.error(Failure(failure.kind, message, stack))
        if verdicts:
            run["test"] = facets.tests(self._scrubbed(verdicts))
        seen: Mapping[str, Any] = observed.metadata if observed is not None else {}
        if end.not_made is not None and result is None and subject.kind == "asset":
            seen = {name: value for name, value in end.not_made.items() if name != _NOT_MADE_BECAUSE}
            if not seen:
                reason = str(end.not_made.get(_NOT_MADE_BECAUSE) or "The step ended well and did not make it.")
                run["hybrid_notMade"] = facets.not_made(self._scrub.text(reason))
        if observed is not None or seen:
            run["hybrid_observation"] = facets.observed(self._scrub.value(seen))
        if subject.kind == "asset":
            run |= self._of_the_work(subject, since, end.at, result)
        inputs = [
            self._input(subject, dataset, asset, result or self._reader(dataset, results), verdicts)
            for dataset, asset in self._actual(subject, result, results)
        ]
        if seen and subject.kind == "asset":  # it was looked at, and not made
            inputs.append(self._input(subject, self._lies(*subject.makes[0]), subject.asset))
        written = dict(results) | ({subject.makes[0]: result} if result else {})
        outputs: list[dict[str, Any]] = []
        if subject.kind == "asset" and (result is not None or failure is not None):
            outputs = [self._output(subject, subject.makes[0], result, self._read_from(subject, result))]
        if subject.kind == "step":
            done = {asset for asset, _ in written}
            outputs = [
                self._output(subject, made, self._newest(made[0], results))
                for made in subject.makes
                if failure is not None or made[0] in done
            ]
            if done:
                job["lineage"] = facets.explicit_lineage(self._pairs(subject, results))
        return {"run": run, "job": job, "inputs": inputs, "outputs": outputs}

    def _scrubbed(self, verdicts: Sequence[Entry]) -> list[Entry]:
        found = []
        for entry in verdicts:
            assert entry.verdict is not None
            said = replace(entry.verdict, description=self._scrub.text(entry.verdict.description))
            found.append(replace(entry, metadata=self._scrub.value(entry.metadata), verdict=said))
        return found

    # ---- runs and jobs
    def _run_facets(self, subject: Subject) -> Facets:
        history, facts = self._history, self._facts
        found: Facets = {"processing_engine": facets.engine(facts.engine, facts.engine_version, facts.product_version)}
        if subject.parent is not None:
            found["parent"] = facets.parent(subject.namespace, subject.parent, self._root)
        if (days := self._days(subject)) is not None:
            found["nominalTime"] = facets.nominal_time(*days)
        more: dict[str, Any] = {}
        if subject.kind == "run":
            found["executionParameters"] = facets.parameters(self._scrub.value(dict(history.settings)))
            found["tags"] = facets.run_tags(self._scrub.value(self._tags))
            if self._environment:
                found["environmentVariables"] = facets.environment(self._environment)
            more["backfill"] = self._backfill or history.tags.get("dagster/backfill")
            more["insteadOf"] = history.tags.get(_IN_PLACE_OF)
        if subject.kind == "backfill":
            found["hybrid_run"] = facets.orchestrator_run(None, "backfill", attempt=0, backfill=self._backfill)
            return found
        asset = subject.asset if subject.kind not in ("run", "step") else None
        partition = subject.partition if asset else None
        found["hybrid_run"] = facets.orchestrator_run(
            history.run_id,
            subject.kind,
            step=subject.step,
            attempt=subject.attempt,
            asset=asset,
            partition=partition,
            **more,
        )
        return found

    @property
    def _backfill(self) -> str | None:
        return self._history.backfill.id if self._history.backfill is not None else None

    @property
    def _tags(self) -> dict[str, str]:
        """Those that people or our own sensors gave; the orchestrator's hidden ones stay out."""
        return {k: v for k, v in self._history.tags.items() if not k.startswith(".")}

    def _days(self, subject: Subject) -> tuple[date, date] | None:
        """The windows it is of; None where it is of none."""
        tags = self._history.tags
        keys = [tags.get(name, tags.get(_PARTITION, "")) for name in _RANGE]
        if subject.kind not in ("run", "step"):
            keys = [subject.partition or ""] * 2
        first, last = (dimensions(key).get("date") for key in keys)
        return (date.fromisoformat(first), date.fromisoformat(last)) if first and last else None

    def _job_facets(self, subject: Subject) -> Facets:
        found: Facets = {"jobType": facets.job_type(_JOB_TYPES[subject.kind], self._facts.engine)}
        if subject.makes and (asset := self._facts.assets.get(subject.asset)) is not None:
            of_asset = facets.job_facets(asset)
            if subject.kind != "asset":
                of_asset.pop("documentation", None)
            if subject.kind in ("checks", "observation"):
                of_asset.pop("sourceCodeLocation", None)
            found |= of_asset
        return found

    def _of_the_work(self, subject: Subject, since: datetime, at: datetime, result: Entry | None) -> Facets:
        """Where it was done, what crossed for it, who answered."""
        found: Facets = {}
        asset = self._facts.assets.get(subject.asset)
        workload = asset.workload if asset else ""
        tries = [t for t in self._facts.tries if workload and t.workload == workload and since <= t.began <= at]
        if tries:
            found["hybrid_placement"] = self._scrub.value(facets.placement(tries, self._facts.currency))
        mine = {subject.asset}
        if asset is not None and workload:
            mine |= {*asset.upstream, f"{subject.asset.partition('/')[0]}/incumbent"}
        carried = [c for c in self._facts.crossings if c.what in mine and since <= c.at <= at]
        if carried:
            found["hybrid_crossings"] = facets.crossings(carried)
        told = result.metadata.get("answer") if result is not None else None
        if isinstance(told, Mapping):
            tags = self._history.tags
            found["hybrid_answer"] = facets.answer(told, because=tags.get(_SERVES), instead_of=tags.get(_IN_PLACE_OF))
        return found

    # ---- which data sets
    @staticmethod
    def _writes(subject: Subject) -> bool:
        return subject.kind in ("asset", "step")

    def _expected(self, subject: Subject) -> list[tuple[Dataset, str]]:
        """What it should read: data sets and the assets they hold, as the definitions say."""
        if subject.kind in ("checks", "observation"):
            return [(self._lies(subject.asset, subject.partition), subject.asset)]
        found: dict[str, tuple[Dataset, str]] = {}
        for key, partition in subject.makes:
            asset = self._facts.assets.get(key)
            found |= {up: (self._lies(up, partition), up) for up in (asset.upstream if asset else ())}
        own = {key for key, _ in subject.makes}
        return [pair for up, pair in sorted(found.items()) if up not in own]

    def _actual(
        self, subject: Subject, result: Entry | None, results: Sequence[tuple[Made, Entry]]
    ) -> list[tuple[Dataset, str]]:
        """What it did read, where it told; else what it should."""
        if subject.kind == "step":
            pairs = {d.key: (d, a) for _, e in results for d, a in self._told(e, shared=subject.shared) or ()}
            return [pairs[key] for key in sorted(pairs)] or self._expected(subject)
        told = self._told(result, shared=subject.shared)
        return self._expected(subject) if told is None else told

    def _told(self, result: Entry | None, *, shared: bool) -> list[tuple[Dataset, str]] | None:
        if result is None or not isinstance(reads := result.metadata.get("reads"), Mapping):
            return None
        known = self._facts.assets.get(result.asset or "")
        writes = _mapping(result.metadata.get("writes"))
        found = []
        for name in sorted(set(reads) - set(writes)):
            dataset, asset = self._by_name.get(name, (Dataset("file", name, layer="file", format=""), ""))
            # What a step of several assets read, not all of them are made from.
            if known is None or not shared or asset in known.upstream:
                found.append((dataset, asset))
        return found

    @cached_property
    def _by_name(self) -> dict[str, tuple[Dataset, str]]:
        return {d.name: (d, asset) for (asset, _), d in self._facts.datasets.items()}

    def _read_from(self, subject: Subject, result: Entry | None) -> dict[str, Dataset]:
        return {asset: dataset for dataset, asset in self._actual(subject, result, ()) if asset}

    def _pairs(self, subject: Subject, results: Sequence[tuple[Made, Entry]]) -> list[tuple[Dataset, list[Dataset]]]:
        pairs = []
        for key, partition in subject.makes:
            entry = self._newest(key, results)
            if entry is not None:
                one = replace(subject, kind="asset", makes=((key, partition),))
                pairs.append((self._lies(key, partition), [d for d, _ in self._actual(one, entry, ())]))
        return pairs

    @staticmethod
    def _reader(dataset: Dataset, results: Sequence[tuple[Made, Entry]]) -> Entry | None:
        """The last of a step's results that tells of having read a data set."""
        return next((e for _, e in reversed(results) if dataset.name in _mapping(e.metadata.get("reads"))), None)

    @staticmethod
    def _newest(asset: str, results: Sequence[tuple[Made, Entry]]) -> Entry | None:
        return next((entry for (key, _), entry in reversed(results) if key == asset), None)

    def _lies(self, asset: str, partition: str | None) -> Dataset:
        sites = self._sites.get(asset, {})
        site = dimensions(partition).get("site", "") if partition else self._site
        if site in sites:
            return sites[site]
        if sites:
            return sites[min(sites)]
        return Dataset(f"dagster://{self._facts.namespace}", asset, layer="", format="")

    @cached_property
    def _sites(self) -> dict[str, dict[str, Dataset]]:
        found: dict[str, dict[str, Dataset]] = {}
        for (asset, site), dataset in self._facts.datasets.items():
            found.setdefault(asset, {})[site] = dataset
        return found

    @cached_property
    def _site(self) -> str:
        """The site the run is of, as its tags say."""
        tags = self._history.tags
        partition = tags.get(_RANGE[0]) or tags.get(_PARTITION)
        return dimensions(partition)["site"] if partition else tags.get(_FLEET, "").rpartition("/")[2]

    # ---- what is said of a data set
    def _input(
        self,
        subject: Subject,
        dataset: Dataset,
        asset: str,
        result: Entry | None = None,
        verdicts: Sequence[Entry] = (),
    ) -> dict[str, Any]:
        known, told = self._facts.assets.get(asset), result.metadata if result is not None else {}
        about = facets.dataset_facets(dataset, known, self._facts.namespace)
        side: Facets = {}
        version = _mapping(told.get("reads")).get(dataset.name)
        releases = _mapping(told.get("answer")).get("releases") if dataset.kind == "MODEL" else None
        if releases:
            version = max(releases, key=lambda name: (len(name), name))
        if version is not None:
            about["version"] = facets.version(version)
        if subject.partition is not None and subject.kind != "step" and known is not None:
            side["subset"] = facets.input_subset(subject.partition, windowed=known.windowed)
        rows = _mapping(told.get("rows_read")).get(dataset.name)
        size = _size(told.get("sizes_read"), dataset.name)
        if not subject.alone and subject.kind == "asset":
            # Its step read many windows at once; of this one it read what this run had made.
            made = asset, subject.partition
            was_read = dataset.name in _mapping(told.get("reads"))
            rows, size = (self._made_rows.get(made), self._made_sizes.get(made)) if was_read else (None, None)
        statistics = facets.input_statistics(rows if isinstance(rows, int) else None, size)
        if statistics is not None:
            side["inputStatistics"] = statistics
        batches = _mapping(told.get("batches")).get(dataset.name.rpartition("/")[2])
        if batches and dataset.made_from is not None:
            side["hybrid_offsets"] = facets.offsets(batches, *dataset.made_from)
        if verdicts:
            scrubbed = self._scrubbed(verdicts)
            side["dataQualityAssertions"] = facets.assertions(scrubbed, subject.partition)
            if (metrics := facets.input_quality_metrics(scrubbed)) is not None:
                side["dataQualityMetrics"] = metrics
            told_by_checks = (e.metadata["table_version"] for e in verdicts if "table_version" in e.metadata)
            checked = next(told_by_checks, self._written.get(dataset.name))
            if checked is not None:
                about["version"] = facets.version(checked)
        return {"namespace": dataset.namespace, "name": dataset.name, "facets": about, "inputFacets": side}

    def _output(
        self,
        subject: Subject,
        made: Made,
        result: Entry | None,
        read_from: Mapping[str, Dataset] | None = None,
    ) -> dict[str, Any]:
        asset, partition = made
        dataset, known = self._lies(asset, partition), self._facts.assets.get(asset)
        about = facets.dataset_facets(dataset, known, self._facts.namespace)
        side: Facets = {}
        if subject.kind == "asset" and partition is not None:
            side["subset"] = facets.output_subset(partition)
        if result is not None:
            told = result.metadata
            written = _mapping(told.get("writes")).get(dataset.name)
            if written is not None:
                about["version"] = facets.version(written)
                if (change := facets.lifecycle(dataset, written)) is not None:
                    about["lifecycleStateChange"] = change
            if known is not None and subject.kind == "asset":
                about |= self._of_contract(known, read_from or {})
            if dataset.kind == "MODEL":
                manifest = told.get("manifest")
                about["hybrid_model"] = facets.model(told, manifest if isinstance(manifest, Mapping) else told)
            rows = self._rows(subject, told)
            if (statistics := facets.output_statistics(rows, self._size(subject, dataset, told))) is not None:
                side["outputStatistics"] = statistics
            if rows is not None:
                about["dataQualityMetrics"] = facets.quality_metrics(rows)
        return {"namespace": dataset.namespace, "name": dataset.name, "facets": about, "outputFacets": side}

    def _of_contract(self, asset: Asset, read_from: Mapping[str, Dataset]) -> Facets:
        """What is the same for every window of an asset that was made from the same data sets, made once."""
        key = asset.key, tuple(sorted((up, dataset.key) for up, dataset in read_from.items()))
        if key not in self._promised:
            found = facets.contract_facets(asset)
            columns = [c["name"] for c in asset.columns]
            lineage = facets.column_lineage(asset.column_sources, columns, read_from)
            self._promised[key] = found | ({"columnLineage": lineage} if lineage is not None else {})
        return self._promised[key]

    @staticmethod
    def _rows(subject: Subject, told: Mapping[str, Any]) -> int | None:
        """Rows of what was made: of its partition; of the whole, where that is all there is to it."""
        rows = told.get(_ROWS_OF_PARTITION) if subject.kind == "asset" else None
        if rows is None and (subject.alone or subject.kind == "step"):
            rows = told.get("rows")
        return rows if isinstance(rows, int) else None

    @staticmethod
    def _size(subject: Subject, dataset: Dataset, told: Mapping[str, Any]) -> tuple[int, int] | None:
        """Bytes and files that were added: of its window; of the whole, where that is all there is to it."""
        of_window = _size(told.get(_SIZES_OF_WINDOW), dataset.name) if subject.kind == "asset" else None
        if of_window is None and (subject.alone or subject.kind == "step"):
            return _size(told.get("sizes_written"), dataset.name)
        return of_window


def _size(sizes: Any, name: str) -> tuple[int, int] | None:
    """[bytes, files] of a data set, as somebody told it."""
    size = _mapping(sizes).get(name)
    if isinstance(size, list | tuple) and len(size) == 2 and all(isinstance(part, int) for part in size):
        return size[0], size[1]
    return None


def _mapping(value: Any) -> Mapping[str, Any]:
    """Metadata that anybody may have attached under a name of ours."""
    return value if isinstance(value, Mapping) else {}
