"""ASGI's types, as far as this package needs them, and where our own entries of a scope are found."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from holdfast.api.http.call import Exchange
    from holdfast.api.http.connection import Connection

# JSON-like mappings whose keys the ASGI specification lists.
Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]


class Answer(Protocol):
    """What a handler returns: a `Reply`, a `Download` or an `EventStream`. (Litestar sends an ASGI application as is.)"""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


def exchange_of(scope: Scope) -> Exchange:
    """What the door found out about this request."""
    exchange: Exchange = scope["holdfast"]
    return exchange


def connection_of(scope: Scope) -> Connection:
    """The connection that this request came over."""
    connection: Connection = scope["extensions"]["holdfast"]
    return connection


def is_websocket(scope: Scope) -> bool:
    """Whether the request asks to become a WebSocket."""
    return any(name == b"upgrade" and value.lower() == b"websocket" for name, value in scope["headers"])
