"""Great Expectations' Data Docs: one page a window and product, of those that somebody may want to look at.

Pages lie below one folder, a bounded number of them; the oldest go. They are rendered by Great Expectations' own
renderers, without one of its projects: what was asked and what came of it is in the page, nothing else is kept.
"""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from quality.data_docs_style import by_itself
from quality.requests import Outcome

MOST_PAGES = 400
MOST_BYTES = 64 << 20
_VALUES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Page:
    """One window of one product, to be rendered.

    Attributes:
        name: of the file, below the folder of all pages; `/` between its parts.
        results: of each expectation, in the form of Great Expectations' validation results.
    """

    name: str
    title: str
    results: Sequence[Mapping[str, Any]]

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "title": self.title, "results": list(self.results)}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Page:
        return cls(given["name"], given["title"], given["results"])


def page_name(equipment_class: str, site: str, product: str, day: date) -> str:
    return f"{equipment_class}/{site}/{product}/{day}.html"


def result_of(outcome: Outcome, day: date, rows: pa.Table | None, total: int) -> dict[str, Any]:
    """What became of an expectation in one window, as Great Expectations writes it.

    Args:
        rows: those of the outcome's batch, of all windows; None where there are none.
        total: how many of them are of this window.
    """
    failing = outcome.counts.get(day, 0)
    result: dict[str, Any] = {}
    if outcome.status != "error":
        result = {
            "element_count": total,
            "unexpected_count": failing,
            "unexpected_percent": 100.0 * failing / total if total else 0.0,
            "partial_unexpected_list": _values(outcome, day, rows),
        }
    return {
        "success": outcome.status != "error" and not failing,
        "type": outcome.expectation.type or outcome.expectation.rule,
        "kwargs": dict(outcome.expectation.kwargs),
        "result": result,
        "error": outcome.error,
    }


def _values(outcome: Outcome, day: date, rows: pa.Table | None) -> list[Any]:
    asked = outcome.expectation.kwargs
    names = [asked[key] for key in ("column", "column_A", "column_B") if key in asked] or asked.get("column_list", [])
    at = list(outcome.positions.get(day, ()))[:_VALUES_SHOWN]
    if rows is None or not at or not set(names) <= set(rows.column_names):
        return []
    shown = rows.select(names).take(pa.array(at, pa.int64())).to_pylist()
    # Great Expectations puts values into its pages as they are.
    texts = [
        [value if isinstance(value, int | float) else html.escape(str(value)) for value in row.values()]
        for row in shown
    ]
    return [row[0] if len(row) == 1 else row for row in texts]


def write_pages(folder: Path, pages: Sequence[Page]) -> None:
    """Render pages into a folder, let the oldest go, and list what is there in `index.html`.

    Raises:
        ValueError: a page's name would leave the folder.
    """
    for page in pages:
        path = folder / PurePosixPath(page.name)
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{page.name!r} is no page of {folder}.")
        path.parent.mkdir(parents=True, exist_ok=True)
        _put(path, rendered(page))
    _prune(folder)
    _put(folder / "index.html", _index(folder))


def rendered(page: Page) -> str:
    """The page as HTML."""
    from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.expectations.registry import list_registered_expectation_implementations
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    known = set(list_registered_expectation_implementations())
    unknown = [(one["type"], one["error"] or "") for one in page.results if one["type"] not in known]
    results = [
        ExpectationValidationResult(
            success=one["success"],
            expectation_config=ExpectationConfiguration(type=one["type"], kwargs=dict(one["kwargs"]), meta={}),
            result=dict(one["result"]),
            exception_info={
                "raised_exception": bool(one["error"]),
                "exception_message": one["error"] or None,
                "exception_traceback": "",
            },
        )
        for one in page.results
        if one["type"] in known
    ]
    passed = sum(bool(one["success"]) for one in page.results)
    told = ExpectationSuiteValidationResult(
        success=passed == len(page.results),
        results=results,
        suite_name=page.title,
        statistics={
            "evaluated_expectations": len(page.results),
            "successful_expectations": passed,
            "unsuccessful_expectations": len(page.results) - passed,
            "success_percent": 100.0 * passed / len(page.results) if page.results else 100.0,
        },
        meta={"run_id": {"run_name": page.title, "run_time": ""}, "batch_kwargs": {}, "validation_time": ""},
    )
    document = ValidationResultsPageRenderer(run_info_at_end=True).render(told)
    return by_itself(str(DefaultJinjaPageView().render(document)), page.title, page.results, unknown)


def _prune(folder: Path) -> None:
    pages = []
    for path in folder.glob("*/*/*/*.html"):
        try:
            found = path.stat()
        except FileNotFoundError:
            continue  # another process let it go
        pages.append((found.st_mtime, found.st_size, path))
    size = 0
    for number, (_, bytes_, path) in enumerate(sorted(pages, reverse=True)):
        size += bytes_
        if number >= MOST_PAGES or size > MOST_BYTES:
            path.unlink(missing_ok=True)


def _index(folder: Path) -> str:
    names = sorted((p.relative_to(folder).as_posix() for p in folder.glob("*/*/*/*.html")), key=_newest_first)
    rows = "\n".join(f'<li><a href="{html.escape(n)}">{html.escape(n.removesuffix(".html"))}</a></li>' for n in names)
    return f"<!doctype html><meta charset=utf-8><title>Data Docs</title><h1>Data Docs</h1><ul>\n{rows}\n</ul>\n"


def _newest_first(name: str) -> tuple[int, str]:
    day = name.rpartition("/")[2].removesuffix(".html")
    try:
        return -date.fromisoformat(day).toordinal(), name
    except ValueError:
        return 0, name


def _put(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
