"""Contracts as a page for people, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from backbone.contracts import Column, Contract, WindowRule, column_type, range_text, with_parts

INTRODUCTION = """\
# Data products

Written by `hybrid contracts docs` from the contracts themselves; [contracts.md](contracts.md) says what it means.
"""
_DERIVED = {"features": "One float column a condition feature follows, as the equipment class has them."}


def contracts_page(contracts: Iterable[Contract]) -> str:
    """Every contract, telemetry first, then by product."""
    ordered = sorted(contracts, key=lambda c: (c.product != "telemetry", c.product, c.name))
    return "\n".join([INTRODUCTION, *(contract_section(c) for c in ordered)])


def contract_section(contract: Contract) -> str:
    """One contract: what it promises, its columns, and what is checked of each window."""
    return "\n".join([*_head(contract), *_columns(contract), *_rules(contract)])


def _head(contract: Contract) -> Iterator[str]:
    title = contract.product if contract.name == contract.product else f"{contract.product}: {contract.name}"
    yield from (f"## {title}", "", " ".join(t for t in (contract.description, contract.limitations) if t), "")
    yield from ("| | |", "|---|---|")
    for what, value in (
        ("contract", f"`{contract.id}` {contract.version}, {contract.status}"),
        ("owner", contract.owner),
        ("classification", contract.classification),
        ("kept as", "one document" if contract.document else "table"),
        ("key", ", ".join(f"`{k}`" for k in contract.keys)),
        ("retention", None if contract.retention_days is None else f"{contract.retention_days} days"),
        ("latency", None if contract.latency_s is None else f"{contract.latency_s / 3600:g} h"),
        ("completeness", None if contract.completeness is None else f"{contract.completeness:.0%}"),
        ("supersedes", contract.supersedes and f"`{contract.supersedes}`: {contract.migration}"),
    ):
        if value:
            yield f"| {what} | {_cell(value)} |"
    yield ""


def _columns(contract: Contract) -> Iterator[str]:
    yield (
        "| field | type | unit | range or values | required | |"
        if contract.document
        else ("| column | type | unit | range or values | required | |")
    )
    yield "|---|---|---|---|---|---|"
    for path, column in with_parts(contract.columns):
        said = [column.description]
        if column.classification:
            said.append(f"Classification: {column.classification}.")
        if column.deprecated:
            said.append("Deprecated.")
        cells = (
            f"`{path}`",
            column_type(column),
            column.unit or "",
            _range(column),
            "yes" if column.required else "",
            " ".join(t for t in said if t),
        )
        yield f"| {' | '.join(_cell(c) for c in cells)} |"
    if contract.derived:
        yield from ("", _DERIVED[contract.derived])
    yield ""


def _range(column: Column) -> str:
    if column.allowed:
        return ", ".join(column.allowed)
    return range_text(column)


def _rules(contract: Contract) -> Iterator[str]:
    yield from ("| check | severity | dimension | limits | |", "|---|---|---|---|---|")
    for rule in contract.rules:
        cells = (rule.kind, rule.severity, rule.dimension, _limits(rule), rule.description)
        yield f"| {' | '.join(_cell(c) for c in cells)} |"
    yield ""


def _limits(rule: WindowRule) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in rule.parameters.items())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
