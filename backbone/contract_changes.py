"""Whether a contract may change as it did: zones upgrade in any order, so each version must read what the other writes.

A change is refused where data that holds one version is refused, or means something else, under the other, and where
the product promises less than before. What is refused under one id can still be had: side by side, under a new one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from backbone.contracts import SEVERITIES, Column, Contract, WindowRule, part_path, range_text, with_parts
from backbone.requirements import CLASSIFICATIONS

Reader = Literal["old", "new"]
"""Whom a change breaks: the `old` reader of new data, or the `new` reader of old data."""

_BOTH: tuple[Reader, Reader] = ("old", "new")
_BESIDE = (
    "Leave it as it is, and add an optional column for the new values: write both until every zone reads the new one."
)
_ANEW = "Or make it a product of its own: a new id and a major version, `supersedes` naming this one, with a migration."
_PROMISE = "Keep the promise; where it cannot be kept, make it a product of its own, with a new id and a major version."


@dataclass(frozen=True, slots=True)
class ChangeRule:
    """One kind of change that is refused.

    Attributes:
        breaks: which readers, see `Reader`; none where data is as before but less is promised.
        because: what happens to them.
        instead: what to do.
    """

    breaks: tuple[Reader, ...]
    because: str
    instead: str


CHANGE_RULES: Mapping[str, ChangeRule] = {
    "contract_removed": ChangeRule(
        ("old",),
        "Zones that still read it find nothing.",
        "Set `status: deprecated` first, and remove it once no zone reads it.",
    ),
    "product_changed": ChangeRule(_BOTH, "Its data is another asset's, or of another form.", _ANEW),
    "column_removed": ChangeRule(
        ("old",),
        "Readers of the old version find nothing there, and refuse the batch where it was required.",
        "Make it `deprecated: true` first; an optional column that was may be removed. A required one may not.",
    ),
    "column_renamed": ChangeRule(
        _BOTH, "Each version misses the other's name.", f"{_BESIDE} Deprecate the old name, and remove it later."
    ),
    "column_required_added": ChangeRule(
        ("new",), "Data of the old version has no such column: its batches are refused.", "Make it optional."
    ),
    "type_changed": ChangeRule(_BOTH, "Values of one version do not fit the other's type.", f"{_BESIDE} {_ANEW}"),
    "unit_changed": ChangeRule(
        _BOTH, "The same number means something else, and no check can tell.", f"{_BESIDE} {_ANEW}"
    ),
    "made_required": ChangeRule(
        ("new",), "Rows of the old version without a value go to quarantine.", "Leave it optional, and fill it."
    ),
    "made_optional": ChangeRule(
        ("old",), "Rows without a value go to quarantine where the old version is read.", f"Go on filling it. {_ANEW}"
    ),
    "range_narrowed": ChangeRule(
        ("new",),
        "Values that were in range go to quarantine.",
        f"{_BESIDE} {_ANEW}",
    ),
    "range_widened": ChangeRule(
        ("old",), "Values beyond the old range go to quarantine where it is read.", f"{_BESIDE} {_ANEW}"
    ),
    "value_added": ChangeRule(
        ("old",), "The new value goes to quarantine where the old version is read.", f"{_BESIDE} {_ANEW}"
    ),
    "value_removed": ChangeRule(
        ("new",),
        "Rows of the old version with that value go to quarantine.",
        "Leave it in the list, and stop sending it.",
    ),
    "key_changed": ChangeRule(
        _BOTH, "What is a duplicate in one version is two rows in the other, and one of them is lost.", _ANEW
    ),
    "inputs_changed": ChangeRule(
        _BOTH,
        "Features, baselines and releases made under one version do not fit the other.",
        f"Bring a new sensor in as `role: context`; what models learn from changes with a new class. {_ANEW}",
    ),
    "classification_lowered": ChangeRule(
        ("new",), "Old data would go where those who sent it did not clear it for.", "Keep it. A column may be higher."
    ),
    "retention_shortened": ChangeRule((), "Readers count on what would be gone.", _PROMISE),
    "latency_loosened": ChangeRule((), "Readers count on it coming sooner.", _PROMISE),
    "completeness_loosened": ChangeRule((), "Readers count on more of it.", _PROMISE),
    "rule_removed": ChangeRule((), "Windows that were found bad would pass.", "Keep it as it is."),
    "severity_lowered": ChangeRule(
        (), "A window that stopped what depends on it would be used.", "Keep it as it is, and mend what makes it fail."
    ),
    "rule_loosened": ChangeRule((), "Windows that were found bad would pass.", "Keep it as it is."),
    "version_not_raised": ChangeRule((), "Nobody could tell the two apart.", "Raise it."),
    "migration_missing": ChangeRule(
        ("old",),
        "Readers of the old product are not told how to come over.",
        "Say so: a major version above the old one's.",
    ),
}
"""Every kind of change that is refused, by its name."""


@dataclass(frozen=True, slots=True)
class Change:
    """One refused change. `column` is None where it is the product as a whole."""

    contract: str
    rule: str
    column: str | None
    problem: str
    instead: str

    @property
    def breaks(self) -> tuple[Reader, ...]:
        return CHANGE_RULES[self.rule].breaks

    @property
    def because(self) -> str:
        return CHANGE_RULES[self.rule].because


def refused_changes(old: Mapping[str, Contract], new: Mapping[str, Contract]) -> list[Change]:
    """What must not change as it did, among all contracts of an installation.

    Args:
        old, new: by anything; contracts are the same where their ids are.
    """
    before, after = ({c.id: c for c in contracts.values()} for contracts in (old, new))
    found: list[Change] = []
    for id_, contract in before.items():
        if id_ in after:
            found += contract_changes(contract, after[id_])
        elif contract.status not in ("deprecated", "retired"):
            found.append(_change(contract, "contract_removed", None, f"It was {contract.status}, and is gone."))
    for contract in after.values():
        superseded = before.get(contract.supersedes or "") or after.get(contract.supersedes or "")
        if superseded is not None and _version(contract)[0] <= _version(superseded)[0]:
            problem = f"{contract.version} supersedes {superseded.id} {superseded.version}."
            found.append(_change(contract, "migration_missing", None, problem))
    return found


def contract_changes(old: Contract, new: Contract) -> list[Change]:
    """What is refused of a change from one version of a contract to the next, of the same id."""
    columns = _columns(new, old.columns, new.columns)
    found = [*_product(old, new), *columns, *_promises(old, new), *_rules(old, new)]
    wanted = _raise_needed(old, new)
    before, after = _version(old), _version(new)
    if after < before or (wanted and after <= before):
        how = f"{old.version} became {new.version}" if new.version != old.version else f"It is still {new.version}"
        least = ".".join(map(str, _next(before, wanted or "patch")))
        problem = f"{how}, though {'something' if wanted else 'nothing'} changed."
        found.append(_change(new, "version_not_raised", None, problem, instead=f"Make it {least} or above."))
    elif wanted == "minor" and after < _next(before, "minor"):
        least = ".".join(map(str, _next(before, "minor")))
        problem = f"{old.version} became {new.version}, though more than its texts changed."
        found.append(_change(new, "version_not_raised", None, problem, instead=f"Make it {least} or above."))
    return found


def _change(contract: Contract, rule: str, column: str | None, problem: str, *, instead: str | None = None) -> Change:
    return Change(contract.name, rule, column, problem, instead or CHANGE_RULES[rule].instead)


def _product(old: Contract, new: Contract) -> Iterator[Change]:
    for what in ("product", "document", "derived", "name"):
        before, after = getattr(old, what), getattr(new, what)
        if before != after:
            yield _change(new, "product_changed", None, f"{what} was {before}, is {after}.")
    if old.keys != new.keys:
        yield _change(new, "key_changed", None, f"It was {', '.join(old.keys)}, is {', '.join(new.keys)}.")
    for role in ("input", "setting"):
        before, after = old.with_role(role), new.with_role(role)
        if before != after:
            moved = sorted(set(before) ^ set(after)) or list(after)
            yield _change(
                new, "inputs_changed", moved[0] if len(moved) == 1 else None, f"Its {role}s: {_some(moved)} moved."
            )


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"


def _columns(contract: Contract, old: tuple[Column, ...], new: tuple[Column, ...], above: str = "") -> Iterator[Change]:
    """Of columns, or of the parts of the one at `above`."""
    before, after = ({c.name: c for c in columns} for columns in (old, new))
    gone = {name: column for name, column in before.items() if name not in after}
    come = {name: column for name, column in after.items() if name not in before}
    renamed = dict(_renamed(gone, come))
    for name, column in gone.items():
        if name in renamed:
            yield _change(contract, "column_renamed", part_path(above, name), f"It is called {renamed[name]} now.")
        elif column.required or not column.deprecated:
            what = "It was required" if column.required else "It was not deprecated"
            yield _change(contract, "column_removed", part_path(above, name), f"{what}, and is gone.")
    for name, column in come.items():
        if column.required and name not in renamed.values():
            yield _change(contract, "column_required_added", part_path(above, name), "It is new and required.")
    for name in before.keys() & after.keys():
        yield from _column(contract, before[name], after[name], part_path(above, name))


def _renamed(gone: Mapping[str, Column], come: Mapping[str, Column]) -> Iterator[tuple[str, str]]:
    """Columns that only changed their names."""
    free = dict(come)
    for name, column in gone.items():
        for other, candidate in free.items():
            if replace(candidate, name=name, deprecated=column.deprecated) == column:
                del free[other]
                yield name, other
                break


def _column(contract: Contract, old: Column, new: Column, name: str) -> Iterator[Change]:
    if (old.logical_type, old.arrow_name) != (new.logical_type, new.arrow_name):
        yield _change(contract, "type_changed", name, f"It was {_type(old)}, is {_type(new)}.")
        return
    if old.unit != new.unit:
        yield _change(contract, "unit_changed", name, f"It was {old.unit or 'without'}, is {new.unit or 'without'}.")
    if new.required and not old.required:
        yield _change(contract, "made_required", name, "A value may not be absent any more.")
    if old.required and not new.required:
        yield _change(contract, "made_optional", name, "A value may be absent now.")
    yield from _bounds(contract, old, new, name)
    yield from _values(contract, old, new, name)
    before, after = (c.classification for c in (old, new))
    if before is not None and _rank(after or contract.classification) < _rank(before):
        now = after or contract.classification
        yield _change(contract, "classification_lowered", name, f"It was {before}, is {now}.")
    yield from _columns(contract, old.parts, new.parts, name)


def _type(column: Column) -> str:
    return f"{column.logical_type} ({column.arrow_name})"


def _bounds(contract: Contract, old: Column, new: Column, name: str) -> Iterator[Change]:
    before, after = (_room(c, by_class=old.maximum_from == new.maximum_from) for c in (old, new))
    now = list(zip(before, after, strict=True))
    said = f"It was {range_text(old) or 'open'}, is {range_text(new) or 'open'}."
    if any(a < b for b, a in now):
        yield _change(contract, "range_narrowed", name, said)
    if any(a > b for b, a in now):
        yield _change(contract, "range_widened", name, said)


def _room(column: Column, *, by_class: bool) -> list[tuple[float, bool]]:
    """How far a range reaches down, up, by its class, and in all: more is wider. A bound both versions take from
    the class (`by_class`) is the same promise whatever that is set to."""
    infinity = float("inf")
    taken = column.maximum_from is not None
    lows = [(-low, inclusive) for low, inclusive in ((column.minimum, True), (column.above, False)) if low is not None]
    high = column.maximum if column.maximum is not None and not taken else infinity
    together = infinity if column.sum_at_most is None else column.sum_at_most
    of_class = 0.0 if taken and not by_class else infinity
    return [min(lows, default=(infinity, True)), *((limit, True) for limit in (high, of_class, together))]


def _values(contract: Contract, old: Column, new: Column, name: str) -> Iterator[Change]:
    if bool(old.allowed) != bool(new.allowed):
        rule = "value_removed" if new.allowed else "value_added"
        problem = f"Only {', '.join(new.allowed)} now." if new.allowed else "Any value is allowed now."
        yield _change(contract, rule, name, problem)
        return
    for rule, values in (
        ("value_added", set(new.allowed) - set(old.allowed)),
        ("value_removed", set(old.allowed) - set(new.allowed)),
    ):
        if values:
            yield _change(contract, rule, name, f"It is {', '.join(sorted(values))}.")


def _promises(old: Contract, new: Contract) -> Iterator[Change]:
    if _rank(new.classification) < _rank(old.classification):
        yield _change(new, "classification_lowered", None, f"It was {old.classification}, is {new.classification}.")
    for rule, unit, what, loosened in (
        ("retention_shortened", "days", "retention_days", _smaller),
        ("latency_loosened", "s", "latency_s", lambda a, b: _smaller(b, a)),
        ("completeness_loosened", "of the rows", "completeness", _smaller),
    ):
        before, after = getattr(old, what), getattr(new, what)
        if before is not None and (after is None or loosened(before, after)):
            now = "not promised" if after is None else f"{after:g} {unit}"
            yield _change(new, rule, None, f"It was {before:g} {unit}, is {now}.")


def _smaller(before: float, after: float) -> bool:
    return after < before


_LOOSER: Mapping[str, Callable[[float, float], bool]] = {
    "least_share": _smaller,
    "readings_per_day": _smaller,
    "longest_run": lambda before, after: after > before,
    "psi_above": lambda before, after: after > before,
}
"""Parameter → whether the second value finds fewer windows bad; service levels are looked at as such."""


def _rules(old: Contract, new: Contract) -> Iterator[Change]:
    for rule in old.rules:
        now = new.rule(rule.kind)
        if now is None:
            if not _moot(rule, new):
                yield _change(new, "rule_removed", None, f"{rule.kind} is gone.")
            continue
        # In the order of SEVERITIES the first is the most severe.
        if SEVERITIES.index(now.severity) > SEVERITIES.index(rule.severity):
            problem = f"{rule.kind} was {rule.severity}, is {now.severity}."
            yield _change(new, "severity_lowered", None, problem)
        for name, looser in _LOOSER.items():
            if rule.kind == "completeness" and name == "least_share":
                continue
            if name in rule.parameters and looser(rule.parameters[name], now.parameters[name]):
                problem = f"{rule.kind}: {name} was {rule.parameters[name]}, is {now.parameters[name]}."
                yield _change(new, "rule_loosened", None, problem)


def _moot(rule: WindowRule, new: Contract) -> bool:
    """The rule went with the columns or the service level it was about, which are told of by themselves."""
    if rule.kind == "in_range":
        return not any(c.ranged for _, c in with_parts(new.columns))
    if rule.kind == "allowed_values":
        return not any(c.allowed for c in new.columns)
    if rule.kind == "not_null":
        return not any(c.required for c in new.columns)
    return (rule.kind == "freshness" and new.latency_s is None) or (
        rule.kind == "completeness" and new.completeness is None
    )


def _rank(classification: str) -> int:
    return [*CLASSIFICATIONS].index(classification)  # type: ignore[arg-type]


def _raise_needed(old: Contract, new: Contract) -> Literal["minor", "patch"] | None:
    """By how much the version has to rise for what changed: `patch` where only texts did."""
    if replace(old, version="") == replace(new, version=""):
        return None
    return "patch" if _without_texts(old) == _without_texts(new) else "minor"


def _without_texts(contract: Contract) -> Contract:
    return replace(
        contract,
        version="",
        description="",
        limitations="",
        owner="",
        migration=None,
        columns=tuple(map(_without_words, contract.columns)),
        rules=tuple(replace(r, description="", dimension="") for r in contract.rules),
    )


def _without_words(column: Column) -> Column:
    return replace(column, description="", attributes={}, parts=tuple(map(_without_words, column.parts)))


def _version(contract: Contract) -> tuple[int, int, int]:
    major, minor, patch = (int(part) for part in re.findall(r"\d+", contract.version)[:3])
    return major, minor, patch


def _next(version: tuple[int, int, int], part: Literal["minor", "patch"]) -> tuple[int, int, int]:
    major, minor, patch = version
    return (major, minor + 1, 0) if part == "minor" else (major, minor, patch + 1)
