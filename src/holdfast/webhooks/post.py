"""
One attempt: resolve, check every address, connect to a checked one, send, look at the status.

The request goes to an address that was checked, not to the name again, which may mean something else a moment later.
TLS is still for the name. No redirect is followed, no proxy is used, no connection is kept for the next attempt.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.errors import WebhookUrlRefused
from holdfast.webhooks.guard import Address, Allowed, Target, check_url, refused_address
from holdfast.webhooks.outcome import NotConnected, Outcome

if TYPE_CHECKING:
    from holdfast.webhooks.transport import Transport

CONNECT_SECONDS: Final = 5.0
SECONDS_MAX: Final = 20.0

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]


async def resolve(host: str, port: int) -> list[Address]:
    """
    All addresses of a name, in the system's order.

    Raises:
        OSError: it has none.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(item[4][0]) for item in found))


class Poster:
    """Makes attempts. Made once; `close` it at the end."""

    def __init__(
        self,
        allowed: Allowed,
        *,
        resolve: Resolve = resolve,
        connect_seconds: float = CONNECT_SECONDS,
        seconds_max: float = SECONDS_MAX,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.allowed = allowed
        self._resolve = resolve
        self._connect_seconds = connect_seconds
        self._seconds_max = seconds_max
        self._tls = tls
        self._opening: asyncio.Task[Transport] | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """Make one attempt; whatever happens to it is the outcome. If it is cancelled, it may have been received."""
        transport = await self._transport()
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._seconds_max):
                outcome = await self._attempt(transport, url, headers, body)
        except TimeoutError:
            outcome = Outcome(error="timeout")
        return msgspec.structs.replace(outcome, ms=round((time.monotonic() - began) * 1000))

    async def close(self) -> None:
        if self._opening is not None:
            await (await self._opening).close()

    async def _transport(self) -> Transport:
        if self._opening is None:
            self._opening = asyncio.create_task(asyncio.to_thread(self._open), name="webhook transport")
        return await asyncio.shield(self._opening)

    def _open(self) -> Transport:
        from holdfast.webhooks.transport import Transport

        return Transport(connect_seconds=self._connect_seconds, seconds_max=self._seconds_max, tls=self._tls)

    async def _attempt(self, transport: Transport, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        try:
            target = check_url(url, self.allowed)
        except WebhookUrlRefused:  # the settings were others when it was set
            return Outcome(error="address_refused")
        addresses = await self._addresses(target)
        if refused_address(target, addresses, self.allowed) is not None:
            return Outcome(error="address_refused")
        outcome = Outcome(error="connect")  # of a name without addresses
        for address in addresses:
            try:
                return await transport.send(target, address, headers, body)
            except NotConnected as exc:  # nothing was sent; the next address may be reached
                outcome = Outcome(error=exc.error)
        return outcome

    async def _addresses(self, target: Target) -> Sequence[Address]:
        if target.address is not None:
            return [target.address]
        async with asyncio.timeout(self._connect_seconds):
            try:
                return await self._resolve(target.host, target.port)
            except (OSError, UnicodeError):
                return []
