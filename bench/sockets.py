"""WebSocket against server-sent events: the same runs, the same events, read both ways in turn."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.client import Connection
from bench.processes import KEY, Process, server
from bench.rows import CONTENT, Row, connect, quantile, row, timed_stream

_END = re.compile(rb'"type":"(complete|error|cancelled)"')
_RUN_ID = re.compile(rb'"run_id":"([^"]+)"')


class Socket:
    """A WebSocket that says one thing and reads until the end of the run; as little of a client as `Connection`."""

    def __init__(self, process: Process, path: str, message: dict[str, Any]) -> None:
        self._process, self._path = process, path
        text = json.dumps(message).encode()
        size = bytes((0x80 | len(text),)) if len(text) < 126 else bytes((0x80 | 126,)) + len(text).to_bytes(2, "big")
        # A mask of zeros is a mask, and costs nothing.
        self._frame = b"\x81" + size + bytes(4) + text

    async def open(self) -> None:
        """Have the handshake done."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._process.port, limit=1 << 20)
        self._writer.write(
            f"GET {self._path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {KEY}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            raise RuntimeError(head.decode())

    async def join(self) -> None:
        """Open it, say it, and wait for what is answered."""
        await self.open()
        self._writer.write(self._frame)
        await self._reader.readuntil(b'"type":"ack"')

    async def stream(self, on_data: Callable[[bytes], None]) -> None:
        self._writer.write(self._frame)
        rest = b""
        while _END.search(rest) is None:
            data = await self._reader.read(1 << 18)
            if not data:
                raise RuntimeError("the socket was closed before the end of the run")
            on_data(data)
            rest = rest[-64:] + data
        self._writer.close()


async def _timed_socket(process: Process, path: str, message: dict[str, Any]) -> tuple[float, bytes]:
    """Seconds from the message to the last event, and all bytes."""
    socket = Socket(process, path, message)
    await socket.open()
    parts: list[bytes] = []
    began = time.perf_counter()
    await socket.stream(parts.append)
    return time.perf_counter() - began, b"".join(parts)


async def w1(directory: Path) -> list[Row]:
    """One stream: emit to client, and replay. The floor is the same over server-sent events."""
    tokens = 100_000
    events = tokens + 2
    start = {"type": "start", "input": {"tokens": tokens}}
    streamed, replayed = [0.0, 0.0], [0.0, 0.0]
    with server(directory / "w1") as process:
        body = b""
        for _ in range(3):
            seconds, _first, body = await timed_stream(process, "POST", "/agents/burst/invoke/stream", start["input"])
            streamed[0] = max(streamed[0], events / seconds)
            seconds, body = await _timed_socket(process, "/agents/burst/invoke/ws", start)
            streamed[1] = max(streamed[1], events / seconds)
        run_id = (_RUN_ID.search(body) or [b"", b""])[1].decode()
        for _ in range(3):
            seconds, _first, body = await timed_stream(process, "GET", f"/runs/{run_id}/events")
            replayed[0] = max(replayed[0], events / seconds)
            seconds, body = await _timed_socket(process, f"/runs/{run_id}/ws", {"type": "subscribe"})
            replayed[1] = max(replayed[1], events / seconds)
    return [
        row("W1", f"{tokens:,} tokens, emit to client, WebSocket", streamed[1], "events/s", streamed[0], "≥ 0.8 of SSE",
            streamed[1] >= 0.8 * streamed[0]),
        row("W1", "replay of 100,000 events, WebSocket", replayed[1], "events/s", replayed[0], "≥ 0.8 of SSE",
            replayed[1] >= 0.8 * replayed[0]),
    ]  # fmt: skip


async def w2(directory: Path) -> list[Row]:
    """One run, 500 readers. The floor is the same over server-sent events."""
    readers, rate, tokens = 500, 50, 250
    found: dict[str, list[float]] = {"sse": [], "socket": []}
    with server(directory / "w2") as process:
        for way, latencies in found.items():
            starter = await connect(process)
            started = await starter.call("POST", "/agents/ticker/runs", {"tokens": tokens, "rate": rate, "delay": 2.0})
            starter.close()

            def on_data(data: bytes, latencies: list[float] = latencies) -> None:
                now = time.monotonic_ns()
                latencies.extend((now - int(born)) / 1e6 for born in CONTENT.findall(data))

            reader = _follow_stream if way == "sse" else _follow_socket
            await asyncio.gather(*(reader(process, started["run_id"], on_data) for _ in range(readers)))
    complete = len(found["socket"]) == readers * tokens
    rows = []
    for share, limit in ((0.5, 1.2), (0.99, 1.5)):
        value, base = quantile(found["socket"], share), quantile(found["sse"], share)
        what = f"500 WebSockets on one run, p{share * 100:.0f}" + ("" if complete else " (INCOMPLETE)")
        rows.append(row("W2", what, value, "ms", base, f"≤ {limit} of SSE", complete and value <= limit * base))
    return rows


async def _follow_stream(process: Process, run_id: str, on_data: Callable[[bytes], None]) -> None:
    connection: Connection = await connect(process)
    connection.send("GET", f"/runs/{run_id}/events")
    await connection.stream(on_data)
    connection.close()


async def _follow_socket(process: Process, run_id: str, on_data: Callable[[bytes], None]) -> None:
    socket = Socket(process, f"/runs/{run_id}/ws", {"type": "subscribe"})
    await socket.open()
    await socket.stream(on_data)


async def w3(directory: Path) -> list[Row]:
    """Memory of idle readers. The floor is a stream of server-sent events."""
    count = 500
    each = []
    held: list[Any] = []
    with server(directory / "w3") as process:
        starter = await connect(process)
        run_id = (await starter.call("POST", "/agents/idle/runs", {}))["run_id"]
        for way in ("sse", "socket"):
            rest = process.memory
            for _ in range(count):
                if way == "sse":
                    connection = await connect(process)
                    connection.send("GET", f"/runs/{run_id}/events")
                    await connection.head()
                    held.append(connection)
                else:
                    socket = Socket(process, f"/runs/{run_id}/ws", {"type": "subscribe"})
                    await socket.join()
                    held.append(socket)
            await starter.call("GET", "/health")
            each.append((process.memory - rest) / count / 1024)
        starter.close()
    return [row("W3", "an open idle WebSocket", each[1], "KiB", each[0], "≤ 40", each[1] <= 40)]


ROWS: dict[str, Callable[[Path], Any]] = {"W1": w1, "W2": w2, "W3": w3}
