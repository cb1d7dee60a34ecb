"""A clean client configuration, a state database, a backend."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.state.database import Database
from tests.resources.lineage.backend import Backend


@pytest.fixture(autouse=True)
def _nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("OPENLINEAGE"):
            monkeypatch.delenv(name)
    (tmp_path / "user").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def backend() -> Iterator[Backend]:
    server = Backend()
    server.start()
    yield server
    server.released.set()
    server.stop()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def state_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of the test's own: an outbox is one for an installation."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'state.db'}"
        return
    if not (url := os.environ.get("HYBRID_TEST_POSTGRES")):
        pytest.skip("needs a PostgreSQL: set HYBRID_TEST_POSTGRES, such as postgresql+psycopg://user@host/database")
    import sqlalchemy

    name = f"lineage_{uuid.uuid4().hex}"
    admin = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield sqlalchemy.make_url(url).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    admin.dispose()


@pytest.fixture
def database(state_url: str) -> Iterator[Database]:
    made = Database(state_url)
    yield made
    made.engine.dispose()
