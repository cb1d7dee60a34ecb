"""Every facet of ours has a schema in the repository that says what may be in it, and no more."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from backbone.lineage import facets
from backbone.lineage.events import CUSTOM

ROOT = Path(__file__).resolve().parents[3]
SCHEMAS = {p.stem: json.loads(p.read_text()) for p in (ROOT / "resources" / "lineage" / "schemas").glob("*.json")}
_BASE = {
    "$id": "https://openlineage.io/spec/2-0-2/OpenLineage.json",
    "$defs": {
        kind: {"properties": {"_producer": {}, "_schemaURL": {}}}
        for kind in ("RunFacet", "DatasetFacet", "InputDatasetFacet")
    },
}
"""What the standard says of any facet, as far as it matters here: that it has these two."""


def validator(name: str) -> Draft202012Validator:
    documents = [_BASE, *SCHEMAS.values()]
    registry: Registry[Any] = Registry().with_resources(
        [(d["$id"], Resource.from_contents(d, default_specification=DRAFT202012)) for d in documents]
    )
    return Draft202012Validator({"$ref": f"{CUSTOM}:{name}.json#/$defs/{name}"}, registry=registry)


def test_every_facet_of_ours_has_a_schema_and_every_schema_a_facet() -> None:
    used = set(re.findall(r'custom\(\s*"(\w+)"', Path(facets.__file__).read_text()))
    assert used == set(SCHEMAS)


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_schemas_are_schemas_under_their_own_name(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])
    assert SCHEMAS[name]["$id"] == f"{CUSTOM}:{name}.json"
    (key,) = SCHEMAS[name]["properties"]
    assert key.startswith("hybrid_")


def test_a_schema_takes_what_we_write_and_nothing_else() -> None:
    facet = facets.answer({"epoch": 2, "rows": 3, "served_by": {"rules": 3}}, because="blocked", instead_of=None)
    validator("AnswerRunFacet").validate(facet)
    with pytest.raises(ValidationError):
        validator("AnswerRunFacet").validate({**facet, "more": 1})
    with pytest.raises(ValidationError):
        validator("AnswerRunFacet").validate({**facet, "epoch": "two"})
