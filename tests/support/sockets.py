"""A WebSocket as a plain client uses it: objects in and out, and how it was closed."""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.support.server import KEY, ServerProcess

SECONDS = 20.0


class Socket:
    """One connection. What is awaited comes within SECONDS, or the test fails."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    def say(self, type: str, **members: Any) -> None:
        self.connection.send(json.dumps({"type": type, **members}))

    def text(self) -> str:
        """The next message, to the byte."""
        message = self.connection.recv(timeout=SECONDS)
        assert isinstance(message, str)
        return message

    def next(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text())
        return found

    def ask(self, type: str, **members: Any) -> dict[str, Any]:
        """What is answered to a message; events that come before that are left out."""
        self.say(type, ref="asked", **members)
        while (found := self.next()).get("ref") != "asked":
            pass
        return found

    def until(self, type: str) -> dict[str, Any]:
        """The next message of this type."""
        while (found := self.next())["type"] != type:
            pass
        return found

    def events(self) -> list[str]:
        """All events until the socket is closed, to the byte; other messages are left out."""
        found = []
        with contextlib.suppress(ConnectionClosed):
            while True:
                text = self.text()
                if "sequence" in json.loads(text):
                    found.append(text)
        return found

    def closed(self) -> tuple[int, str]:
        """Read until the socket is closed; code and reason."""
        with pytest.raises(ConnectionClosed) as caught:
            deque(iter(self.text, None), maxlen=0)
        received = caught.value.rcvd
        assert received is not None, "the connection was cut"
        return received.code, received.reason


@contextlib.contextmanager
def open_socket(
    server: ServerProcess, path: str, *, key: str | None = KEY, headers: dict[str, str] | None = None
) -> Iterator[Socket]:
    """A socket whose `hello` is still to be read."""
    given = {**({} if key is None else {"X-API-Key": key}), **(headers or {})}
    url = server.url.replace("http", "ws", 1) + path
    with connect(url, additional_headers=given, proxy=None, open_timeout=SECONDS) as connection:
        yield Socket(connection)


@contextlib.contextmanager
def joined(server: ServerProcess, run_id: str, *, key: str | None = KEY) -> Iterator[Socket]:
    """A socket of this run, behind its `hello`."""
    with open_socket(server, f"/runs/{run_id}/ws", key=key) as socket:
        assert socket.next()["type"] == "hello"
        yield socket
