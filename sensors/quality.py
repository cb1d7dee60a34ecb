"""The quality sensor: every window that was written is judged, and where that forbids it, the model's answer goes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import dagster as dg

from backbone.errors import HybridError
from backbone.reasons import BLOCKED
from backbone.sites import Site
from backbone.windows import WindowRange
from resources.bindings.partitions import HISTORY, UNFINISHED, WRITES, in_place_tags, range_tags, run_windows
from resources.bindings.plants import Plants
from resources.plant import Plant
from resources.state.verdicts import ANSWER_RESTS_ON, WHOLE, Verdict
from sensors.fallback import ENDED_BADLY, in_a_row
from sensors.jobs import QUALITY
from sensors.waiting import looks

JUDGED = "hybrid/judges"
"""Run tag: the fleet whose windows a run judges, as `class/site`; one at a time for each."""
JUDGED_AT_ONCE = 7
"""Windows that one run judges, where the newest is among them: what has just landed must not wait for others."""
HISTORY_AT_ONCE = 31
"""Older windows that one run judges, as of a new plant: some ten seconds' work."""
_AGAIN_S, _AGAIN_MOST_S = 10.0, 600.0


def quality_sensor(
    equipment_class: str,
    sites: Sequence[Site],
    jobs: Mapping[str, Any],
    checks: Mapping[str, Sequence[dg.AssetCheckKey]],
) -> dg.SensorDefinition:
    """One sensor for every plant of a class.

    What is to be judged follows from what is stored and what was judged of it: a daemon that was down misses nothing,
    and a run that died is made again. The cursor is the version of each table when nothing was left to judge, so that
    a tick in which nothing was written reads no more than that.

    A verdict that blocks has the rules answer in the model's place, once: their answer is of a later epoch than that
    of the model, and says `blocked`. What is answered from then on is not asked of the model at all.

    Args:
        checks: product → its checks.
    """

    @dg.sensor(
        name=f"{equipment_class}_quality",
        jobs=[jobs[QUALITY], jobs["fallback"]],
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Judges every window that was written, and lets the rules answer for those that must not be used.",
    )
    def quality(context: dg.SensorEvaluationContext, plants: Plants) -> Iterator[dg.RunRequest | dg.SkipReason]:
        cursor: dict[str, Any] = json.loads(context.cursor) if context.cursor else {}
        for _ in looks():
            requests: list[dg.RunRequest] = []
            idle: list[str] = []
            for site in sites:
                try:
                    plant = plants.plant(site.name)
                    requests += answers_in_place(plant, equipment_class, jobs)
                    versions = {p: plant.table(equipment_class, p).version for p in checks}
                    if cursor.get(site.name) == versions:
                        idle.append(f"{site.name}: nothing was written")
                        continue
                    asked = [request for request in requests if HISTORY in request.tags]
                    found = to_judge(context.instance, plant, equipment_class, jobs, checks, history=not asked)
                except HybridError as error:
                    context.log.error(f"{site.name}: {error}")
                    idle.append(f"{site.name}: {error.problem}")
                    continue
                if isinstance(found, dg.RunRequest):
                    requests.append(found)
                elif found is None:
                    cursor[site.name] = versions
                    idle.append(f"{site.name}: every window is judged")
                else:
                    idle.append(f"{site.name}: {found}")
            if requests:
                break
        context.update_cursor(json.dumps(cursor))
        yield from requests
        if not requests:
            yield dg.SkipReason("; ".join(idle))

    return quality


def unjudged(plant: Plant, equipment_class: str, products: Sequence[str]) -> dict[date, list[str]]:
    """Day → the products whose window was written since it was judged, if it ever was.

    A product that is judged as a whole is due with the newest window.
    """
    from resources.stores.fingerprints import fingerprint, fingerprints

    judged = plant.verdicts(equipment_class).all()
    found: dict[date, list[str]] = {}
    for product in (p for p in products if p not in WHOLE):
        held = fingerprints(plant.table(equipment_class, product), plant.site.name)
        if product == "telemetry" and held:
            # A day of which no row could be stored is in no file, and is judged all the same.
            ingested = (r.day for r in plant.state.windows(plant.site.name, equipment_class) if r.ingested)
            held = dict.fromkeys(ingested, "") | held
        for day, content in held.items():
            if not plant.site.first_day <= day <= (plant.site.last_day or day):
                continue  # dead letters come on days that are no windows, too
            verdict = judged.get((product, day))
            if verdict is None or verdict.fingerprint != content:
                found.setdefault(day, []).append(product)
    for product in (p for p in products if p in WHOLE):
        whole = fingerprint(plant.table(equipment_class, product), plant.site.name)
        verdict = judged.get((product, plant.site.first_day))
        if whole is not None and (verdict is None or verdict.fingerprint != whole):
            newest = max(fingerprints(plant.table(equipment_class, "telemetry"), plant.site.name))
            found.setdefault(newest, []).append(product)
    return found


def to_judge(
    instance: dg.DagsterInstance,
    plant: Plant,
    equipment_class: str,
    jobs: Mapping[str, Any],
    checks: Mapping[str, Sequence[dg.AssetCheckKey]],
    *,
    history: bool = True,
) -> dg.RunRequest | str | None:
    """The run that judges the newest windows that are due; None: there are none; a text: why it has to wait.

    What has landed is judged while it is being answered, and the answers when they all are there. While older windows
    are judged, those that have landed since do not wait for it; the other way round they do, and one run of the whole
    installation at a time judges older ones.

    Args:
        history: older windows may be asked for.
    """
    from resources.stores.fingerprints import fingerprints

    due = unjudged(plant, equipment_class, list(checks))
    if not due:
        return None
    fleet = f"{equipment_class}/{plant.site.name}"
    newest = max(fingerprints(plant.table(equipment_class, "telemetry"), plant.site.name) or due)
    under_way = instance.get_runs(dg.RunsFilter(tags={JUDGED: fleet}, statuses=UNFINISHED))
    for run in under_way:
        held = run_windows(run.tags, [plant.site.name])
        due = {day: products for day, products in due.items() if HISTORY in run.tags and held and day not in held}
    if not due:
        return "windows are being judged"
    first, last = in_a_row(list(due))[-1]
    older = last < newest
    written = instance.get_runs_count(dg.RunsFilter(tags={WRITES: fleet}, statuses=UNFINISHED))
    if older and (written or under_way or not history or instance.get_runs_count(_HISTORY_UNDER_WAY)):
        return "older windows wait"
    at_once = HISTORY_AT_ONCE if older else JUDGED_AT_ONCE
    windows = WindowRange(plant.site.name, max(first, last - timedelta(days=at_once - 1)), last)
    products = sorted({product for day in windows for product in due.get(day, ())})
    if written and "telemetry" not in products:
        return "what follows from the telemetry is being written"
    cause = _cause(plant, equipment_class, windows, products)
    tags = {JUDGED: fleet, _CAUSE: cause, **range_tags(windows)}
    if older:
        tags |= {HISTORY: "yes", "dagster/priority": "-10"}
    died = instance.get_run_records(dg.RunsFilter(tags={JUDGED: fleet, _CAUSE: cause}, statuses=ENDED_BADLY))
    if died and not _may_try_again(died, plant.clock.now()):
        return f"{len(died)} runs that were to judge {windows.first} to {windows.last} ended badly"
    return dg.RunRequest(
        run_key=f"{QUALITY}/{fleet}/{cause}/{len(died)}",
        job_name=jobs[QUALITY].name,
        tags=tags,
        asset_check_keys=[key for product in products for key in checks[product]],
    )


_CAUSE = "hybrid/judges_content"
_HISTORY_UNDER_WAY = dg.RunsFilter(tags={HISTORY: "yes"}, statuses=UNFINISHED)


def _cause(plant: Plant, equipment_class: str, windows: WindowRange, products: Sequence[str]) -> str:
    """What is judged, so that the same is asked for once: the windows, and the versions of their tables."""
    versions = "-".join(f"{plant.table(equipment_class, product).version}" for product in products)
    return f"{windows.first}..{windows.last}/{versions}"


def _may_try_again(died: Sequence[dg.RunRecord], now: datetime) -> bool:
    last = max(record.update_timestamp for record in died)
    waited = now.timestamp() - last.timestamp()
    # Where the clock went back, there is nothing to wait for.
    return not 0 <= waited < min(_AGAIN_S * 2 ** min(len(died), 10), _AGAIN_MOST_S)


def answers_in_place(plant: Plant, equipment_class: str, jobs: Mapping[str, Any]) -> list[dg.RunRequest]:
    """The rules' answers for windows that a verdict blocks and the model, or nobody, has answered.

    One for each row of days. Where nobody has, it is asked for once a verdict: it may be that no machine is known.
    """
    blocked = plant.verdicts(equipment_class).blocked(ANSWER_RESTS_ON)
    if not blocked:
        return []
    answers = plant.answers(equipment_class)
    held = answers.all()
    due = {day: _told(blocked[day]) for day in blocked if day in held and _by_a_model(held[day].served_by)}
    by_nobody = [day for day in blocked if day in held and not held[day].rows]
    due |= {day: _told(blocked[day]) for day in by_nobody}
    requests = []
    for first, last in in_a_row(list(due)):
        windows = WindowRange(plant.site.name, first, last)
        since = sorted({verdict.since for day in windows for verdict in blocked[day]})
        newest = max((held[day].epoch for day in windows if day not in by_nobody), default=BLOCKED)
        # Its own attempt, begun now, and so later than the answer that must not stand.
        attempt = f"{QUALITY}/{plant.site.name}/{first}..{last}/{'-'.join(since)}/{newest}"
        epoch = answers.epoch(attempt, windows, QUALITY, plant.clock.now())
        tags = in_place_tags(equipment_class, windows, epoch, BLOCKED)
        tags |= {"hybrid/blocked_by": due[last][:200], "dagster/priority": "10"}
        key = f"{BLOCKED}/{equipment_class}/{attempt}"
        requests.append(dg.RunRequest(run_key=key, job_name=jobs["fallback"].name, tags=tags))
    return requests


def _by_a_model(served_by: Mapping[str, int]) -> bool:
    return any(who.startswith("model") for who in served_by)


def _told(verdicts: Sequence[Verdict]) -> str:
    return "; ".join(f"{v.product}: {', '.join(v.failed)}" for v in verdicts)
