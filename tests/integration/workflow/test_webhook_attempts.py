"""Single attempts over real sockets, to receivers that are slow, hostile, or not who their name says."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from holdfast.webhooks.guard import Address, Allowed
from holdfast.webhooks.outcome import Outcome
from holdfast.webhooks.post import Poster

OK: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """A server that keeps what came, as long as `listening` lasts."""

    def __init__(self) -> None:
        self.port = 0
        self.heads: list[str] = []
        self.connections = 0
        self.sni: list[str | None] = []


@contextlib.asynccontextmanager
async def listening(
    answer: bytes | Talk = OK, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Listener]:
    """A receiver that gives this answer, or talks as it is told, until the block is left."""
    listener = Listener()
    over = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        listener.connections += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            listener.heads.append(head.decode())
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await asyncio.wait([asyncio.ensure_future(answer(reader, writer)), asyncio.ensure_future(over.wait())])
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    if tls is not None:
        tls.sni_callback = lambda _, name, __: listener.sni.append(name)
    server = await asyncio.start_server(talk, host, port, ssl=tls)
    listener.port = server.sockets[0].getsockname()[1]
    try:
        yield listener
    finally:
        over.set()
        server.close()


def names(*turns: Sequence[str]) -> Callable[[str, int], Awaitable[list[Address]]]:
    """A resolver that gives these addresses, turn by turn; asked more often, it fails the test."""
    left = list(turns)

    async def resolve(host: str, port: int) -> list[Address]:
        return [ip_address(text) for text in left.pop(0)]

    return resolve


async def post(poster: Poster, url: str) -> Outcome:
    try:
        return await poster.post(url, {"webhook-id": "msg_1"}, b'{"a":1}')
    finally:
        await poster.close()


def seen(outcome: Outcome) -> tuple[int | None, str | None]:
    return outcome.status_code, outcome.error


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (OK, (200, None)),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, None)),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nx", (200, None)),
        (b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", (500, "status")),
        (b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n", (410, "status")),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", (304, "redirect")),
        (b"", (None, "connect")),
        (b"nonsense\r\n\r\n", (None, "connect")),
    ],
)
async def test_what_an_answer_comes_to(answer: bytes, expected: tuple[int | None, str | None]) -> None:
    async with listening(answer) as receiver:
        url = f"http://127.0.0.1:{receiver.port}/hooks?a=b"
        outcome = await post(Poster(Allowed.parse(["127.0.0.1"])), url)

    assert seen(outcome) == expected
    (head,) = receiver.heads
    lines = head.lower().split("\r\n")
    assert lines[0] == "post /hooks?a=b http/1.1"
    assert {"webhook-id: msg_1", "content-type: application/json", f"host: 127.0.0.1:{receiver.port}"} <= set(lines)


async def test_retry_after_is_handed_on() -> None:
    async with listening(b"HTTP/1.1 429 Later\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n") as receiver:
        outcome = await post(Poster(Allowed.parse(["127.0.0.1"])), f"http://127.0.0.1:{receiver.port}/")

    assert (outcome.status_code, outcome.retry_after) == (429, "7")


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A head without an end: a byte comes again and again, and only the time in all is over."""
    writer.write(b"HTTP/1.1 200 OK\r\nx: ")
    while not writer.is_closing():
        writer.write(b"y")
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("talk", [silence, drip])
async def test_an_answer_that_takes_too_long(talk: Talk) -> None:
    async with listening(talk) as receiver:
        poster = Poster(Allowed.parse(["127.0.0.1"]), seconds_max=0.2)
        outcome = await post(poster, f"http://127.0.0.1:{receiver.port}/")

    assert seen(outcome) == (None, "timeout")
    assert outcome.ms >= 200


async def test_nobody_listens_and_a_name_without_addresses() -> None:
    async with listening() as receiver:
        port = receiver.port
    closed = await post(Poster(Allowed.parse(["127.0.0.1"])), f"http://127.0.0.1:{port}/")

    async def nowhere(host: str, port: int) -> list[Address]:
        raise OSError("no such name")

    unknown = await post(Poster(Allowed(), resolve=nowhere), "https://nowhere.example.com/")

    assert (seen(closed), seen(unknown)) == ((None, "connect"), (None, "connect"))


async def test_the_next_address_is_tried_where_nobody_listens_at_the_first() -> None:
    with socket.socket() as first:
        first.bind(("127.0.0.1", 0))  # it does not listen, and nobody else does there
        async with listening(host="127.0.0.2", port=first.getsockname()[1]) as receiver:
            poster = Poster(Allowed.parse(["hooks.test"]), resolve=names(["127.0.0.1", "127.0.0.2"]))
            outcome = await post(poster, f"http://hooks.test:{receiver.port}/")

    assert seen(outcome) == (200, None)


# What must not be reached


async def test_a_redirect_to_a_private_address_is_not_followed() -> None:
    async with listening() as canary:
        moved = f"HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1:{canary.port}/\r\ncontent-length: 0\r\n\r\n"
        async with listening(moved.encode(), host="127.0.0.2") as receiver:
            outcome = await post(Poster(Allowed.parse(["127.0.0.2"])), f"http://127.0.0.2:{receiver.port}/")

    assert seen(outcome) == (307, "redirect")
    assert (receiver.connections, canary.connections) == (1, 0)


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["1.1.1.1", "127.0.0.1"], ["::ffff:127.0.0.1"], ["127.0.0.2", "127.0.0.1"]]
)
async def test_a_name_of_which_any_address_is_private_is_not_called(addresses: list[str]) -> None:
    async with listening() as canary:
        poster = Poster(Allowed.parse(["127.0.0.2/32"]), resolve=names(addresses))
        outcome = await post(poster, f"https://hooks.example.com:{canary.port}/")

    assert seen(outcome) == (None, "address_refused")
    assert canary.connections == 0


async def test_a_name_that_turns_private_is_called_at_the_address_that_was_checked(tmp_path: Path) -> None:
    server_tls, client_tls = certificate_for("hooks.test", tmp_path)
    async with listening(host="127.0.0.2", tls=server_tls) as receiver, listening(port=receiver.port) as canary:
        poster = Poster(Allowed.parse(["127.0.0.2/32"]), resolve=names(["127.0.0.2"], ["127.0.0.1"]), tls=client_tls)
        url = f"https://hooks.test:{receiver.port}/"
        first = await poster.post(url, {}, b"{}")
        second = await post(poster, url)

    assert (seen(first), seen(second)) == ((200, None), (None, "address_refused"))
    assert (receiver.connections, canary.connections) == (1, 0)


async def test_a_connection_that_leads_elsewhere_is_sent_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a network that rewrites addresses might do it; the peer is compared before the request goes out."""
    monkeypatch.setattr("holdfast.webhooks.transport.ip_address", lambda _: ip_address("127.0.0.9"))
    async with listening() as canary:
        outcome = await post(Poster(Allowed.parse(["127.0.0.1"])), f"http://127.0.0.1:{canary.port}/")

    assert seen(outcome) == (None, "address_refused")
    assert canary.heads == []


async def test_a_url_that_was_allowed_once_is_looked_at_again() -> None:
    async with listening() as canary:
        outcomes = [
            await post(Poster(Allowed()), url)
            for url in (f"http://127.0.0.1:{canary.port}/", f"https://127.0.0.1:{canary.port}/", "https://0x7f.1/")
        ]

    assert [seen(outcome) for outcome in outcomes] == [(None, "address_refused")] * 3
    assert canary.connections == 0


async def test_no_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening() as canary, listening(host="127.0.0.2") as receiver:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
        outcome = await post(Poster(Allowed.parse(["127.0.0.2"])), f"http://127.0.0.2:{receiver.port}/")

    assert seen(outcome) == (200, None)
    assert canary.connections == 0


# TLS


async def test_the_certificate_is_that_of_the_name_and_not_of_the_address(tmp_path: Path) -> None:
    server_tls, client_tls = certificate_for("hooks.test", tmp_path)
    allowed = Allowed.parse(["hooks.test", "other.test"])
    async with listening(tls=server_tls) as receiver:
        resolve = names(["127.0.0.1"], ["127.0.0.1"])
        poster = Poster(allowed, resolve=resolve, tls=client_tls)
        right = await poster.post(f"https://hooks.test:{receiver.port}/", {}, b"{}")
        wrong = await post(poster, f"https://other.test:{receiver.port}/")
        unknown = await post(Poster(allowed, resolve=names(["127.0.0.1"])), f"https://hooks.test:{receiver.port}/")

    assert [seen(item) for item in (right, wrong, unknown)] == [(200, None), (None, "tls"), (None, "tls")]
    assert receiver.sni == ["hooks.test", "other.test", "hooks.test"]
    assert f"host: hooks.test:{receiver.port}" in receiver.heads[0].lower().split("\r\n")
    assert len(receiver.heads) == 1


def certificate_for(name: str, directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """What a server of this name shows, and what takes that for its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cafile=str(path))
