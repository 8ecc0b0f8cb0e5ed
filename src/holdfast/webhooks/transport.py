"""
Requests over httpx2, each on a connection of its own to an address that was chosen before. The only module here that
imports it: that takes a tenth of a second, which a server without endpoints never spends.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

import httpx2

from holdfast.webhooks.guard import Address, Target
from holdfast.webhooks.outcome import Fault, NotConnected, Outcome


class _WrongPeer(Exception):
    """The connection leads to another address than the one that was checked."""


class Transport:
    """Made once, by any thread; used on the event loop."""

    def __init__(self, *, connect_seconds: float, seconds_max: float, tls: ssl.SSLContext | None = None) -> None:
        self._client = httpx2.AsyncClient(
            verify=tls or ssl.create_default_context(),
            trust_env=False,
            follow_redirects=False,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
            timeout=httpx2.Timeout(seconds_max, connect=connect_seconds),
            headers={"user-agent": "Holdfast-Webhooks", "content-type": "application/json", "accept": "*/*"},
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def send(self, target: Target, address: Address, headers: Mapping[str, str], body: bytes) -> Outcome:
        """
        Send one request to this address, for the target's name. Of the answer only its head is read.

        Raises:
            NotConnected: nothing was sent.
            TimeoutError
        """

        async def check_peer(event: str, info: Mapping[str, Any]) -> None:
            # Before a byte of the request goes out.
            if event == "connection.connect_tcp.complete":
                stream = info["return_value"]
                peer = stream.get_extra_info("server_addr")
                if peer is None or ip_address(peer[0].partition("%")[0]) != address:
                    await stream.aclose()
                    raise _WrongPeer

        host = f"[{address}]" if address.version == 6 else str(address)
        request = self._client.build_request(
            "POST",
            f"{target.scheme}://{host}:{target.port}{target.path}",
            content=body,
            headers={**headers, "host": target.authority},
            extensions={"trace": check_peer, "sni_hostname": target.host},
        )
        try:
            response = await self._client.send(request, stream=True)
        except _WrongPeer:
            return Outcome(error="address_refused")
        except httpx2.ConnectTimeout:
            raise NotConnected("timeout") from None
        except httpx2.TimeoutException:
            raise TimeoutError from None
        except httpx2.ConnectError as exc:
            raise NotConnected("tls" if _is_tls(exc) else "connect") from None
        except httpx2.TransportError as exc:
            return Outcome(error="tls" if _is_tls(exc) else "connect")
        try:
            return _outcome_of(response)
        finally:
            await response.aclose()


def _outcome_of(response: httpx2.Response) -> Outcome:
    status = response.status_code
    if 200 <= status < 300:
        return Outcome(status_code=status)
    error: Fault = "redirect" if 300 <= status < 400 else "status"
    return Outcome(status_code=status, error=error, retry_after=response.headers.get("retry-after"))


def _is_tls(exc: BaseException | None) -> bool:
    while exc is not None:
        if isinstance(exc, ssl.SSLError):
            return True
        exc = exc.__cause__ or exc.__context__
    return False
