"""A fleet that had its readings dropped as files before its plant got a gateway, and has its history dropped still."""

import importlib.util
from dataclasses import replace
from datetime import date
from pathlib import Path

from backbone.sources import SourceContext


def context(folder: Path) -> SourceContext:
    spec = importlib.util.spec_from_file_location("files_example", Path(__file__).with_name("files.py"))
    assert spec is not None
    assert spec.loader is not None
    files = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(files)
    settings = {"other": {"kind": "files"}, "telemetry_before": date(2025, 12, 1)}
    return replace(files.context(folder), settings=settings)
