"""The database that processes share, as tests use it."""

import os
import uuid
from pathlib import Path

import pytest

from resources.state.database import Database


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    if request.param == "sqlite":
        return Database(f"sqlite:///{tmp_path / 'state.db'}")
    if not (url := os.environ.get("HYBRID_TEST_POSTGRES")):
        pytest.skip("needs a PostgreSQL: set HYBRID_TEST_POSTGRES, such as postgresql+psycopg://user@host/database")
    return Database(url)


@pytest.fixture
def site() -> str:
    """A site that no other test has: a PostgreSQL outlives them."""
    return f"site-{uuid.uuid4().hex}"
