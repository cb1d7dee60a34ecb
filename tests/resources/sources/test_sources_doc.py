"""docs/sources.md shows what works."""

import re
import tomllib
from datetime import date
from pathlib import Path

from backbone import plugins
from backbone.contracts import Contract
from backbone.sources import SourceContext
from resources import sources

DOC = Path(__file__).resolve().parents[3] / "docs" / "sources.md"


def test_every_source_is_shown_and_each_example_opens(contracts: dict[str, Contract], tmp_path: Path) -> None:
    shown = set[str]()
    for block in re.findall(r"```toml\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL):
        for equipment_class, fleet in tomllib.loads(block)["fleets"].items():
            given = dict(fleet["source"])
            kind = given.pop("kind")
            context = SourceContext(
                "docs", contracts[equipment_class], contracts["maintenance"], date(2025, 1, 1), None, tmp_path, given
            )
            assert plugins.load(sources, kind).open(context)
            shown.add(kind)
    assert shown == set(plugins.names(sources))


def test_every_fault_is_described() -> None:
    from resources.sources.simulator.faults import FaultRates

    described = re.findall(r"^\| `(\w+)` \| (?:readings|sensor)", DOC.read_text(encoding="utf-8"), re.MULTILINE)
    assert described == list(FaultRates.__dataclass_fields__)
