"""Nothing is loaded that does not verify, and the release before steps in."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from backbone.errors import ContractError, IntegrityError, NotCommissioned
from resources.registry.releases import ReleaseRegistry
from resources.registry.signing import Signer


@pytest.fixture
def registry(tmp_path: Path) -> ReleaseRegistry:
    return ReleaseRegistry(tmp_path / "registry", Signer(tmp_path / "keys"))


def bundle(folder: Path, content: bytes) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(content)
    digests = {"model.onnx": f"sha256:{hashlib.sha256(content).hexdigest()}"}
    (folder / "manifest.json").write_text(json.dumps({"digests": digests}))
    return folder


def test_versions_only_grow_and_the_newest_serves(registry: ReleaseRegistry, tmp_path: Path) -> None:
    for content in (b"one", b"two"):
        registry.publish(bundle(tmp_path / "in", content), additions={"run_id": "r"})
    current = registry.current()
    assert (current.version, current.manifest["version"], current.manifest["run_id"]) == (2, 2, "r")
    assert (current.bundle / "model.onnx").read_bytes() == b"two"
    assert not (tmp_path / "in").exists()


def _flip_a_byte(release: Path) -> None:
    (release / "bundle" / "model.onnx").write_bytes(b"tw0")


def _add_a_file(release: Path) -> None:
    (release / "bundle" / "extra.bin").write_bytes(b"x")


def _remove_the_signature(release: Path) -> None:
    (release / "bundle.sig").unlink()


def _break_the_signature(release: Path) -> None:
    (release / "bundle.sig").write_text("{}")


def _put_an_older_signed_one_in_its_place(release: Path) -> None:
    shutil.rmtree(release)
    shutil.copytree(release.with_name("v0001"), release)


@pytest.mark.parametrize(
    "tamper",
    [_flip_a_byte, _add_a_file, _remove_the_signature, _break_the_signature, _put_an_older_signed_one_in_its_place],
)
def test_a_tampered_release_is_refused_and_the_one_before_serves(
    registry: ReleaseRegistry, tmp_path: Path, tamper: object
) -> None:
    for content in (b"one", b"two"):
        registry.publish(bundle(tmp_path / "in", content), additions={})
    tamper(tmp_path / "registry" / "v0002")  # type: ignore[operator]
    with pytest.raises(IntegrityError):
        registry.load(2)
    current = registry.current()
    assert current.version == 1
    assert len(current.passed_over) == 1
    assert current.passed_over[0].startswith("v2: ")


def test_if_none_verifies_that_is_said(registry: ReleaseRegistry, tmp_path: Path) -> None:
    registry.publish(bundle(tmp_path / "in", b"one"), additions={})
    _flip_a_byte(tmp_path / "registry" / "v0001")
    with pytest.raises(IntegrityError, match="No release verifies"):
        registry.current()


def test_a_key_of_another_plant_does_not_verify(registry: ReleaseRegistry, tmp_path: Path) -> None:
    registry.publish(bundle(tmp_path / "in", b"one"), additions={})
    other = ReleaseRegistry(tmp_path / "other", Signer(tmp_path / "other-keys"))
    other.publish(bundle(tmp_path / "in", b"theirs"), additions={})
    shutil.rmtree(tmp_path / "registry" / "v0001")
    shutil.copytree(tmp_path / "other" / "v0001", tmp_path / "registry" / "v0001")
    with pytest.raises(IntegrityError):
        registry.load(1)


def test_a_model_changed_after_training_is_not_released(registry: ReleaseRegistry, tmp_path: Path) -> None:
    arrived = bundle(tmp_path / "in", b"one")
    (arrived / "model.onnx").write_bytes(b"0ne")
    with pytest.raises(IntegrityError, match="changed after training"):
        registry.publish(arrived, additions={})
    assert registry.versions() == []


def test_a_manifest_that_is_not_permitted_is_not_published(registry: ReleaseRegistry, tmp_path: Path) -> None:
    seen = []

    def refuse(manifest: Mapping[str, Any]) -> None:
        seen.append((manifest["version"], manifest["coverage"]))
        raise ContractError("Out of range.", next_step="Train again.")

    with pytest.raises(ContractError):
        registry.publish(bundle(tmp_path / "in", b"one"), additions={"coverage": 2}, permit=refuse)
    assert (registry.versions(), seen) == ([], [(1, 2)])


def test_no_release_is_no_error_of_integrity(registry: ReleaseRegistry) -> None:
    with pytest.raises(NotCommissioned):
        registry.current()


def test_the_private_key_is_its_owners_alone(registry: ReleaseRegistry, tmp_path: Path) -> None:
    registry.publish(bundle(tmp_path / "in", b"one"), additions={})
    assert (tmp_path / "keys" / "release.pem").stat().st_mode & 0o077 == 0
