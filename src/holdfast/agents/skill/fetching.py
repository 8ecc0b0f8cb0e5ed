"""
One HTTP request of a capability, within bounds: 5 redirects, 5 MiB.

A guarded request goes only to public addresses, and to those that are `allowed`. Its host is resolved, every address
is checked, and the connection goes to a checked one, not to the name again, which may mean something else a moment
later. Each redirect is a request of its own and checked like the first. TLS is for the name, no proxy is used.
"""

from __future__ import annotations

import asyncio
import importlib
import ssl
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin, urlsplit

import msgspec

from holdfast.webhooks.guard import Address, Allowed, is_public
from holdfast.webhooks.post import Resolve, resolve

if TYPE_CHECKING:
    from types import ModuleType

    import httpx2

BODY_BYTES_MAX: Final = 5 * 1024 * 1024
REDIRECTS_MAX: Final = 5
CONNECT_SECONDS: Final = 10.0

_PORTS: Final = {"http": 80, "https": 443}
_REDIRECTS: Final = (301, 302, 303, 307, 308)
# What is for the host that it was given for, and no other.
_PRIVATE: Final = frozenset({"authorization", "cookie", "x-api-key", "proxy-authorization"})


class FetchFailed(Exception):
    """No answer, or none that can be taken. It may pass, unless `is_final`."""

    def __init__(self, text: str, *, is_final: bool = False) -> None:
        super().__init__(text)
        self.is_final = is_final


class FetchRefused(FetchFailed):
    """The address may not be called. Nothing was sent to it."""


class FetchLate(FetchFailed):
    """The server was too slow."""


class Fetched(msgspec.Struct, frozen=True):
    """An answer."""

    status_code: int
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def text(self) -> str:
        """The body as text, by the charset that it names."""
        kind = self.headers.get("content-type", "")
        _, _, charset = kind.lower().partition("charset=")
        name = charset.split(";")[0].strip().strip("\"'") or "utf-8"
        try:
            return self.body.decode(name, errors="replace")
        except LookupError:
            return self.body.decode("utf-8", errors="replace")


class _Place(msgspec.Struct, frozen=True):
    url: str
    scheme: str
    host: str
    port: int


class Fetcher:
    """Made once; used on the event loop. The HTTP library is loaded with the first request."""

    def __init__(
        self, allowed: Allowed | None = None, *, resolve: Resolve = resolve, tls: ssl.SSLContext | None = None
    ) -> None:
        self._allowed = allowed or Allowed()
        self._resolve = resolve
        self._tls = tls
        self._opening: asyncio.Task[tuple[ModuleType, httpx2.AsyncClient]] | None = None

    async def close(self) -> None:
        if self._opening is not None:
            _, client = await self._opening
            await client.aclose()

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        guarded: bool = True,
    ) -> Fetched:
        """
        Send a request and read its answer, whatever its status. Cancelling closes the connection.

        Raises:
            FetchRefused: the URL is none, or leads where nothing may be sent.
            FetchFailed, FetchLate
        """
        library, client = await self._client()
        sent = {name.lower(): value for name, value in (headers or {}).items()}
        place = _place_of(url)
        first = place
        for _ in range(REDIRECTS_MAX + 1):
            is_guarded = guarded or place.host != first.host
            answer = await self._once(library, client, method, place, sent, body, is_guarded=is_guarded)
            location = answer.headers.get("location")
            if answer.status_code not in _REDIRECTS or not location:
                return answer
            if answer.status_code == 303 or (answer.status_code in (301, 302) and method == "POST"):
                method, body = "GET", None
                sent = {name: value for name, value in sent.items() if not name.startswith("content-")}
            after = _place_of(urljoin(place.url, location))
            if (after.scheme, after.host, after.port) != (place.scheme, place.host, place.port):
                sent = {name: value for name, value in sent.items() if name not in _PRIVATE}
            place = after
        raise FetchFailed(f"{first.host} redirects more than {REDIRECTS_MAX} times", is_final=True)

    async def _client(self) -> tuple[ModuleType, httpx2.AsyncClient]:
        if self._opening is None:
            self._opening = asyncio.create_task(asyncio.to_thread(self._open), name="http of capabilities")
        return await asyncio.shield(self._opening)

    def _open(self) -> tuple[ModuleType, httpx2.AsyncClient]:
        library = importlib.import_module("httpx2")
        client = library.AsyncClient(
            verify=self._tls or ssl.create_default_context(),
            trust_env=False,
            follow_redirects=False,
            # A connection is for one request: the next one may have to go to another address.
            limits=library.Limits(max_connections=None, max_keepalive_connections=0),
            timeout=library.Timeout(None, connect=CONNECT_SECONDS),
            headers={"user-agent": "Holdfast", "accept": "*/*", "accept-encoding": "identity"},
        )
        return library, client

    async def _once(
        self,
        library: ModuleType,
        client: httpx2.AsyncClient,
        method: str,
        place: _Place,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        is_guarded: bool,
    ) -> Fetched:
        addresses: Sequence[Address | None] = [None]
        if is_guarded:
            addresses = await self._checked(place)
        failure = FetchFailed(f"{place.host} has no address")
        for address in addresses:
            try:
                request = _request(client, method, place, address, headers, body)
            except (ValueError, TypeError, library.InvalidURL) as exc:
                raise FetchFailed(f"the request cannot be sent: {exc}", is_final=True) from None
            try:
                return await _answer(client, request, place)
            except library.ConnectError:
                failure = FetchFailed(f"{place.host} cannot be reached")  # nothing was sent: the next address
            except library.TimeoutException:
                raise FetchLate(f"{place.host} did not answer in time") from None
            except library.LocalProtocolError as exc:
                raise FetchFailed(f"the request cannot be sent: {exc}", is_final=True) from None
            except library.HTTPError as exc:
                raise FetchFailed(f"{place.host}: {exc or type(exc).__name__}") from None
        raise failure

    async def _checked(self, place: _Place) -> Sequence[Address]:
        """
        All addresses of a host, if all of them may be called.

        Raises:
            FetchRefused, FetchFailed
        """
        try:
            addresses: Sequence[Address] = [ip_address(place.host)]
        except ValueError:
            try:
                addresses = await self._resolve(place.host, place.port)
            except (OSError, UnicodeError):
                raise FetchFailed(f"{place.host} has no address") from None
        if not self._allowed.has_host(place.host, place.port):
            for address in addresses:
                if not is_public(address) and not self._allowed.has_address(address):
                    raise FetchRefused(f"{place.host} is no public address", is_final=True)
        return addresses


def _place_of(url: str) -> _Place:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise FetchRefused(f"this is no URL: {exc}", is_final=True) from None
    if parts.scheme not in _PORTS or not host:
        raise FetchRefused("a URL begins with http:// or https:// and names a host", is_final=True)
    if "@" in parts.netloc or "\\" in url or any(character <= " " for character in url):
        raise FetchRefused("a URL has no user, no backslash and no spaces", is_final=True)
    return _Place(url, parts.scheme, host.lower(), port or _PORTS[parts.scheme])


def _request(
    client: httpx2.AsyncClient,
    method: str,
    place: _Place,
    address: Address | None,
    headers: Mapping[str, str],
    body: bytes | None,
) -> httpx2.Request:
    if address is None:
        return client.build_request(method, place.url, headers=dict(headers), content=body)
    parts = urlsplit(place.url)
    literal = f"[{address}]" if address.version == 6 else str(address)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return client.build_request(
        method,
        f"{place.scheme}://{literal}:{place.port}{path}",
        headers={**headers, "host": parts.netloc},
        content=body,
        extensions={"sni_hostname": place.host},
    )


async def _answer(client: httpx2.AsyncClient, request: httpx2.Request, place: _Place) -> Fetched:
    response = await client.send(request, stream=True)
    try:
        pieces: list[bytes] = []
        size = 0
        async for piece in response.aiter_bytes():
            size += len(piece)
            if size > BODY_BYTES_MAX:
                raise FetchFailed(f"the answer of {place.host} has over {BODY_BYTES_MAX} bytes", is_final=True)
            pieces.append(piece)
    finally:
        await response.aclose()
    headers: dict[str, Any] = {name.lower(): value for name, value in response.headers.items()}
    return Fetched(response.status_code, headers, b"".join(pieces))
