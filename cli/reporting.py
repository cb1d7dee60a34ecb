"""What the commands print: progress bars on a terminal, plain lines elsewhere, one document with `--json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

_console = Console(stderr=True, highlight=False)


class Report:
    """Progress goes to standard error, results to standard output."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._progress: Progress | None = None

    @contextmanager
    def task(self, title: str) -> Iterator[None]:
        """Show that something is under way."""
        if self._as_json:
            yield
            return
        if not _console.is_terminal:
            self.note(title)
            yield
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=_console, transient=True) as progress:
            progress.add_task(title, total=None)
            yield
        _console.print(f"[green]✓[/] {title}")

    def note(self, text: str) -> None:
        if not self._as_json:
            _console.print(text, markup=False)

    def result(self, values: Mapping[str, Any], lines: list[str] | None = None) -> None:
        """Print what came out: the values as JSON, or as lines for people."""
        if self._as_json:
            json.dump(values, sys.stdout, indent=2, default=str)
            sys.stdout.write("\n")
            return
        width = max((len(k) for k in values), default=0)
        for line in lines if lines is not None else [f"{k:<{width}}  {_shown(v)}" for k, v in values.items()]:
            print(line)


def _shown(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)
