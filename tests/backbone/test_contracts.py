"""Columns tell their Arrow type by name, without Arrow, and as one."""

import pyarrow as pa
import pytest

from backbone.contracts import ARROW_TYPES, DOCUMENT_TYPES, Column, column_type

STORED = [(logical, physical) for logical, types in ARROW_TYPES.items() for physical in types]


@pytest.mark.parametrize(("logical", "physical"), STORED)
def test_a_type_is_called_what_arrow_calls_it(logical: str, physical: str) -> None:
    column = Column("c", logical, physical_type=physical)
    assert isinstance(column.arrow_type, pa.DataType)
    assert column_type(column) == str(column.arrow_type)


@pytest.mark.parametrize("logical", ARROW_TYPES)
def test_the_first_physical_type_is_the_default(logical: str) -> None:
    first = next(iter(ARROW_TYPES[logical]))
    assert Column("c", logical).arrow_type == Column("c", logical, physical_type=first).arrow_type


@pytest.mark.parametrize("logical", DOCUMENT_TYPES)
def test_fields_of_documents_are_stored_as_text_and_called_what_they_are(logical: str) -> None:
    assert Column("c", logical).arrow_type == pa.string()
    assert column_type(Column("c", logical)) == logical
