"""What tests of the gateway share."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.mosquitto import Mosquitto


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A real one, with its limits set."""
    with Mosquitto(tmp_path / "broker") as running:
        yield running


class _Told(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))


@pytest.fixture(autouse=True)
def no_callback_raised() -> Iterator[None]:
    """An event loop only logs what a callback raises, and goes on: nobody else would hear of it."""
    told = _Told()
    logging.getLogger("asyncio").addHandler(told)
    yield
    logging.getLogger("asyncio").removeHandler(told)
    assert [text for text in told.texts if text.startswith("Exception in callback")] == []
