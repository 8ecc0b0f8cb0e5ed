"""
Readers that forget nothing: raw HTTP, every byte of every frame kept, coming back after every death of the server.

They know HTTP/1.1 and SSE by themselves and nothing of the product, so that a mistake of ours is not made twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import quote

import msgspec

# A server that is being killed refuses connections for a moment; so often a reader knocks.
KNOCK_SECONDS = 0.02
TERMINAL = frozenset({"complete", "error", "cancelled"})


class Cut(Exception):
    """The connection ended before the answer did."""


class Frame(msgspec.Struct, frozen=True):
    """One SSE message; `at` is when it was read (monotonic nanoseconds)."""

    id: str | None
    event: str | None
    data: bytes
    at: int = 0

    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.data)
        return value


class Answer(msgspec.Struct, frozen=True):
    """A whole HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Stream:
    """An open answer whose body is read as it comes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.status = 0
        self.headers: dict[str, str] = {}
        self.comments: list[str] = []

    async def head(self) -> None:
        """Read status and headers."""
        lines = (await self._until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.status = int(lines[0].split(" ")[1])
        self.headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }

    async def pieces(self) -> AsyncIterator[bytes]:
        """
        The body as it comes.

        Raises:
            Cut: it ended before its end.
        """
        if self.status in (204, 304):
            return
        if self.headers.get("transfer-encoding") == "chunked":
            while True:
                size = int((await self._until(b"\r\n")).split(b";")[0], 16)
                piece = await self._exactly(size + 2)
                if size == 0:
                    return
                yield piece[:-2]
        elif "content-length" in self.headers:
            yield await self._exactly(int(self.headers["content-length"]))
        else:
            while piece := await self._some():
                yield piece

    async def frames(self) -> AsyncIterator[Frame]:
        """The SSE messages of the body; a Cut in the middle of one drops that one, as SSE demands."""
        parser = Parser()
        async for piece in self.pieces():
            for frame in parser.feed(piece):
                yield frame
            self.comments = parser.comments

    def close(self) -> None:
        self.writer.close()

    async def _until(self, end: bytes) -> bytes:
        try:
            return await self.reader.readuntil(end)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise Cut(str(error)) from error

    async def _exactly(self, size: int) -> bytes:
        try:
            return await self.reader.readexactly(size)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise Cut(str(error)) from error

    async def _some(self) -> bytes:
        try:
            return await self.reader.read(65536)
        except OSError as error:
            raise Cut(str(error)) from error


class Parser:
    """Bytes to SSE messages. Lines end in LF alone: that is what our wire documents promise."""

    def __init__(self) -> None:
        self.comments: list[str] = []
        self._rest = b""

    def feed(self, piece: bytes) -> list[Frame]:
        """The messages that are complete now."""
        *blocks, self._rest = (self._rest + piece).split(b"\n\n")
        return [frame for block in blocks if (frame := self._frame(block)) is not None]

    def _frame(self, block: bytes) -> Frame | None:
        found: dict[str, bytes] = {}
        for line in block.split(b"\n"):
            name, _, value = line.partition(b": ")
            if line.startswith(b":"):
                self.comments.append(line[1:].strip().decode())
            elif name.decode() in found:
                raise AssertionError(f"two {name.decode()} lines in one message: {block!r}")
            else:
                found[name.decode()] = value
        if "data" not in found:
            return None
        identity, event = found.get("id"), found.get("event")
        return Frame(
            None if identity is None else identity.decode(),
            None if event is None else event.decode(),
            found["data"],
            time.monotonic_ns(),
        )


class Target:
    """Where the server is, and whether it is up: whoever kills and starts it says so here."""

    def __init__(self, port: int, key: str | None = None) -> None:
        self.port = port
        self.key = key
        self.up = asyncio.Event()

    async def open(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Stream:
        """
        Send a request and read the head of its answer.

        Raises:
            Cut, OSError: there is no server, or not any more.
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=4 * 1024 * 1024)
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", "Connection: close"]
        if self.key is not None:
            lines.append(f"X-API-Key: {self.key}")
        if body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        stream = Stream(reader, writer)
        try:
            writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or b""))
            await stream.head()
        except BaseException:
            stream.close()
            raise
        return stream

    async def call(
        self, method: str, path: str, value: Any = ..., *, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """
        One call, answered in full.

        Raises:
            Cut, OSError: it is unknown whether the server did anything.
        """
        body = None if value is ... else json.dumps(value).encode()
        stream = await self.open(method, path, headers=headers, body=body)
        try:
            return Answer(stream.status, stream.headers, b"".join([piece async for piece in stream.pieces()]))
        finally:
            stream.close()

    async def insist(
        self, method: str, path: str, value: Any = ..., *, headers: Mapping[str, str] | None = None, seconds: float = 60
    ) -> Answer:
        """The same, again and again until a server that lives answers it in full, and is not stopping."""
        async with asyncio.timeout(seconds):
            while True:
                await self.up.wait()
                with contextlib.suppress(Cut, OSError):
                    answer = await self.call(method, path, value, headers=headers)
                    if answer.status != 503:
                        return answer
                await asyncio.sleep(KNOCK_SECONDS)


class Reading:
    """
    One reader's record of one run over `GET /runs/{id}/events`: every data line, by sequence.

    `read` comes back after every cut until it has the terminal event. What it gets must continue what it has: a gap,
    a repeat or a message that says that history is missing is kept in `faults`, and the reader gives up.
    """

    def __init__(self, target: Target, run_id: str, *, by_header: bool = True) -> None:
        self.target, self.run_id, self.by_header = target, run_id, by_header
        self.frames: list[Frame] = []
        self.faults: list[str] = []
        self.connects = 0
        self.is_finished = False
        self.on_frame: Callable[[Frame], None] | None = None

    @property
    def lines(self) -> list[bytes]:
        """What was read: the canonical lines, as they came."""
        return [frame.data for frame in self.frames]

    @property
    def types(self) -> list[str]:
        return [frame.event or "" for frame in self.frames]

    def request(self) -> tuple[str, dict[str, str]]:
        """Path and headers of the call that goes on where this record ends."""
        path = f"/runs/{self.run_id}/events"
        if not self.frames:
            return path, {}
        if self.by_header:
            return path, {"Last-Event-ID": self.frames[-1].id or ""}
        return f"{path}?from_sequence={len(self.frames)}", {}

    async def read(self) -> None:
        """Read until the run is over."""
        while not self.is_finished and not self.faults:
            await self.target.up.wait()
            try:
                await self.read_once()
            except (Cut, OSError):
                await asyncio.sleep(KNOCK_SECONDS)

    async def read_once(self) -> None:
        """One connection, to its end."""
        path, headers = self.request()
        stream = await self.target.open("GET", path, headers=headers)
        self.connects += 1
        try:
            if stream.status == 204:
                self.is_finished = True
                return
            if stream.status != 200:
                await asyncio.sleep(KNOCK_SECONDS)  # it is starting or stopping
                if stream.status < 500:
                    self.faults.append(f"status {stream.status} for {path}")
                return
            async for frame in stream.frames():
                self.take(frame)
                if self.faults:
                    return
        finally:
            stream.close()

    def take(self, frame: Frame) -> None:
        """Note one message."""
        if frame.event == "gap":
            self.faults.append(f"behind {len(self.frames) - 1}: {frame.data.decode()}")
            return
        sequence = frame.json()["sequence"]
        if sequence != len(self.frames) or frame.id != str(sequence):
            self.faults.append(f"expected {len(self.frames)}, got id {frame.id}, sequence {sequence}")
            return
        if self.is_finished:
            self.faults.append(f"{frame.event} {sequence} behind the end")
        self.frames.append(frame)
        self.is_finished = frame.event in TERMINAL
        if self.on_frame is not None:
            self.on_frame(frame)


class Replaying(Reading):
    """The same over `GET /execute/replay`, by time: frames of one turn, the cursor is the last timestamp."""

    def __init__(self, target: Target, task_id: str, turn_id: str) -> None:
        super().__init__(target, turn_id)
        self.task_id = task_id
        self.last_timestamp = 0.0
        self.last_sequence = -1

    def request(self) -> tuple[str, dict[str, str]]:
        after = f"{self.last_timestamp:.3f}"
        return f"/execute/replay?task_id={quote(self.task_id, safe='')}&after={after}", {}

    def take(self, frame: Frame) -> None:
        if frame.event == "heartbeat":
            return
        value = frame.json()
        if frame.event == "replay_gap":
            self.faults.append(f"behind {self.last_timestamp}: {frame.data.decode()}")
            return
        if value["turn_id"] != self.run_id:
            return
        if value["timestamp"] <= self.last_timestamp:
            self.faults.append(f"timestamp {value['timestamp']} behind {self.last_timestamp}")
        sequence = value["sequence"]
        is_pair = frame.event == "thread_lifecycle" and bool(self.frames) and self.frames[-1].event == "error"
        if sequence != self.last_sequence + (0 if is_pair else 1):
            self.faults.append(f"sequence {sequence} behind {self.last_sequence}")
        self.last_timestamp, self.last_sequence = value["timestamp"], sequence
        self.frames.append(frame)
        self.is_finished = frame.event == "thread_lifecycle" and value["phase"] in ("completed", "errored")
        if self.on_frame is not None:
            self.on_frame(frame)
