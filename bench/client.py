"""A client that costs as little as possible, so that what is measured is the server."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

TERMINAL = re.compile(rb"event: (complete|error|cancelled)\n")


class Connection:
    """One kept HTTP/1.1 connection."""

    def __init__(self, host: str, port: int, key: str) -> None:
        self._host, self._port, self._key = host, port, key
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=1 << 20)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def send(self, method: str, path: str, body: Any = None) -> None:
        """Write a request."""
        assert self._writer is not None
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nX-API-Key: {self._key}\r\n"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        self._writer.write(head.encode() + b"\r\n" + data)

    async def head(self) -> tuple[int, bytes]:
        """The status and the head of the answer."""
        assert self._reader is not None
        head = await self._reader.readuntil(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), head

    async def json(self) -> Any:
        """The whole answer as JSON."""
        assert self._reader is not None
        status, head = await self.head()
        length = re.search(rb"(?i)content-length: (\d+)", head)
        body = await self._reader.readexactly(int(length[1])) if length else b"".join([c async for c in self.chunks()])
        if status >= 400:
            raise RuntimeError(f"{status}: {body.decode()}")
        return json.loads(body)

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        self.send(method, path, body)
        return await self.json()

    async def chunks(self) -> Any:
        """The chunks of a chunked body, as they come."""
        reader = self._reader
        assert reader is not None
        while True:
            size = int(await reader.readuntil(b"\r\n"), 16)
            data = await reader.readexactly(size + 2)
            if size == 0:
                return
            yield data[:-2]

    async def stream(self, on_data: Callable[[bytes], None] | None = None) -> int:
        """Read a body to its end and return its length in bytes."""
        status, head = await self.head()
        if status != 200 or b"chunked" not in head.lower():
            raise RuntimeError(head.decode())
        size = 0
        async for data in self.chunks():
            size += len(data)
            if on_data is not None:
                on_data(data)
        return size
