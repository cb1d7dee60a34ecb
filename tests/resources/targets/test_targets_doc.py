"""docs/targets.md shows what works, and every setting there is."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from backbone import plugins
from backbone.errors import UnknownName
from backbone.targets import ComputeTarget, TargetContext
from resources import targets
from resources.clock import SystemClock

DOC = Path(__file__).resolve().parents[3] / "docs" / "targets.md"
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", DOC.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))
OF_EVERY_TARGET = {"name", "location", "kind", "timeout_s"}


def opened(folder: Path, kind: str, settings: Mapping[str, Any]) -> ComputeTarget:
    def open_target(kind: str, settings: Mapping[str, Any]) -> ComputeTarget:
        return plugins.load(targets, kind).open(TargetContext("docs", folder, SystemClock(), settings, open_target))

    return open_target(kind, settings)


def test_every_kind_has_a_section() -> None:
    assert set(SECTIONS) - {"Adding"} == set(plugins.names(targets))


@pytest.mark.parametrize("kind", plugins.names(targets))
def test_its_example_opens_and_its_settings_are_described(kind: str, tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", SECTIONS[kind], re.DOTALL)
    (shown,) = tomllib.loads(block)["targets"]
    assert shown["kind"] == kind
    settings = {key: value for key, value in shown.items() if key not in OF_EVERY_TARGET}
    assert opened(tmp_path, kind, settings)
    with pytest.raises(UnknownName) as error:
        opened(tmp_path, kind, {**settings, "no_such_setting": 1})
    rows = re.findall(r"^\| (`.*?) \|", SECTIONS[kind], re.MULTILINE)
    described = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert described == set(error.value.valid)
