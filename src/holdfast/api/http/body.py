"""Reading a request's body: whole, within its limit and its time, and only if it is declared as plain JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from holdfast.api.http.asgi import Header, Receive
from holdfast.api.http.errors import BodyTimeout, BodyTooLarge, UnsupportedMediaType
from holdfast.api.http.strict_json import read_json

# From here on a body is parsed in a thread, so that it does not hold up every stream of the server.
THREAD_BYTES_MIN = 256 * 1024


def header(headers: Sequence[Header], name: bytes) -> bytes | None:
    """The first header of this (lower-case) name."""
    for key, value in headers:
        if key == name:
            return value
    return None


async def read_body(headers: Sequence[Header], receive: Receive, limit: int, *, idle_seconds: float) -> bytes:
    """
    The whole body. Where it is over the limit, nothing behind the limit is kept; `idle_seconds` without a byte of it
    are too long.

    Raises:
        BodyTooLarge, BodyTimeout
        ConnectionError: the client left in the middle of it.
    """
    declared = header(headers, b"content-length")
    if declared is not None and int(declared) > limit:
        raise BodyTooLarge(f"the body has {int(declared)} bytes, this call takes {limit}", limit=limit)
    pieces: list[bytes] = []
    size, more = 0, True
    while more:
        try:
            async with asyncio.timeout(idle_seconds):
                message = await receive()
        except TimeoutError:
            raise BodyTimeout(f"no byte of the body came for {idle_seconds:g} seconds") from None
        if message["type"] != "http.request":
            raise ConnectionAbortedError("the client left in the middle of the body")
        pieces.append(message["body"])
        size += len(message["body"])
        if size > limit:
            raise BodyTooLarge(f"the body is longer than {limit} bytes, all that this call takes", limit=limit)
        more = message.get("more_body", False)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def check_media_type(headers: Sequence[Header]) -> None:
    """
    Let `application/json` in UTF-8 and without a Content-Encoding pass, or refuse.

    Raises:
        UnsupportedMediaType
    """
    encoding = header(headers, b"content-encoding")
    if encoding is not None and encoding.strip().lower() not in (b"", b"identity"):
        raise UnsupportedMediaType("a body with a Content-Encoding is not taken; send it as it is")
    declared = header(headers, b"content-type")
    if declared is None:
        raise UnsupportedMediaType("the body needs the header Content-Type: application/json")
    media_type, _, parameters = declared.partition(b";")
    if media_type.strip().lower() != b"application/json":
        raise UnsupportedMediaType(f"the body must be application/json, not {declared[:100].decode('latin-1')!r}")
    for parameter in parameters.lower().split(b";"):
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"charset" and value.strip(b' \t"') not in (b"utf-8", b"utf8"):
            raise UnsupportedMediaType("a JSON body is UTF-8; send no other charset")


def has_body(headers: Sequence[Header]) -> bool:
    """Whether the request announces a body."""
    length = header(headers, b"content-length")
    if length is not None:
        return int(length) > 0
    return header(headers, b"transfer-encoding") is not None


async def read_json_body(
    headers: Sequence[Header],
    receive: Receive,
    limit: int,
    *,
    idle_seconds: float,
    repair: bool = False,
) -> Any:
    """
    The JSON value of a request; media type first, then size, then content.

    Raises:
        UnsupportedMediaType, BodyTooLarge, BodyTimeout, MalformedBody
    """
    check_media_type(headers)
    data = await read_body(headers, receive, limit, idle_seconds=idle_seconds)
    if len(data) < THREAD_BYTES_MIN:
        return read_json(data, repair=repair)
    return await asyncio.to_thread(read_json, data, repair=repair)
