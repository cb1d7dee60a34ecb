"""Why an advisory exists: back to the sensor readings, at the level of data set versions, out of our own events.

A trace is a graph of steps. Each step names where and by whom it was done, what was checked of what it made, and which
versions of what it read; each of those leads to the step that wrote what was found under that version.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

from backbone.errors import UnknownName
from backbone.reasons import BLOCKED
from resources.lineage.index import LineageIndex, Step, Told, Use, Write
from resources.lineage.relay import READ
from resources.state.answers import Answer, Answers
from resources.state.database import Database
from resources.state.outbox import Outbox
from resources.state.verdicts import ANSWER_RESTS_ON

ID_FORMS = {
    "an advisory": "SITE/CLASS/EQUIPMENT/DAY, such as riverside/pump/P-103/2026-01-31, or with /eN of one attempt"
}
"""What can be traced → the form of its ids."""
_NEAR = 8
_SHOWN = 12
"""Characters of a version that is a digest or a run."""
_BATCHES_SHOWN = 3
_AT_LAST = "9999"
"""Later than the time of any event."""
_DEEPEST = 200
"""Windows that rest on the window before lead far back; no chain of ours is longer than some hundred days."""


class AdvisoryId(NamedTuple):
    """An advisory by what it is for; of several attempts the last, where no epoch is named."""

    site: str
    equipment_class: str
    equipment: str
    day: str
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """One step read what another wrote: `maker` is None where nothing recorded wrote it."""

    reader: str
    dataset: str
    asset: str
    version: str | None
    site: str | None
    day: str | None
    maker: str | None
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Made:
    """A step, what it wrote, and what was checked of that."""

    step: Step
    outputs: tuple[Use, ...]
    checks: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class StoredReadings:
    """The telemetry of a window in the version that an answer was made from; whose rows are in it, no event tells.

    Attributes:
        asset: its key, such as `pump/telemetry`.
        dataset: namespace and name.
        version: of the table, as it was read; None where that was not told.
        quarantine_version: of the table of refused rows, as the run that stored these readings left it.
        run: the orchestrator's, that stored them.
    """

    asset: str
    dataset: str
    version: int | None
    quarantine_version: int | None = None
    run: str | None = None


@dataclass(frozen=True)
class Trace:
    """Attributes:
    advisory: the answer that is traced.
    others: answers of other attempts for the same machine and window, newest first.
    made: every step on the way, by run id, nearest first.
    read_until: when a run of which events were read last changed; None where that is not known.
    recorded_later: what the plant has recorded of a later attempt than any that events tell of: it holds.
    readings: the telemetry of the advisory's own window; None where no event tells that any was read.
    forbidden_by: failed checks of severity error of the window, where they are why no model answered: what was known
        when the answer began, though what they were of may have been mended by then and not judged again.
    """

    advisory: Told
    others: tuple[Told, ...]
    made: Mapping[str, Made]
    links: tuple[Link, ...]
    sources: tuple[str, ...] = field(default=())
    read_until: datetime | None = None
    recorded_later: Answer | None = None
    readings: StoredReadings | None = None
    forbidden_by: tuple[Mapping[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return {
            "id": self.advisory.id,
            "advisory": {
                "site": self.advisory.site,
                "class": self.advisory.equipment_class,
                "equipment": self.advisory.equipment,
                "day": self.advisory.day,
                "epoch": self.advisory.epoch,
                "made_by": self.advisory.run_id,
                **self.advisory.facts,
            },
            "superseded_or_superseding": [told.id for told in self.others],
            "other_attempts": [{"id": told.id, **told.facts} for told in self.others],
            "read_until": _time(self.read_until),
            "recorded_later": _recorded(self.recorded_later),
            "forbidden_by": list(self.forbidden_by),
            "steps": [_step_dict(made) for made in self.made.values()],
            "links": [_link_dict(link) for link in self.links],
            "sources": list(self.sources),
            "readings_stored": None if self.readings is None else asdict(self.readings),
        }


def parse(text: str) -> AdvisoryId | None:
    """What an id says; None where it has not the form of one."""
    parts = text.strip().strip("/").split("/")
    if len(parts) not in (4, 5) or not all(parts):
        return None
    epoch = None
    if len(parts) == 5:
        if not (parts[4].startswith("e") and parts[4][1:].isdecimal()):
            return None
        epoch = int(parts[4][1:])
    try:
        date.fromisoformat(parts[3])
    except ValueError:
        return None
    return AdvisoryId(parts[0], parts[1], parts[2], parts[3], epoch)


def trace(index: LineageIndex, text: str) -> Trace:
    """The story of one advisory.

    Raises:
        UnknownName: no event tells of such an advisory; lists near ones and says what an id looks like.
    """
    asked = parse(text)
    answers = index.answers(*asked[:4]) if asked is not None else []
    chosen = next((a for a in answers if asked is not None and asked.epoch in (None, a.epoch)), None)
    if chosen is None:
        forms = "; ".join(f"that of {what} is {form}" for what, form in ID_FORMS.items())
        raise UnknownName(
            "id of this form" if asked is None else "advisory",
            text,
            _near(index, text, asked, answers),
            next_step=f"Of ids, {forms}. What events tell so far: hybrid lineage status.",
        )
    walk = _Walk(index)
    walk.back_from(chosen.run_id)
    others = tuple(a for a in answers if a is not chosen)
    sources = dict.fromkeys(s for link in walk.links for s in link.facts.get("made_from", ()))
    readings = _readings(index, chosen, walk)
    forbidden = _forbidden(index, chosen, walk.steps[chosen.run_id], readings) if readings is not None else ()
    links = tuple(walk.links)
    return Trace(chosen, others, walk.made(), links, tuple(sources), readings=readings, forbidden_by=tuple(forbidden))


def _forbidden(index: LineageIndex, told: Told, answered: Step, readings: StoredReadings) -> Iterator[dict[str, Any]]:
    """The failed checks of severity error that an answer's window had when the answer began."""
    if told.facts.get("fallbackReason") != BLOCKED:
        return
    folder = readings.dataset.removesuffix("telemetry")
    checks = [use for name in ANSWER_RESTS_ON for use in index.checks(f"{folder}{name}", told.site, [told.day])]
    steps = index.steps({use.run_id for use in checks})
    began = answered.began or answered.ended or ""
    known = [use for use in checks if use.run_id in steps and (steps[use.run_id].ended or "") <= began]
    last = {
        (use.asset, check["name"]): {"asset": use.asset, **check, "of_version": use.version, "checked_by": use.run_id}
        for use in sorted(known, key=lambda use: steps[use.run_id].ended or "")
        for check in use.facts.get("checks", ())
    }
    for check in last.values():
        if not check["success"] and check.get("severity") == "error":
            yield {**check, "of_machine": _of_machine(check, told.equipment)}


def _readings(index: LineageIndex, told: Told, walk: _Walk) -> StoredReadings | None:
    """The telemetry of an answer's own window, as the step nearest to the answer read it."""
    asset = f"{told.equipment_class}/telemetry"
    links = [k for k in walk.links if (k.asset, k.day) == (asset, told.day) and walk.steps[k.reader].day == told.day]
    if not links:
        return None
    # The step that answers looks only for machines that are due an answer; what it says, others have computed.
    link = next((k for k in links if k.reader != told.run_id), links[0])
    version = int(link.version) if link.version is not None and link.version.isdecimal() else None
    maker = walk.steps.get(link.maker or "")
    if maker is None:
        return StoredReadings(asset, link.dataset, version)
    refused = index.writes(f"{link.dataset}_quarantine", told.site, [told.day])
    of_run = index.steps({write.run_id for write in refused})
    numbers = [w.number for w in refused if w.run_id in of_run and of_run[w.run_id].source == maker.source]
    return StoredReadings(asset, link.dataset, version, numbers[-1] if numbers else None, maker.source)


def beside_records(found: Trace, database: Database) -> Trace:
    """A trace with how far events were read, and what the plant has recorded since: a relay lags behind it.

    Args:
        database: of the plant's state, in which the events are kept too.
    """
    times = [float(at) for at in Outbox(database).marks(f"{READ}/").values() if at]
    told = found.advisory
    recorded = Answers(database, told.site, told.equipment_class).all().get(date.fromisoformat(told.day))
    newest = max(answer.epoch for answer in (told, *found.others))
    return replace(
        found,
        read_until=datetime.fromtimestamp(max(times), UTC) if times else None,
        recorded_later=recorded if recorded is not None and recorded.epoch > newest else None,
    )


def _near(index: LineageIndex, text: str, asked: AdvisoryId | None, answers: Sequence[Told]) -> list[str]:
    """Ids that may have been meant: other attempts, other days of the machine, then machines of a similar name."""
    if answers:
        return [a.id for a in answers[:_NEAR]]
    if asked is not None:
        days = index.answers(asked.site, asked.equipment_class, asked.equipment, None)
        if days:
            ids = {f"{a.site}/{a.equipment_class}/{a.equipment}/{a.day}": a.day for a in days}
            return sorted(ids, key=lambda i: _apart(ids[i], asked.day))[:_NEAR]
    newest = {f"{s}/{c}/{e}/{last}": f"{s}/{c}/{e}" for s, c, e, _, last in index.machines()}
    wanted = "/".join(asked[:3]) if asked is not None else text
    by_name = {name.rpartition("/")[2]: i for i, name in newest.items()}
    close = [i for i, name in newest.items() if name in difflib.get_close_matches(wanted, newest.values(), _NEAR, 0.5)]
    close += [by_name[n] for n in difflib.get_close_matches(wanted.split("/")[-1], by_name, _NEAR, 0.5)]
    return list(dict.fromkeys(close))[:_NEAR] or list(newest)[:_NEAR]


def _apart(day: str, other: str) -> float:
    """Days between two dates; what is no date is far from everything."""
    try:
        return abs((date.fromisoformat(day) - date.fromisoformat(other)).days)
    except ValueError:
        return float("inf")


def what_was_found(read: Use, began: str, writes: Sequence[Write]) -> Write | None:
    """What a reader found of one window: what was written last until the version it read.

    Where versions do not grow, the very one; where none was told, what there was when the reader began.

    Args:
        began: when the reader did.
        writes: of that window, oldest version first.
    """
    for write in reversed(writes):
        if read.number is not None and write.number is not None:
            fits = write.number <= read.number
        elif read.version is not None:
            fits = write.version == read.version
        else:
            fits = write.at <= began
        if fits:
            return write
    return None


class _Walk:
    """Goes back level by level, with a few queries a level however many steps there are on it."""

    def __init__(self, index: LineageIndex) -> None:
        self._index = index
        self.steps: dict[str, Step] = {}
        self.links: list[Link] = []
        self._outputs: defaultdict[str, list[Use]] = defaultdict(list)

    def back_from(self, run_id: str) -> None:
        level = [run_id]
        for _ in range(_DEEPEST):
            level = [r for r in dict.fromkeys(level) if r not in self.steps]
            if not level:
                return
            found = self._index.steps(level)
            self.steps |= {r: found[r] for r in level if r in found}
            inputs = []
            for use in self._index.uses_of(level, ("in", "out")):
                if use.way == "out":
                    self._outputs[use.run_id].append(use)
                else:
                    inputs.append(use)
            level = self._makers(inputs)

    def _makers(self, inputs: Sequence[Use]) -> list[str]:
        """The steps that wrote what was read; notes a link for each."""
        groups: defaultdict[tuple[str, str | None, bool], list[Use]] = defaultdict(list)
        for use in inputs:
            whole_site = use.day is None and self.steps[use.run_id].day is None
            groups[(use.dataset, use.site, whole_site)].append(use)
        makers = []
        for (dataset, site, whole_site), uses in groups.items():
            days = None if whole_site else list(dict.fromkeys(use.day for use in uses))
            by_day: defaultdict[str | None, list[Write]] = defaultdict(list)
            for write in self._index.writes(dataset, site, days):
                by_day[write.day].append(write)
            for use in uses:
                began = self.steps[use.run_id].began or self.steps[use.run_id].ended or ""
                found = [what_was_found(use, began, by_day[d]) for d in (list(by_day) if whole_site else [use.day])]
                mine = [write for write in found if write is not None and write.run_id != use.run_id]
                facts = (use.version, site)
                for write in mine:
                    link = Link(use.run_id, dataset, use.asset, *facts, write.day, write.run_id, use.facts)
                    self.links.append(link)
                    makers.append(write.run_id)
                if not mine:
                    self.links.append(Link(use.run_id, dataset, use.asset, *facts, use.day, None, use.facts))
        return makers

    def made(self) -> dict[str, Made]:
        """Every step, with the last verdict of each check on what it wrote: of what was found under that version."""
        wanted: defaultdict[tuple[str, str | None], set[str | None]] = defaultdict(set)
        for uses in self._outputs.values():
            for use in uses:
                wanted[(use.dataset, use.site)].add(use.day)
        verdicts: defaultdict[tuple[str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
        for (dataset, site), days in wanted.items():
            checks = self._index.checks(dataset, site, list(days))
            if not checks:
                continue
            written: defaultdict[str | None, list[Write]] = defaultdict(list)
            for write in self._index.writes(dataset, site, list({use.day for use in checks})):
                written[write.day].append(write)
            for use in checks:
                judged = what_was_found(use, _AT_LAST, written[use.day])
                if judged is not None:
                    of = {"of_version": use.version, "checked_by": use.run_id}
                    verdicts[judged.run_id, dataset] |= {c["name"]: {**c, **of} for c in use.facts.get("checks", ())}
        return {
            run_id: Made(
                step,
                tuple(outs := self._outputs[run_id]),
                tuple(check for out in outs for check in verdicts[run_id, out.dataset].values()),
            )
            for run_id, step in self.steps.items()
        }


# ---- as JSON


def _time(at: datetime | None) -> str | None:
    return None if at is None else f"{at:%Y-%m-%dT%H:%M:%S}Z"


def _recorded(answer: Answer | None) -> dict[str, Any] | None:
    if answer is None:
        return None
    return {"epoch": answer.epoch, "answered_at": _time(answer.answered_at), "served_by": dict(answer.served_by)}


def _step_dict(made: Made) -> dict[str, Any]:
    step = made.step
    return {
        "run_id": step.run_id,
        "dagster_run_id": step.source,
        "asset": step.asset,
        "site": step.site,
        "day": step.day,
        "attempt": step.attempt,
        "state": step.state,
        "began": step.began,
        "ended": step.ended,
        **_told(step.facts),
        "outputs": [
            {"dataset": use.dataset, "version": use.version, **{k: v for k, v in use.facts.items() if k != "checks"}}
            for use in made.outputs
        ],
        "checks": list(made.checks),
    }


def _told(facts: Mapping[str, Any]) -> dict[str, Any]:
    names = {
        "hybrid_placement": "placement",
        "hybrid_crossings": "crossings",
        "hybrid_answer": "answer",
        "hybrid_notMade": "not_made",
        "errorMessage": "error",
    }
    found = {names[n]: value for n, value in facts.items() if n in names}
    found["location"] = _where_made(facts)
    if "crossings" in found:
        found["crossings"] = found["crossings"].get("crossings", [])
    return found


def _where_made(facts: Mapping[str, Any]) -> str | None:
    """The location that work was placed at, else the one where its asset is made."""
    at = facts.get("hybrid_placement", {}).get("location") or facts.get("location")
    return None if at is None else str(at)


def _of_machine(check: Mapping[str, Any], equipment: str) -> dict[str, float]:
    """What a failed check has measured of one machine."""
    end = f" of {equipment}"
    return {n.removesuffix(end): value for n, value in check.get("numbers", {}).items() if n.endswith(end)}


def _link_dict(link: Link) -> dict[str, Any]:
    return {
        "reader": link.reader,
        "asset": link.asset,
        "dataset": link.dataset,
        "version": link.version,
        "site": link.site,
        "day": link.day,
        "maker": link.maker,
        **{k: v for k, v in link.facts.items() if k != "checks"},
    }


# ---- for people


def lines(found: Trace) -> list[str]:
    """The trace as a tree: what is made from what, windows of one kind taken together."""
    told = found.advisory
    by = told.facts.get("servedBy")
    reason = told.facts.get("fallbackReason")
    failed = dict.fromkeys(f"{check['name']} of {check['asset']}" for check in found.forbidden_by)
    why = f" because {reason}" + (f": {', '.join(failed)}" if failed else "") if reason else ""
    out = [f"{told.id}: {said(told.facts)}" + (f" (says {by}{why})" if by else "")]
    for check in found.forbidden_by:
        measured = "".join(f"; {told.equipment}: {name} {value:.4g}" for name, value in check["of_machine"].items())
        out.append(f"  {check['name']} failed: {check.get('actual', 'no numbers are told')}{measured}")
        if check.get("expected"):
            out.append(f"    it asks: {check['expected']}")
    if found.recorded_later is not None:
        later = found.recorded_later
        who = ", ".join(f"{name} {n}" for name, n in later.served_by.items())
        out.append(
            f"  e{later.epoch} of {_time(later.answered_at)} ({who or 'nobody'}) holds in place of this; "
            "its events are not read yet: hybrid lineage relay"
        )
    if found.others:
        newer = [o for o in found.others if o.epoch > told.epoch]
        state = "superseded by" if newer else "supersedes"
        out += [f"  {state} {_attempt(o)}" for o in (newer[-1:] or found.others[:3])]
    out.append(f"  events read up to {_time(found.read_until) or 'a time that no relay has noted'}")
    out += _Tree(found).lines([told.run_id], "")
    if found.sources:
        out.append(f"source: {', '.join(found.sources)}")
    return out


def _attempt(told: Told) -> str:
    by, reason = told.facts.get("servedBy"), told.facts.get("fallbackReason")
    because = f" because {reason}" if reason else ""
    return f"{told.id}: {said(told.facts)}" + (f" (says {by}{because})" if by else "")


def said(facts: Mapping[str, Any]) -> str:
    """What a machine was told, as part of a sentence. Answers of old say `None.` where there is nothing to do."""
    action = str(facts.get("action") or "").rstrip(".")
    action = "nothing to do" if action == "None" else action[:1].lower() + action[1:]
    return ", ".join(part for part in (str(facts.get("severity") or ""), action) if part) or "advisory"


class _Tree:
    def __init__(self, found: Trace) -> None:
        self._made = found.made
        self._links: defaultdict[str, list[Link]] = defaultdict(list)
        for link in found.links:
            self._links[link.reader].append(link)
        self._shown: set[str] = set()

    def lines(self, run_ids: Sequence[str], indent: str, read: str = "") -> list[str]:
        """One kind of step, over one or more windows, and what it was made from.

        Args:
            read: in which versions it was read, where it was.
        """
        made = [self._made[r] for r in run_ids if r in self._made]
        new = [m for m in made if m.step.run_id not in self._shown]
        head = f"{indent}{'← ' if read or indent else ''}{_title(made, read)}"
        if not new:
            return [f"{head} (see above)"]
        self._shown |= {m.step.run_id for m in made}
        inner = indent + "    "
        out = [head, *(f"{inner}{line}" for line in _details(made))]
        groups: defaultdict[str, list[Link]] = defaultdict(list)
        for m in new:
            for link in self._links[m.step.run_id]:
                groups[link.asset or link.dataset].append(link)
        for asset, links in groups.items():
            versions = _span([link.version for link in links])
            makers = list(dict.fromkeys(link.maker for link in links if link.maker in self._made))
            if makers:
                out += self.lines([m for m in makers if m is not None], inner, versions)
            else:
                out.append(f"{inner}← {asset}{versions}{_windows(link.day for link in links)}")
                out += self._unmade(links, inner + "    ")
        return out

    @staticmethod
    def _unmade(links: Sequence[Link], indent: str) -> list[str]:
        batches = [b for link in links for b in link.facts.get("hybrid_offsets", {}).get("batches", ())]
        out = [
            f"{indent}batch {short_batch(b['batch'])}: {b['rows']} rows, {b['first']} to {b['last']}" for b in batches
        ]
        if len(batches) > _BATCHES_SHOWN:
            out = [f"{indent}{len(batches)} batches: {sum(b['rows'] for b in batches):,} rows"]
        sources = dict.fromkeys(s for link in links for s in link.facts.get("made_from", ()))
        out += [f"{indent}← {source}" for source in sources]
        return out or [f"{indent}(no recorded run wrote it)"]


def _title(made: Sequence[Made], read: str) -> str:
    step = made[0].step
    versions = read or _span([use.version for m in made for use in m.outputs])
    when = f", {step.ended[:19]}Z" if len(made) == 1 and step.ended else ""
    runs = list(dict.fromkeys(m.step.source for m in made))
    run = f"run {runs[0][:8]}" if len(runs) == 1 else f"{len(runs)} runs"
    facts = [m.step.facts for m in made]
    places = list(dict.fromkeys(f["location"] for f in facts if "location" in f and "hybrid_placement" not in f))
    at = f" at {', '.join(places)}" if places else ""
    return f"{step.asset}{versions}{_windows(m.step.day for m in made)}{at}: {run}{when}"


def _details(made: Sequence[Made]) -> list[str]:
    """Where, what crossed, who answered, what was checked."""
    facts = [m.step.facts for m in made]
    out = [*_placed(facts), *_crossed(facts)]
    models = [use.facts["hybrid_model"] for m in made for use in m.outputs if "hybrid_model" in use.facts]
    out += [f"release v{release}" for release in dict.fromkeys(m["release"] for m in models if m.get("release"))]
    answers = [f["hybrid_answer"] for f in facts if "epoch" in f.get("hybrid_answer", {})]
    if len(made) == 1 and answers:
        answer = answers[0]
        served = answer.get("servedBy") or {}
        by = ": " + ", ".join(f"{who} {n}" for who, n in served.items()) if served else ""
        because = f", in place of a run that gave none: {answer['because']}" if answer.get("because") else ""
        if answer.get("because") == BLOCKED:
            because = ", in place of the model's answer, which a check forbade"
        out.append(f"epoch {answer['epoch']}{by}{because}")
    checks = [c for m in made for c in m.checks]
    failed = [c for c in checks if not c["success"]]
    if checks:
        out.append(f"checks: {len(checks) - len(failed)} passed" + (f", {len(failed)} failed" if failed else ""))
    for name, severity in dict.fromkeys((c["name"], c.get("severity", "")) for c in failed):
        same = [c for c in failed if c["name"] == name]
        seen = f": {same[0]['actual']}" if "actual" in same[0] else ""
        out.append(f"  ✗ {name} ({severity})" + (f" in {len(same)} windows" if len(same) > 1 else seen))
    return out


def _placed(facts: Sequence[Mapping[str, Any]]) -> list[str]:
    placed = [f["hybrid_placement"] for f in facts if "hybrid_placement" in f]
    out = []
    for target, location in dict.fromkeys((p["target"], p["location"]) for p in placed):
        failed = [t for p in placed if p["target"] == target for t in p.get("failedTries", ())]
        before = f", after {failed[0]['target']} failed: {failed[0]['why']}" if failed else ""
        out.append(f"ran at {location} on {target}{before}")
        others = (c for p in placed if (p["target"], p["location"]) == (target, location) for c in p["candidates"])
        refused = {c["target"]: c["rejected"][0]["why"] for c in others if c.get("rejected")}
        out += [f"  not on {name}: {why}" for name, why in refused.items()]
    return out


def _crossed(facts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Windows of one step share what crossed for it: each crossing counts once."""
    once = {
        (c["what"], c["from"].partition(":")[0], c["to"].partition(":")[0], c["digest"], c["at"]): c["bytes"]
        for f in facts
        for c in f.get("hybrid_crossings", {}).get("crossings", ())
    }
    total: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    for (what, source, destination, *_), size in once.items():
        total[(what, source, destination)] += size
    return [f"crossed {source} → {to}: {what}, {size:,} bytes" for (what, source, to), size in total.items()]


def _windows(days: Iterable[str | None]) -> str:
    named = sorted({d for d in days if d is not None})
    if not named:
        return ""
    return f" of {named[0]}" if len(named) == 1 else f" of {named[0]}..{named[-1]} ({len(named)} windows)"


def short_batch(batch: str) -> str:
    """A batch that is named by its digest, as its beginning; others say in words what they are."""
    kind, _, digest = batch.partition(":")
    return f"{kind}:{digest[:_SHOWN]}…" if kind == "sha256" and len(digest) > _SHOWN else batch


def _span(versions: Sequence[str | None]) -> str:
    named = [v if len(v) <= _SHOWN else f"{v[:_SHOWN]}…" for v in dict.fromkeys(versions) if v is not None]
    if not named:
        return ""
    if len(named) == 1:
        return f" @{named[0]}"
    if all(v.isdecimal() for v in named):
        return f" @{min(named, key=int)}–{max(named, key=int)}"
    return f" @{named[0]} and {len(named) - 1} more"
