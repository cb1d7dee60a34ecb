"""What tests of the gateway share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.mosquitto import Mosquitto


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A real one, with its limits set."""
    with Mosquitto(tmp_path / "broker") as running:
        yield running
