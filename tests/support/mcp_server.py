"""
A small MCP server: over stdio if this file is run, over HTTP in a thread of the test, with an OAuth server beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar
from urllib.parse import parse_qs

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations


def mcp_server() -> MCPServer[Any]:
    """Tools that add, that repeat what they are told, that fail, and that tell the credential that they were given."""
    server: MCPServer[Any] = MCPServer("fake", log_level="CRITICAL")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    def add(a: int, b: int) -> int:
        """Adds two numbers."""
        return a + b

    @server.tool()
    def fail() -> str:
        """Fails."""
        raise ToolError("out of paper")

    @server.tool()
    async def hold() -> str:
        """Does not end before its test says so."""
        FakeServers.held.append(time.monotonic())
        await asyncio.to_thread(FakeServers.is_released.wait)
        return "held"

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    def tell() -> str:
        """Tells what a server should not tell: the credential, and the environment."""
        environment = {name: value for name, value in os.environ.items() if name.startswith(("FAKE_", "HOLDFAST_"))}
        return json.dumps({"token": FakeServers.last_token, "environment": environment})

    return server


class FakeServers:
    """The HTTP side: `/mcp` asks for a bearer token out of `accepted` (None: for none), `/token` is OAuth's."""

    last_token = ""
    held: ClassVar[list[float]] = []  # when the tool `hold` was called
    is_released: ClassVar[threading.Event] = threading.Event()

    def __init__(self) -> None:
        self.url = ""
        self.accepted: set[str] | None = None
        self.is_down = False
        self.mcp_requests = 0
        self.token_requests: list[dict[str, str]] = []
        self.token_answers: list[tuple[int, dict[str, Any]]] = []  # used from the front; the last one stays
        self._sse: Any = mcp_server().sse_app()
        self._app: Any = mcp_server().streamable_http_app(json_response=True, stateless_http=True)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["path"] == "/token":
            await self._token(receive, send)
        elif self.is_down:
            await _answer(send, 500, {})
        else:
            self.mcp_requests += 1
            headers = dict(scope["headers"])
            token = headers.get(b"authorization", b"").decode().removeprefix("Bearer ")
            FakeServers.last_token = token
            if self.accepted is not None and token not in self.accepted:
                await _answer(send, 401, {"told": token})
            else:
                app = self._sse if scope["path"].startswith(("/sse", "/messages")) else self._app
                await app(scope, receive, send)

    async def _token(self, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.token_requests.append({name: values[0] for name, values in parse_qs(body.decode()).items()})
        status, answer = self.token_answers.pop(0) if len(self.token_answers) > 1 else self.token_answers[0]
        await _answer(send, status, answer)


async def _answer(send: Any, status: int, body: dict[str, Any]) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


@contextlib.contextmanager
def fake_servers() -> Iterator[FakeServers]:
    """They listen on a free port of 127.0.0.1."""
    fake = FakeServers()
    listener = socket.create_server(("127.0.0.1", 0))
    fake.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(fake, log_level="critical", lifespan="on", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


if __name__ == "__main__":
    mcp_server().run()
