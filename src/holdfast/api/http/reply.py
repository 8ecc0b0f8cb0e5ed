"""Answers, as small ASGI applications: what a handler returns and an error is rendered as."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import msgspec

from holdfast.api.http.asgi import Header, Message, Receive, Scope, Send, exchange_of

JSON: Final = b"application/json"
# How long, and how much, a client may still send after its last answer.
LINGER_SECONDS = 1.0
LINGER_BYTES_MAX = 4 * 1024 * 1024
_encoder: Final = msgspec.json.Encoder()


class Reply(msgspec.Struct, frozen=True):
    """A whole answer. The door's headers (request id, CORS, no-store) are added when it is sent."""

    status: int
    body: bytes = b""
    headers: tuple[Header, ...] = ()
    media_type: bytes = JSON

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [*self.headers, *shared_headers(scope)]
        if self.status not in (204, 304):
            headers += [(b"content-type", self.media_type), (b"content-length", b"%d" % len(self.body))]
        begin(scope, self.status)
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})

    def with_headers(self, *headers: Header) -> Reply:
        """The same answer with further headers."""
        return Reply(self.status, self.body, (*self.headers, *headers), self.media_type)


class Download(msgspec.Struct, frozen=True):
    """An answer whose body is made while it is sent."""

    pieces: AsyncIterator[bytes]
    media_type: bytes
    headers: tuple[Header, ...] = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [*self.headers, *shared_headers(scope), (b"content-type", self.media_type)]
        begin(scope, 200)
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for piece in self.pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Parting(msgspec.Struct, frozen=True):
    """
    A last answer to a client that may still be sending: closing at once would reset the connection, and the client
    might never read the answer. So the answer is sent whole, then some of what comes is thrown away, then it closes.
    """

    reply: Reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reply = self.reply.with_headers((b"connection", b"close"))

        async def hold_open(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "more_body": True}
            await send(message)

        await reply(scope, receive, hold_open)
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                await _throw_away(receive)
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _throw_away(receive: Receive) -> None:
    left = LINGER_BYTES_MAX
    while left > 0:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            return
        left -= len(message["body"])


def json_reply(value: Any, status: int = 200, headers: Sequence[Header] = ()) -> Reply:
    """A value as JSON; `msgspec.Raw` inside it is copied as it is."""
    return Reply(status, _encoder.encode(value), tuple(headers))


def begin(scope: Scope, status: int) -> None:
    """Note that from here on an error cannot become an answer any more."""
    exchange_of(scope).begin(status)


def shared_headers(scope: Scope) -> list[Header]:
    """The headers that the door gives to every answer of this request."""
    return exchange_of(scope).headers
