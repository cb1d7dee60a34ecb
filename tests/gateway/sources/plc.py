"""A real OPC UA server with sensors that a test sets, on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from asyncua import Server, ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.permission_rules import SimpleRoleRuleset, User, UserRole
from asyncua.server.user_managers import UserManager
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

T0 = datetime(2026, 1, 2, 12, tzinfo=UTC)
PASSWORD = "a password of the test's own"  # noqa: S105


class Passwords(UserManager):
    def get_user(self, iserver: Any, username: Any = None, password: Any = None, certificate: Any = None) -> Any:  # noqa: ARG002
        if username is None or (username, password) == ("gateway", PASSWORD):
            return User(role=UserRole.User)
        return None


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Certificate and key of an application, as OPC UA wants them."""
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    usage = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"urn:test:{name}")]), critical=False
        )
        .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        .sign(key, hashes.SHA256())
    )
    written = folder / f"{name}.der", folder / f"{name}.pem"
    written[0].write_bytes(signed.public_bytes(serialization.Encoding.DER))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    written[1].write_bytes(key.private_bytes(*form))
    return written


class Plc:
    """The server.

    Args:
        sensors: their node ids are `ns=2;s=` and the name.
    """

    def __init__(self, folder: Path, sensors: Sequence[str] = ("P1.Flow", "P1.Heat", "P2.Flow")) -> None:
        self.folder, self._sensors = folder, sensors
        self.certificate, self._key = certificate(folder, "plc")
        self.trusted = certificate(folder, "gateway")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = 0
        self.do(self._start())

    def do(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(60)

    async def _start(self) -> None:
        self.server = server = Server(user_manager=Passwords())
        await server.init()
        server.set_endpoint("opc.tcp://127.0.0.1:0/plc")
        await server.set_application_uri("urn:test:plc")
        policies = [ua.SecurityPolicyType.NoSecurity, ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt]
        server.set_security_policy(policies, permission_ruleset=SimpleRoleRuleset())
        await server.load_certificate(str(self.certificate))
        await server.load_private_key(str(self._key))
        server.set_certificate_validator(self._trusts)
        index = await server.register_namespace("urn:test:sensors")
        self.nodes = {}
        for name in self._sensors:
            node = await server.nodes.objects.add_variable(ua.NodeId(name, index), name, 0.0)
            self.nodes[name] = node
        await server.start()
        self.port = server.bserver._server.sockets[0].getsockname()[1]

    async def _trusts(self, shown: x509.Certificate, _: object) -> None:
        if shown.public_bytes(serialization.Encoding.DER) != self.trusted[0].read_bytes():
            raise ServiceError(ua.StatusCodes.BadCertificateUntrusted)

    @property
    def url(self) -> str:
        return f"opc.tcp://127.0.0.1:{self.port}/plc"

    def stop(self) -> None:
        self.do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _end(self) -> None:
        await self.server.stop()
        left = asyncio.all_tasks() - {asyncio.current_task()}  # subscriptions of those whose connection was cut
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def write(self, at_s: float, status: int = 0, **values: Any) -> None:
        """Have sensors (dots as underscores) show values of one time, in seconds after `T0`."""
        named = {name.replace("_", "."): value for name, value in values.items()}
        await asyncio.to_thread(self.show, at_s, named, status)

    def show(self, at_s: float, values: Mapping[str, Any], status: int = 0) -> None:
        """As `write`, by the names they have."""

        async def shown() -> None:
            for name, value in values.items():
                told = ua.DataValue(
                    ua.Variant(value),
                    StatusCode=ua.StatusCode(status),
                    SourceTimestamp=T0 + timedelta(seconds=at_s),
                    ServerTimestamp=datetime.now(UTC),
                )
                await self.nodes[name].write_value(told)

        self.do(shown())

    async def reset(self) -> None:
        """All sensors show 0 since a second before `T0`."""
        await self.write(-1, P1_Flow=0.0, P1_Heat=0.0, P2_Flow=0.0)
