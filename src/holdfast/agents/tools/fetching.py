"""
GET over httpx2, to public addresses alone: each host is resolved, all its addresses are looked at, and the connection goes
to one of those and not to the name again. The same holds for every redirect. No proxy, no cookie, no compression.

Imports httpx2, which takes a tenth of a second: import it where something is fetched.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urldefrag, urljoin

import httpx2
import msgspec

from holdfast.agents.tools.tool import ToolError
from holdfast.errors import WebhookUrlRefused
from holdfast.webhooks.guard import Address, Allowed, Target, check_url, refused_address
from holdfast.webhooks.post import Resolve

REDIRECTS_MAX: Final = 5
# Of a page most is not text; of this much all text is found.
BODY_BYTES_MAX: Final = 1024 * 1024

_HEADERS: Final = {
    "user-agent": "Holdfast",
    "accept": "text/*, application/json;q=0.9, */*;q=0.1",
    "accept-encoding": "identity",
}


class Fetched(msgspec.Struct, frozen=True):
    """What came; `is_whole` says that nothing is missing."""

    url: str
    status: int
    content_type: str
    body: bytes
    is_whole: bool


class Fetcher:
    """Made for one fetch; `tls` is for tests."""

    def __init__(self, resolve: Resolve, allowed: Allowed, *, tls: ssl.SSLContext | None = None) -> None:
        self._resolve, self._allowed = resolve, allowed
        self._tls = tls or ssl.create_default_context()

    async def fetch(self, url: str, check: Callable[[str], None]) -> Fetched:
        """
        Follow a URL to what it leads to. `check` is asked about each URL on the way and may raise.

        Raises:
            ToolError: `address_refused`, `fetch_failed`
        """
        async with httpx2.AsyncClient(
            verify=self._tls,
            trust_env=False,
            follow_redirects=False,
            limits=httpx2.Limits(max_keepalive_connections=0),
            headers=_HEADERS,
        ) as client:
            for _ in range(REDIRECTS_MAX + 1):
                url = urldefrag(url).url
                check(url)
                target, address = await self._checked(url)
                found = await self._get(client, url, target, address)
                if isinstance(found, Fetched):
                    return found
                url = urljoin(url, found)
        raise ToolError("fetch_failed", f"more than {REDIRECTS_MAX} redirects")

    async def _checked(self, url: str) -> tuple[Target, Address]:
        if not url.lower().startswith(("http://", "https://")):
            raise ToolError("invalid_input", "a URL begins with http:// or https://")
        try:
            target = check_url(url, self._allowed, needs_tls=False)
        except WebhookUrlRefused as exc:
            raise ToolError("address_refused", exc.message) from None
        try:
            addresses = [target.address] if target.address else await self._resolve(target.host, target.port)
        except (OSError, UnicodeError):
            addresses = []
        if not addresses:
            raise ToolError("fetch_failed", f"{target.host} has no address")
        if refused_address(target, addresses, self._allowed) is not None:
            # Which one is nobody's business: it may tell how the network inside is built.
            raise ToolError("address_refused", f"{target.host} is at an address that is not public")
        return target, addresses[0]

    async def _get(self, client: httpx2.AsyncClient, url: str, target: Target, address: Address) -> Fetched | str:
        """What is there, or where it leads on."""

        async def check_peer(event: str, info: Mapping[str, Any]) -> None:
            if event == "connection.connect_tcp.complete":
                peer = info["return_value"].get_extra_info("server_addr")
                if peer is None or ip_address(peer[0].partition("%")[0]) != address:
                    await info["return_value"].aclose()
                    raise ToolError("address_refused", "the connection led to another address")

        host = f"[{address}]" if address.version == 6 else str(address)
        request = client.build_request(
            "GET",
            f"{target.scheme}://{host}:{target.port}{target.path}",
            headers={"host": target.authority},
            extensions={"trace": check_peer, "sni_hostname": target.host},
        )
        try:
            response = await client.send(request, stream=True)
            try:
                if response.is_redirect and response.headers.get("location"):
                    return str(response.headers["location"])
                return await _read(response, url)
            finally:
                await response.aclose()
        except httpx2.HTTPError as exc:
            raise ToolError("fetch_failed", f"{target.host}: {type(exc).__name__}: {exc}"[:300]) from None


async def _read(response: httpx2.Response, url: str) -> Fetched:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise ToolError("not_text", "the answer is compressed, though that was not asked for")
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > BODY_BYTES_MAX:
            break
    return Fetched(
        url=url,
        status=response.status_code,
        content_type=response.headers.get("content-type", ""),
        body=bytes(body[:BODY_BYTES_MAX]),
        is_whole=len(body) <= BODY_BYTES_MAX,
    )
