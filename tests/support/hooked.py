"""A receiver of webhooks that a test can look at, and tell how to answer."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook


@dataclass
class Received:
    """One delivery, as it came."""

    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.body)
        return event

    def verify(self, secret: str) -> None:
        """By a library that is not ours; raises if the signature does not hold."""
        Webhook(secret).verify(self.body, self.headers)


@dataclass
class Receiver:
    """What came, oldest first. `answer` gives the status for each delivery; it may do more."""

    url: str = ""
    answer: Callable[[Received], int] = lambda _: 200
    received: list[Received] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, received: Received) -> int:
        with self._changed:
            self.received.append(received)
            self._changed.notify_all()
        return self.answer(received)

    def wait(self, condition: Callable[[list[Received]], bool], seconds: float = 30.0) -> None:
        """Until it holds for what was received."""
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self.received), seconds), [
                (item.event.get("type"), item.event.get("seq"), item.headers["webhook-id"][:12])
                for item in self.received
            ]


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a port of its own."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            body = self.rfile.read(length)
            if len(body) < length:
                return  # its sender died over it
            status = receiver.take(Received({name.lower(): value for name, value in self.headers.items()}, body))
            with contextlib.suppress(OSError):  # the sender may be gone
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/hooks"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
