"""A device whose certificate is revoked while mosquitto runs: it is turned away once the list is read anew."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

from tests.gateway.certificates import Authority
from tests.gateway.held_intake import until
from tests.gateway.mosquitto import Mosquitto, needs_mosquitto


@needs_mosquitto
def test_a_certificate_that_is_revoked_meanwhile_is_refused_once_the_list_is_read_anew(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "certificates")
    certificate, key = authority.server()
    device = authority.client("P-1")
    settings = f"""
cafile {authority.certificate}
certfile {certificate}
keyfile {key}
crlfile {authority.revoking()}
require_certificate true
use_identity_as_username true
"""
    tls = ssl.create_default_context(cafile=str(authority.certificate))
    tls.maximum_version = ssl.TLSVersion.TLSv1_2  # whose handshake does not end before the certificate is judged
    tls.load_cert_chain(*device)

    def is_let_in(port: int) -> bool:
        try:
            with (
                socket.create_connection(("127.0.0.1", port), 5) as line,
                tls.wrap_socket(line, server_hostname="127.0.0.1"),
            ):
                return True
        except ssl.SSLError as error:
            if "CERTIFICATE_REVOKED" not in str(error):
                raise
            return False

    with Mosquitto(tmp_path / "mosquitto", settings) as broker:
        assert is_let_in(broker.port)
        authority.revoking(device[0])
        assert is_let_in(broker.port)
        broker.reload()
        asyncio.run(until(lambda: not is_let_in(broker.port)))
