"""A target on the stand-in for a cluster: no test here shows what a real one does."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from tests.resources.targets.cluster_api import IMAGE, ClusterApi

MARKERS = ("kubernetes",)


@contextmanager
def settings(tmp_path: Path) -> Iterator[Mapping[str, Any]]:
    for needed in ("kubernetes", "kubernetes_validate"):
        pytest.importorskip(needed, reason="pip install '.[test-all]'")

    def volume(folder: str) -> Path:
        # The store of the test that launched it: the only one that has the work's folder.
        (found,) = {p.resolve() for p in tmp_path.parent.glob(f"*/store/work/{PurePosixPath(folder).name}")}
        return found.parents[1]

    with ClusterApi(volume) as api:
        kubeconfig = api.kubeconfig(tmp_path / "kubeconfig")
        yield {"kubeconfig": str(kubeconfig), "context": "plant", "image": IMAGE, "claim": "plant-store"}
