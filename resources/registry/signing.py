"""Signatures over release folders, with a key made on first run (OpenSSF Model Signing, elliptic curve P-256)."""

from __future__ import annotations

import os
from pathlib import Path

from backbone.errors import IntegrityError


class Signer:
    """Signs and verifies whole folders; a file changed, added or removed breaks the signature.

    Args:
        keys: folder of the key pair; `release.pem` is private to its owner and never leaves the plant.
    """

    def __init__(self, keys: Path) -> None:
        self._private, self._public = keys / "release.pem", keys / "release.pub.pem"

    def sign(self, folder: Path, signature: Path) -> None:
        """Write the signature of everything below `folder`."""
        from model_signing import signing

        self._make_keys()
        signing.Config().use_elliptic_key_signer(private_key=self._private).sign(folder, signature)

    def verify(self, folder: Path, signature: Path) -> None:
        """Raises `IntegrityError` unless the folder is exactly what was signed with this plant's key."""
        from model_signing import verifying

        if not signature.exists():
            raise IntegrityError(
                f"{folder} is not signed.", next_step="Make the release again; nothing unsigned is loaded."
            )
        if not self._public.exists():
            raise IntegrityError(
                f"The public key {self._public} is missing.", next_step="Restore it from the plant's backup."
            )
        try:
            verifying.Config().use_elliptic_key_verifier(public_key=self._public).verify(folder, signature)
        except Exception as error:  # the library raises what its parsers raise; any of it means no
            raise IntegrityError(
                f"{folder} does not verify: {error}.",
                next_step="Make the release again; the one before serves meanwhile.",
            ) from error

    def _make_keys(self) -> None:
        if self._private.exists():
            return
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        self._private.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._public.write_bytes(
            key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        descriptor = os.open(self._private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(pem)
