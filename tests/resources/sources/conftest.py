"""Contracts that ship, for tests of sources."""

import pytest

from backbone.contracts import Contract
from resources.catalog.contracts import SHIPPED, read_contracts


@pytest.fixture(scope="session")
def contracts() -> dict[str, Contract]:
    return read_contracts([SHIPPED])
