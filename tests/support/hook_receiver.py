"""A receiver of webhooks over HTTP, in a thread: it keeps what comes, and answers as its test says."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

WAIT_SECONDS = 30.0


class Received(NamedTuple):
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        decoded: dict[str, Any] = json.loads(self.body)
        return decoded


class HookReceiver:
    """Made by `hook_receiver`."""

    def __init__(self) -> None:
        self.url = ""
        self.wait_seconds = WAIT_SECONDS
        self.answer: Callable[[Received], int] = lambda _: 200
        self._received: list[Received] = []
        self._changed = threading.Condition()

    def take(self, received: Received) -> int:
        """A request came; the status to answer with."""
        with self._changed:
            self._received.append(received)
            self._changed.notify_all()
        return self.answer(received)

    def poke(self) -> None:
        """Have those who wait look again."""
        with self._changed:
            self._changed.notify_all()

    def received(self, path: str) -> list[Received]:
        """What came to a path so far, in order."""
        with self._changed:
            return [item for item in self._received if item.path == path]

    def wait(self, path: str, enough: Callable[[list[Received]], bool]) -> list[Received]:
        """What came to a path, once that is enough."""
        with self._changed:
            found: list[Received] = []

            def is_enough() -> bool:
                found[:] = [item for item in self._received if item.path == path]
                return enough(found)

            assert self._changed.wait_for(is_enough, self.wait_seconds), [item.event["type"] for item in found[-20:]]
            return found

    def wait_for(self, path: str, count: int) -> list[Received]:
        """So many requests to a path, or more."""
        return self.wait(path, lambda found: len(found) >= count)

    def events_of(self, path: str, number: int, last: str) -> list[Received]:
        """What came of one run, by `seq`, once its event of this name did, and all before it."""

        def mine(found: list[Received]) -> list[Received]:
            return [item for item in found if item.event["task_id"] == number]

        found = self.wait(path, lambda found: any(item.event["type"] == last for item in mine(found)))
        return sorted(mine(found), key=lambda item: item.event["seq"])


@contextlib.contextmanager
def hook_receiver() -> Iterator[HookReceiver]:
    """A receiver on a free port of 127.0.0.1."""
    receiver = HookReceiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name is the library's
            size = int(self.headers["content-length"])
            body = self.rfile.read(size)
            if len(body) < size:
                return  # whoever sent it died over it
            status = receiver.take(Received(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
