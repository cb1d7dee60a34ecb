"""An authority of the test's own, and what it signs: PEM files."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY = timedelta(days=1)


class Authority:
    """Writes into a folder.

    Attributes:
        certificate: path of its own.
    """

    def __init__(self, folder: Path, name: str = "plant") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._name, self._key = folder, _name(name), ec.generate_private_key(ec.SECP256R1())
        basic = x509.BasicConstraints(ca=True, path_length=None)
        signed = (
            self._builder(self._name, self._key).add_extension(basic, critical=True).sign(self._key, hashes.SHA256())
        )
        self.certificate = folder / f"{name}.pem"
        self.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def server(self, name: str = "server") -> tuple[Path, Path]:
        """Certificate and key of a server on 127.0.0.1."""
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        return self._issue(name, [address], ExtendedKeyUsageOID.SERVER_AUTH)

    def client(self, name: str, *, expired: bool = False) -> tuple[Path, Path]:
        """Certificate and key of a client."""
        return self._issue(name, [], ExtendedKeyUsageOID.CLIENT_AUTH, expired=expired)

    def revoking(self, *certificates: Path, stale: bool = False, lasts: timedelta = _DAY) -> Path:
        """The list of certificates that are revoked; a stale one should have been followed by another."""
        now = datetime.now(UTC) - (2 * _DAY if stale else timedelta())
        revoked = (
            x509.CertificateRevocationListBuilder().issuer_name(self._name).last_update(now).next_update(now + lasts)
        )
        for path in certificates:
            number = x509.load_pem_x509_certificate(path.read_bytes()).serial_number
            entry = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now).build()
            revoked = revoked.add_revoked_certificate(entry)
        path = self._folder / "list-of-revoked.pem"
        path.write_bytes(revoked.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path

    def _issue(
        self, name: str, more: list[x509.ExtensionType], use: x509.ObjectIdentifier, *, expired: bool = False
    ) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_name(name), key, expired=expired)
        for extension in [*more, x509.ExtendedKeyUsage([use])]:
            builder = builder.add_extension(extension, critical=False)
        certificate, private = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        certificate.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        private.write_bytes(key.private_bytes(*form))
        return certificate, private

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, expired: bool = False
    ) -> x509.CertificateBuilder:
        until = datetime.now(UTC) + (-_DAY if expired else _DAY)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(until - 2 * _DAY)
            .not_valid_after(until)
        )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
