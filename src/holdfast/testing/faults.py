"""What may happen between a client and the server, each a number of times: refusals, lost answers, cuts, silence."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Literal

import httpcore2
import httpx2
import msgspec

from holdfast.api.http.reply import Reply
from holdfast.testing.network import Backend, Network


class RequestFault(msgspec.Struct, frozen=True, kw_only=True):
    """What goes wrong with a request. `reply` makes a refusal from its target."""

    kind: Literal["refuse", "unreachable", "lose_answer"]
    reply: Callable[[bytes], Reply] | None = None


class StreamFault(msgspec.Struct, frozen=True, kw_only=True):
    """What goes wrong with a stream after so many bytes of its body."""

    kind: Literal["cut", "freeze"]
    after_bytes: int


class Faults:
    """The faults that are to come, in their order. Used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: deque[RequestFault] = deque()
        self._streams: deque[StreamFault] = deque()
        self._answers: deque[int] = deque()

    def plan(self, fault: RequestFault | StreamFault, times: int) -> None:
        """Let this happen to the next requests or streams."""
        with self._lock:
            if isinstance(fault, RequestFault):
                self._requests.extend([fault] * times)
            else:
                self._streams.extend([fault] * times)

    def cut_answers(self, after_bytes: int, times: int) -> None:
        """Let so many bytes of the next answers arrive, heads included."""
        with self._lock:
            self._answers.extend([after_bytes] * times)

    def of_request(self) -> RequestFault | None:
        """What happens to the request that is being made."""
        with self._lock:
            return self._requests.popleft() if self._requests else None

    def of_stream(self) -> StreamFault | None:
        """What happens to the stream that begins."""
        with self._lock:
            return self._streams.popleft() if self._streams else None

    def of_answer(self) -> int | None:
        """How many bytes of the answer to this request arrive. None: all."""
        with self._lock:
            return self._answers.popleft() if self._answers else None

    @property
    def left(self) -> int:
        """How many are still to come."""
        with self._lock:
            return len(self._requests) + len(self._streams) + len(self._answers)


class FakeTransport(httpx2.AsyncHTTPTransport):
    """The HTTP library's way to a fake server. Each belongs to one client and its event loop."""

    def __init__(self, network: Network, faults: Faults) -> None:
        super().__init__(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        # The library's own transport; it takes no other network than through its pool.
        self._pool = httpcore2.AsyncConnectionPool(
            network_backend=Backend(network, faults.of_answer), max_connections=None
        )
        self._faults = faults

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        fault = self._faults.of_request()
        if fault is not None and fault.kind == "unreachable":
            raise httpx2.ConnectError("connection refused", request=request)
        if fault is not None and fault.reply is not None:
            reply = fault.reply(request.url.raw_path)
            headers = [*reply.headers, (b"content-type", reply.media_type)]
            return httpx2.Response(reply.status, headers=headers, content=reply.body, request=request)
        response = await super().handle_async_request(request)
        is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
        if fault is not None:
            # What asks for a stream is carried out when the stream begins. It may never end: say, of a run that waits.
            if not is_stream:
                await response.aread()
            await response.aclose()
            raise httpx2.ReadError("connection reset", request=request)
        if not is_stream:
            return response
        broken = self._faults.of_stream()
        if broken is not None:
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            response.stream = _Broken(response.stream, broken, request)
        return response


class _Broken(httpx2.AsyncByteStream):
    """A body of which only the first bytes arrive."""

    def __init__(self, stream: httpx2.AsyncByteStream, fault: StreamFault, request: httpx2.Request) -> None:
        self._stream, self._fault, self._request = stream, fault, request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._fault.after_bytes
        if left > 0:
            async for data in self._stream:
                yield data[:left]
                left -= len(data)
                if left <= 0:
                    break
        if self._fault.kind == "freeze":
            await self._be_silent()
        raise httpx2.ReadError("connection reset", request=self._request)

    async def _be_silent(self) -> None:
        """Half open: nothing comes any more, and nothing says so but the time that the client gives it."""
        seconds = self._request.extensions.get("timeout", {}).get("read")
        try:
            async with asyncio.timeout(seconds):
                await asyncio.Event().wait()
        except TimeoutError:
            raise httpx2.ReadTimeout("nothing arrived in time", request=self._request) from None

    async def aclose(self) -> None:
        await self._stream.aclose()
