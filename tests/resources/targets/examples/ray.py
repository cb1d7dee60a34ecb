"""A target on a Ray cluster of this machine, shared by all tests that leave it whole."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.resources.targets.ray_cluster import shared_cluster

MARKERS = ("ray",)


@contextmanager
def settings(tmp_path: Path) -> Iterator[Mapping[str, Any]]:
    yield {"address": shared_cluster().address, "num_cpus": 0.5}
