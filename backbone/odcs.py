"""A contract's ODCS document gets its meaning: enumerations, ranges, keys, rules and service levels are checked here.

Every error carries `at`, the place in the document, so that whoever read the file can name the line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from backbone.contracts import (
    ARROW_TYPES,
    CLASS_BOUNDS,
    DERIVED,
    DIMENSIONS,
    DOCUMENT_TYPES,
    ITEM,
    PRODUCTS,
    ROLES,
    RULE_KINDS,
    SEVERITIES,
    STATUSES,
    UNITS,
    Column,
    Contract,
    WindowRule,
    with_parts,
)
from backbone.errors import ContractError
from backbone.requirements import CLASSIFICATIONS, Classification

Place = tuple[str | int, ...]

ENGINE = "hybrid-assets"
"""Quality rules of this engine are carried out; texts are for people; others would be empty promises."""

_COLUMN_PROPERTIES = ("unit", "role", "component", "maximumFrom")
_FIELD_PROPERTIES = (*_COLUMN_PROPERTIES, "sumAtMost")
"""Of columns, and of the fields of documents."""
_PRODUCT_PROPERTIES = ("classification", "columnsFrom", "supersedes", "migration")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "y": 365 * 86400}
_LEVELS = {"latency": ("s", "min", "h", "d"), "retention": ("d", "y"), "completeness": ("percent",)}
"""Service levels that are given a meaning here, and the units each may be in."""
_OTHER_LEVELS = (
    "availability", "endOfLife", "endOfSupport", "errorRate", "frequency", "generalAvailability", "throughput",
    "timeOfAvailability", "timeToDetect", "timeToNotify", "timeToRepair",
)  # fmt: skip
"""Service levels of the standard that are for people only."""
_RECONCILED = "telemetry"
_LANDED = ("telemetry", "maintenance_history")
_NUMBERS = ("integer", "number")
_TAKEN = (
    "site", "date", "arrival", "batch", "offset", "reading_id", "received_at", "is_historical", "defect", "raw",
)  # fmt: skip
_LANDED_KEYS = {"equipment_id": "string", "ts": "timestamp"}
"""Key columns that whatever sources hand over must have: windows and lives are cut by them."""


def contract_from_odcs(document: Mapping[str, Any]) -> Contract:
    """Give a validated ODCS document its meaning.

    Args:
        document: the YAML document; its one schema object is the data product.

    Raises:
        ContractError: an unknown unit, role, type, classification, rule, severity, dimension or service level, a
            range upside down, no key, or something twice; names the contract, the place and the valid values.
    """
    name = document.get("name") or document["id"]
    objects = document.get("schema") or []
    if len(objects) != 1:
        raise ContractError(
            f"Contract {name} has {len(objects) or 'no'} schema object{'s' if objects else ''}.",
            next_step="Give it one, with the product's columns.",
            at=("schema",),
        )
    reader = _Reader(name, document, objects[0])
    return reader.contract()


@dataclass(frozen=True)
class _Reader:
    """One document being read."""

    name: str
    document: Mapping[str, Any]
    product: Mapping[str, Any]

    def contract(self) -> Contract:
        at: Place = ("schema", 0)
        physical = self.product.get("physicalType", "table")
        self._choice("physicalType", physical, ("table", "document"), (*at, "physicalType"))
        is_document = physical == "document"
        custom = self._custom(self.product, at, _PRODUCT_PROPERTIES)
        if "supersedes" not in custom:  # what stands beside a product, to take its place, has a name of its own
            self._choice("data product", self.product["name"], PRODUCTS, (*at, "name"))
        derived = custom.get("columnsFrom")
        if derived is not None:
            self._choice("columnsFrom", derived, DERIVED, (*at, "customProperties"))
        columns = self._columns(is_document)
        least = custom.get("classification", "internal")
        self._choice("classification", least, CLASSIFICATIONS, (*at, "customProperties"))
        levels = self._service_levels()
        status = self.document.get("status") or "active"
        self._choice("status", status, STATUSES, ("status",))
        version = str(self.document["version"])
        if not _VERSION.fullmatch(version):
            raise self._error(f"version {version!r} is none.", "Give MAJOR.MINOR.PATCH, such as 1.0.0.", ("version",))
        for property_ in ("supersedes", "migration"):
            other = "migration" if property_ == "supersedes" else "supersedes"
            if custom.get(property_) and not (isinstance(custom.get(other), str) and custom[other].strip()):
                raise self._error(
                    f"{property_} is there without {other}.",
                    "Give `supersedes`, the id of what it takes the place of, and `migration`, what readers do.",
                    (*at, "customProperties"),
                )
        team = self.document.get("team") or {}
        contract = Contract(
            name=self.name,
            id=str(self.document["id"]),
            version=version,
            description=((self.document.get("description") or {}).get("purpose") or "").strip(),
            owner=(team.get("name") if isinstance(team, Mapping) else None) or "unassigned",
            columns=columns,
            settings=self._settings(),
            product=str(self.product["name"]),
            document=is_document,
            derived=derived,
            classification=_highest([cast(Classification, least), *(c.classification for _, c in with_parts(columns))]),
            retention_days=None if "retention" not in levels else int(levels["retention"] // 86400),
            latency_s=levels.get("latency"),
            completeness=levels.get("completeness"),
            limitations=((self.document.get("description") or {}).get("limitations") or "").strip(),
            status=status,
            supersedes=custom.get("supersedes"),
            migration=custom.get("migration"),
        )
        return _with_rules(contract, self._rules(contract))

    def _error(self, problem: str, next_step: str, at: Place) -> ContractError:
        return ContractError(f"Contract {self.name}, {problem}", next_step=next_step, at=at)

    def _choice(self, what: str, value: object, valid: Iterable[str], at: Place, subject: str = "") -> None:
        valid = sorted(valid) if isinstance(valid, frozenset) else list(valid)
        if value not in valid:
            raise self._error(f"{subject}{value!r} is no {what} we know.", f"Use one of: {', '.join(valid)}.", at)

    def _custom(
        self, element: Mapping[str, Any], at: Place, known: Sequence[str] | None, subject: str = ""
    ) -> dict[str, Any]:
        """Custom properties by name. One that names its `vendor` is somebody's own; of ours, only `known` ones are."""
        found: dict[str, Any] = {}
        for index, entry in enumerate(element.get("customProperties") or []):
            place = (*at, "customProperties", index)
            name = entry["property"]
            if known is not None and "vendor" not in entry:
                self._choice("custom property", name, known, place, subject)
            if name in found:
                raise self._error(f"{subject}the custom property {name!r} is there twice.", "Keep one.", place)
            found[name] = entry["value"]
        return found

    def _settings(self) -> dict[str, Any]:
        theirs = {e["property"] for e in self.document.get("customProperties") or [] if "vendor" in e}
        found = self._custom(self.document, (), None)
        return {name: value for name, value in found.items() if name not in theirs}

    def _columns(self, is_document: bool) -> tuple[Column, ...]:
        properties = self.product.get("properties") or []
        columns = self._named(properties, ("schema", 0, "properties"), is_document)
        for name in _TAKEN if self.product["name"] in _LANDED else ():
            if name in columns:
                index = [*columns].index(name)
                raise self._error(
                    f"column {name!r} would take the place of one that storing adds.",
                    f"Call it something else; taken: {', '.join(_TAKEN)}.",
                    ("schema", 0, "properties", index),
                )
        for name, kind in _LANDED_KEYS.items() if self.product["name"] in _LANDED else ():
            if name not in columns or not columns[name].key or columns[name].logical_type != kind:
                raise self._error(
                    f"rows of {self.product['name']} are told apart by {name}.",
                    f"Add the column {name} with logicalType: {kind} and primaryKey: true.",
                    ("schema", 0, "properties"),
                )
        if not is_document and not any(c.key for c in columns.values()):
            raise ContractError(
                f"Contract {self.name} has no key, so duplicates cannot be told apart.",
                next_step="Mark the identifying columns with `primaryKey: true`.",
                at=("schema", 0, "properties"),
            )
        self._key_positions(properties)
        return tuple(columns.values())

    def _named(self, properties: Sequence[Mapping[str, Any]], at: Place, is_document: bool) -> dict[str, Column]:
        columns: dict[str, Column] = {}
        for index, prop in enumerate(properties):
            column = self._column(prop, (*at, index), is_document)
            if column.name in columns:
                raise ContractError(
                    f"Contract {self.name} has the column {column.name!r} twice.",
                    next_step="Remove or rename one of them.",
                    at=(*at, index),
                )
            columns[column.name] = column
        return columns

    def _key_positions(self, properties: Sequence[Mapping[str, Any]]) -> None:
        """Positions in the key may be left out, of all; where they are given they are 1..n, each once."""
        given = {i: p["primaryKeyPosition"] for i, p in enumerate(properties) if p.get("primaryKeyPosition", -1) != -1}
        keys = [index for index, prop in enumerate(properties) if prop.get("primaryKey")]
        valid = set(range(1, len(keys) + 1))
        free = sorted(valid - set(given.values()))
        taken = set[int]()
        for index in dict.fromkeys([*given, *keys]) if given else ():
            who, at = f"column {properties[index]['name']!r}: ", ("schema", 0, "properties", index)
            position = given.get(index)
            if index not in keys:
                raise self._error(
                    f"{who}primaryKeyPosition {position}, though the key does not have it.",
                    "Add `primaryKey: true`, or drop the position.",
                    (*at, "primaryKeyPosition"),
                )
            if position not in valid - taken:
                said = "missing" if position is None else f"{position}{' again' if position in taken else ''}"
                raise self._error(
                    f"{who}primaryKeyPosition is {said}; positions of this key are 1 to {len(keys)}, each once.",
                    f"Number them without gaps; not given yet: {', '.join(map(str, free))}.",
                    (*at, "primaryKeyPosition"),
                )
            taken.add(position)

    def _column(self, prop: Mapping[str, Any], at: Place, is_document: bool) -> Column:
        who = f"column {prop['name']!r}: "
        custom = self._custom(prop, at, _FIELD_PROPERTIES if is_document else _COLUMN_PROPERTIES, who)
        options = prop.get("logicalTypeOptions") or {}
        self._enforced(prop, options, at, who, is_document)
        key = bool(prop.get("primaryKey"))
        logical = prop.get("logicalType") or ""
        types = (*ARROW_TYPES, *DOCUMENT_TYPES) if is_document else tuple(ARROW_TYPES)
        self._choice("logicalType", logical, types, (*at, "logicalType"), who)
        physical = prop.get("physicalType")
        if physical is not None and logical in ARROW_TYPES:
            self._choice(f"physicalType of a {logical}", physical, ARROW_TYPES[logical], (*at, "physicalType"), who)
        classification = prop.get("classification")
        if classification is not None:
            self._choice("classification", classification, CLASSIFICATIONS, (*at, "classification"), who)
        role, unit = custom.pop("role", "key" if key else "context"), custom.pop("unit", None)
        self._choice("role", role, ROLES, (*at, "customProperties"), who)
        if unit is not None:
            self._choice("unit", unit, UNITS, (*at, "customProperties"), who)
        elif role in ("input", "setting"):
            raise self._error(
                f"{who}a {role} needs a unit.",
                "Add the custom property `unit` ('1' if it is dimensionless).",
                at,
            )
        minimum, maximum = (self._bound(options, side, at, who) for side in ("minimum", "maximum"))
        if minimum is not None and maximum is not None and minimum > maximum:
            raise self._error(
                f"{who}minimum {minimum} lies above maximum {maximum}.", "Swap them.", (*at, "logicalTypeOptions")
            )
        above = self._bound(options, "exclusiveMinimum", at, who)
        if above is not None and (minimum is not None or (maximum is not None and above >= maximum)):
            raise self._error(
                f"{who}exclusiveMinimum {above} stands beside "
                f"{f'minimum {minimum}' if minimum is not None else f'maximum {maximum}'}.",
                "Give one lower bound, below the upper one.",
                (*at, "logicalTypeOptions"),
            )
        maximum_from, together = custom.pop("maximumFrom", None), custom.pop("sumAtMost", None)
        if maximum_from is not None:
            self._choice("maximumFrom", maximum_from, CLASS_BOUNDS, (*at, "customProperties"), who)
        if together is not None:
            self._bound({"sumAtMost": together}, "sumAtMost", at, who)
        if (maximum_from and (maximum is not None or logical not in _NUMBERS)) or (
            together is not None and (prop["name"] != ITEM or logical not in _NUMBERS)
        ):
            raise self._error(
                f"{who}{'maximumFrom' if maximum_from else 'sumAtMost'} says nothing here.",
                "Give maximumFrom to a number without `maximum`, sumAtMost to the `items` of a list of numbers.",
                (*at, "customProperties"),
            )
        allowed = tuple(str(e["value"]) for e in prop.get("enum") or [])
        if len(set(allowed)) < len(allowed):
            raise self._error(f"{who}a value of its `enum` is there twice.", "Keep one.", (*at, "enum"))
        return Column(
            name=prop["name"],
            logical_type=logical,
            unit=unit,
            role=role,
            required=bool(prop.get("required")) or key,
            key=key,
            minimum=minimum,
            maximum=maximum,
            allowed=allowed,
            description=(prop.get("description") or "").strip(),
            attributes=custom,
            physical_type=physical,
            classification=classification,
            deprecated=bool(prop.get("deprecated")),
            above=above,
            maximum_from=maximum_from,
            sum_at_most=together,
            parts=self._parts(prop, at, who),
        )

    def _parts(self, prop: Mapping[str, Any], at: Place, who: str) -> tuple[Column, ...]:
        """What is said of the fields of an object (`properties`), or of every item of a list (`items`)."""
        for name, kind in (("properties", "object"), ("items", "array")):
            if prop.get(name) and prop.get("logicalType") != kind:
                raise self._error(f"{who}only an {kind} has `{name}`.", f"Make it an {kind}.", (*at, name))
        parts = tuple(self._named(prop.get("properties") or [], (*at, "properties"), True).values())
        if items := prop.get("items"):
            parts = (self._column({**items, "name": ITEM}, (*at, "items"), True),)
        if any(part.key for part in parts):
            raise self._error(f"{who}a part of it is in the key.", "Keys are of columns only.", at)
        return parts

    def _enforced(
        self, prop: Mapping[str, Any], options: Mapping[str, Any], at: Place, who: str, is_document: bool
    ) -> None:
        """What the standard knows and nothing here would check is refused: it would be an empty promise."""
        bounds = ("minimum", "maximum", *(("exclusiveMinimum",) if is_document else ()))
        for name in options:
            self._choice("option that is enforced", name, bounds, (*at, "logicalTypeOptions", name), who)
        if prop.get("unique") and not prop.get("primaryKey"):
            raise self._error(
                f"{who}`unique` is enforced for the whole key only.", "Use `primaryKey: true`.", (*at, "unique")
            )
        if prop.get("enum") and prop.get("logicalType") != "string":
            raise self._error(f"{who}only a string may have an `enum`.", "Give minimum and maximum.", (*at, "enum"))
        if any(q.get("type") != "text" for q in prop.get("quality") or []):
            raise self._error(
                f"{who}quality is checked for the product as a whole.",
                "Move it to the schema object's `quality`, or make it `type: text`.",
                (*at, "quality"),
            )

    def _bound(self, options: Mapping[str, Any], side: str, at: Place, who: str) -> float | None:
        value = options.get(side)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self._error(f"{who}{side} is {value!r}.", "Give a number.", (*at, "logicalTypeOptions", side))
        return value

    def _service_levels(self) -> dict[str, float]:
        """Latency and retention in seconds, completeness as a share."""
        found: dict[str, float] = {}
        for index, entry in enumerate(self.document.get("slaProperties") or []):
            at: Place = ("slaProperties", index)
            name, value, unit = entry["property"], entry["value"], entry.get("unit")
            self._choice("service level", name, (*_LEVELS, *_OTHER_LEVELS), at)
            if name not in _LEVELS:
                continue
            if name in found:
                raise self._error(f"the service level {name!r} is there twice.", "Keep one.", at)
            self._choice(f"unit of {name}", unit, _LEVELS[name], at)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise self._error(f"{name} is {value!r}.", "Give a number above 0.", at)
            if name == "completeness" and value > 100:
                raise self._error(f"completeness is {value} percent.", "Give at most 100.", at)
            found[name] = value / 100 if name == "completeness" else value * _SECONDS[unit]
        return found

    def _rules(self, contract: Contract) -> dict[str, WindowRule]:
        """The rules that the contract states, by kind."""
        found: dict[str, WindowRule] = {}
        for index, entry in enumerate(self.product.get("quality") or []):
            at: Place = ("schema", 0, "quality", index)
            if entry.get("type") == "text":
                continue
            if entry.get("engine") != ENGINE:
                raise self._error(
                    f"quality {entry.get('name', index)!r} is of a kind that nothing here carries out.",
                    f"Write `type: custom`, `engine: {ENGINE}`, or make it `type: text`.",
                    at,
                )
            given = entry["implementation"]
            if not isinstance(given, Mapping) or "rule" not in given:
                raise self._error(
                    f"quality {entry.get('name', index)!r} names no rule.",
                    f"Write implementation: {{rule: NAME}}, NAME one of: {', '.join(RULE_KINDS)}.",
                    (*at, "implementation"),
                )
            rule = self._rule(contract, entry, given, at)
            if rule.kind in found:
                raise self._error(f"the rule {rule.kind!r} is there twice.", "Keep one.", at)
            found[rule.kind] = rule
        return found

    def _rule(self, contract: Contract, entry: Mapping[str, Any], given: Mapping[str, Any], at: Place) -> WindowRule:
        kind = given["rule"]
        self._choice("rule", kind, RULE_KINDS, (*at, "implementation", "rule"))
        default, who = RULE_KINDS[kind], f"rule {kind}: "
        severity, dimension = entry.get("severity", default.severity), entry.get("dimension", default.dimension)
        self._choice("severity", severity, SEVERITIES, (*at, "severity"), who)
        self._choice("dimension", dimension, DIMENSIONS, (*at, "dimension"), who)
        known = _PARAMETERS.get(kind, {})
        for name in given:
            if name != "rule" and name not in known:
                valid = ", ".join(known) or "none, it has no parameters"
                raise self._error(
                    f"{who}{name!r} is no parameter of it.", f"Use one of: {valid}.", (*at, "implementation", name)
                )
        parameters: dict[str, Any] = {}
        for name, parameter in known.items():
            value = given.get(name, parameter.default)
            if value is None or isinstance(value, bool) or not parameter.fits(value):
                raise self._error(
                    f"{who}{name} is {'missing' if value is None else repr(value)}.",
                    f"Give {parameter.says}.",
                    (*at, "implementation", name),
                )
            parameters[parameter.name] = value
        if kind == "completeness" and contract.completeness is None:
            raise self._error(
                f"{who}there is no service level to hold the window to.",
                "Add {property: completeness, value: 90, unit: percent} to slaProperties.",
                at,
            )
        if kind == "freshness" and contract.latency_s is None:
            raise self._error(
                f"{who}there is no service level to hold the window to.",
                "Add {property: latency, value: 1, unit: h} to slaProperties.",
                at,
            )
        if kind in ("stuck_sensors", "drift") and not contract.inputs and contract.derived is None:
            raise self._error(f"{who}no column is an input.", "Give a column `role: input`, or drop the rule.", at)
        if kind == "rising" and not contract.counters:
            raise self._error(
                f"{who}no column counts.", "Give an integer column `role: context`, or drop the rule.", at
            )
        return WindowRule(kind, severity, dimension, parameters, (entry.get("description") or "").strip())


@dataclass(frozen=True, slots=True)
class _Parameter:
    name: str
    default: float | None
    fits: Callable[[Any], bool]
    says: str


def _share(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value <= 1


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and 0 < value < math.inf


def _run(value: object) -> bool:
    return isinstance(value, int) and value >= 2


_PARAMETERS: Mapping[str, Mapping[str, _Parameter]] = {
    "in_range": {"leastShare": _Parameter("least_share", 1.0, _share, "a share above 0, at most 1")},
    "completeness": {"readingsPerDay": _Parameter("readings_per_day", None, _positive, "a number above 0")},
    "stuck_sensors": {"longestRun": _Parameter("longest_run", 24, _run, "a whole number of readings from 2")},
    "drift": {"psiAbove": _Parameter("psi_above", 0.25, _positive, "a number above 0")},
}


def _with_rules(contract: Contract, stated: Mapping[str, WindowRule]) -> Contract:
    """The contract with what it states and what its columns imply, in the order of `RULE_KINDS`."""
    implied = {"schema"} if contract.document else {"schema", "unique"}
    if any(c.required for c in contract.columns):
        implied.add("not_null")
    if any(c.ranged for _, c in with_parts(contract.columns)):
        implied.add("in_range")
    if any(c.allowed for c in contract.columns):
        implied.add("allowed_values")
    if contract.latency_s is not None:
        implied.add("freshness")
    if contract.product == _RECONCILED:
        implied.add("reconciliation")
    rules = []
    for kind, default in RULE_KINDS.items():
        if kind in stated:
            rule = stated[kind]
        elif kind in implied:
            parameters = {p.name: p.default for p in _PARAMETERS.get(kind, {}).values()}
            rule = WindowRule(kind, default.severity, default.dimension, parameters)
        else:
            continue
        levels = {
            "completeness": {"least_share": contract.completeness},
            "freshness": {"within_s": contract.latency_s},
        }
        parameters = {**rule.parameters, **levels.get(kind, {})}
        rules.append(replace(rule, parameters=parameters, description=rule.description or default.description))
    return replace(contract, rules=tuple(rules))


def _highest(given: Iterable[Classification | None]) -> Classification:
    return max((c for c in given if c is not None), key=CLASSIFICATIONS.index)
