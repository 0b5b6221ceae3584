"""Networks that do not lead to TikTok Shop: names, certificates, and hosts that are somebody else."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp.connector
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sync.clock import ApiClock
from sync.errors import AppError, RequestError
from sync.tiktok import client as client_module
from sync.tiktok.client import Client
from sync.tiktok.limiter import Pacer
from tests.integration.raw_server import Seen, always, reply, serve_connections
from tests.integration.test_client_requests import ACCESS, CANARY, POST

_NOW = datetime.now(UTC)
_DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_FIRST_WAIT_S", 0.005)
    monkeypatch.setattr(client_module, "_ATTEMPTS", 3)


class Authority:
    """A certificate authority of the test's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self._own = self._sign(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None))

    def trusted(self) -> ssl.SSLContext:
        """A client's context that trusts this authority and nobody else."""
        pem = self._own.public_bytes(serialization.Encoding.PEM).decode()
        return ssl.create_default_context(cadata=pem)

    def server(self, *, host: str = "127.0.0.1", until: datetime = _NOW + _DAY) -> ssl.SSLContext:
        """A server's context with a certificate for that host."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
        chain = self._folder / "server.pem"
        chain.write_bytes(
            self._sign(name, key, address, until=until).public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        return context

    def _sign(
        self, name: x509.Name, key: Any, extension: x509.ExtensionType, *, until: datetime = _NOW + _DAY
    ) -> x509.Certificate:
        return (
            x509.CertificateBuilder(self._name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(_NOW - 9 * _DAY)
            .not_valid_after(until)
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
            .sign(self._key, hashes.SHA256())
        )


async def ask(url: str) -> RequestError | None:
    """What the client says of it; None when it was answered."""
    async with Client(api_url=url, auth_url=url, clock=ApiClock()) as client, asyncio.timeout(20):
        (outcome,) = await asyncio.gather(
            client.send(POST, ACCESS, pacer=Pacer(1000)), return_exceptions=True
        )
    if not isinstance(outcome, BaseException):
        return None
    assert CANARY not in "".join(traceback.format_exception(outcome))
    assert isinstance(outcome, RequestError)
    return outcome


@pytest.mark.parametrize(
    ("certificate", "said"),
    [
        ({}, None),
        ({"until": _NOW - _DAY}, "certificate has expired"),
        ({"host": "127.0.0.2"}, "IP address mismatch"),
    ],
    ids=["good", "expired", "of another host"],
)
async def test_only_a_host_that_proves_who_it_is_gets_a_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificate: dict[str, Any], said: str | None
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", authority.trusted())
    seen: list[Seen] = []
    async with serve_connections(always(reply()), seen, tls=authority.server(**certificate)) as port:
        error = await ask(f"https://127.0.0.1:{port}")
    assert (str(said) in str(error), len(seen)) == ((True, 0) if said else (error is None, 1))


async def test_a_certificate_of_an_unknown_authority_is_refused(tmp_path: Path) -> None:
    seen: list[Seen] = []
    async with serve_connections(always(reply()), seen, tls=Authority(tmp_path).server()) as port:
        error = await ask(f"https://127.0.0.1:{port}")
    assert "does not prove who it is" in str(error)
    assert seen == []


async def test_a_handshake_that_is_cut_is_a_failed_request() -> None:
    def cut(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x16\x03\x03")
        writer.close()

    listening = await asyncio.start_server(cut, "127.0.0.1", 0)
    error = await ask(f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
    listening.close()
    assert "127.0.0.1" in str(error)
    assert "None" not in str(error)


async def test_a_name_that_does_not_exist_is_told() -> None:
    # By RFC 6761 nobody may ever have a name that ends so.
    error = await ask("http://open-api.invalid")
    assert "open-api.invalid:80 cannot be reached" in str(error)
    assert "None" not in str(error)


async def test_a_name_that_is_known_again_is_answered_in_the_same_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Seen] = []
    asked = 0

    async def resolve(_: str, port: int, **__: object) -> list[Any]:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    async with serve_connections(always(reply()), seen) as port:
        assert await ask(f"http://open-api.example:{port}") is None
    assert (asked, len(seen)) == (2, 1)


async def test_a_host_that_is_somebody_else_is_no_tiktok_shop() -> None:
    """What a wrong address record leads to: a server that knows nothing of us."""
    seen: list[Seen] = []
    page = reply(b"<html>Welcome to nginx</html>", status="404 Not Found")
    async with (
        serve_connections(always(page), seen) as port,
        Client(api_url=f"http://127.0.0.1:{port}", auth_url="http://127.0.0.1:1", clock=ApiClock()) as client,
    ):
        with pytest.raises(AppError, match="check SHOPSYNC_API_URL"):
            await client.send(POST, ACCESS, pacer=Pacer(1000))
    assert len(seen) == 1
