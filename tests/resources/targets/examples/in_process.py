"""As it comes; in its thread, so that work can be seen running."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def settings(tmp_path: Path) -> Iterator[dict[str, Any]]:
    yield {"background": True}
