"""
One session with an MCP server, through pydantic-ai's client: connect, list its tools or call one, close.

This module loads the model library: import it off the event loop. A session lives for one piece of work, so that none
is left behind by a crash, a cancellation or a stop, and every call uses the credential of its moment.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx2
from fastmcp.client.client import CallToolResult
from fastmcp.client.transports import ClientTransport, SSETransport, StdioTransport, StreamableHttpTransport
from fastmcp.exceptions import McpError
from pydantic_ai.mcp import MCPToolset

from holdfast.agents.mcp.remote import RemoteTool
from holdfast.agents.mcp.servers import McpServer
from holdfast.agents.mcp.vault import Credential
from holdfast.agents.tools import ToolError
from holdfast.errors import McpConnectionFailed, McpTokenExpired

CONNECT_SECONDS: Final = 30.0
# Less than a tool of the assistant gets in all, so that it is told what took so long.
CALL_SECONDS: Final = 110.0
TOOLS_MAX: Final = 128

# The client's own codes: the connection was closed, or nothing came in time. All others are the server's.
_CUT_CODES: Final = frozenset({-32000, -32001, 408})

# They would write requests, and so perhaps what must not be in a log.
for _name in ("fastmcp", "mcp", "httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


async def list_tools(server: McpServer, ref_id: str, credential: Credential | None) -> list[RemoteTool]:
    """
    The tools of a server, after a handshake.

    Raises:
        McpConnectionFailed, McpTokenExpired
    """
    async with _session(server, credential, _Statuses()) as toolset:
        listed = await toolset.list_tools()
    return [_described(server, ref_id, tool) for tool in listed[:TOOLS_MAX]]


async def call_tool(server: McpServer, credential: Credential | None, action: str, arguments: dict[str, Any]) -> Any:
    """
    What a tool gave, as JSON.

    Raises:
        ToolError: the tool itself failed, or refused the arguments (`tool_failed`).
        McpConnectionFailed, McpTokenExpired
    """
    statuses = _Statuses()
    async with _session(server, credential, statuses) as toolset:
        try:
            result = await toolset.client.call_tool(action, arguments, timeout=CALL_SECONDS, raise_on_error=False)
        except McpError as exc:
            if statuses.worst >= 400 or exc.code in _CUT_CODES:
                raise
            raise ToolError("tool_failed", without_secrets(str(exc), credential)) from None
    value = without_secrets(_value(result), credential)
    if result.is_error:
        raise ToolError("tool_failed", value if isinstance(value, str) else repr(value))
    return value


class _Statuses:
    """The worst status of the HTTP answers of a session: the client library turns them into errors of the protocol."""

    def __init__(self) -> None:
        self.worst = 0
        self.is_refused = False

    def client(
        self,
        headers: dict[str, str] | None = None,
        timeout: httpx2.Timeout | None = None,
        auth: httpx2.Auth | None = None,
        **_: Any,
    ) -> httpx2.AsyncClient:
        """A client that tells this of its answers. It follows no redirect: a key is for the address it was given for."""
        return httpx2.AsyncClient(
            headers=headers,
            timeout=timeout or httpx2.Timeout(CONNECT_SECONDS, read=CALL_SECONDS),
            auth=auth,
            follow_redirects=False,
            event_hooks={"response": [self._note]},
        )

    async def _note(self, response: httpx2.Response) -> None:
        # A server may refuse what is optional: the stream of its own messages, and ending the session.
        if response.request.method == "POST":
            self.worst = max(self.worst, response.status_code)
            self.is_refused = self.is_refused or response.status_code == 401


@asynccontextmanager
async def _session(
    server: McpServer, credential: Credential | None, statuses: _Statuses
) -> AsyncIterator[MCPToolset[Any]]:
    toolset: MCPToolset[Any] = MCPToolset(_transport(server, credential, statuses), id=server.name)
    try:
        async with asyncio.timeout(CONNECT_SECONDS + CALL_SECONDS), toolset:
            yield toolset
    except (ToolError, McpTokenExpired, McpConnectionFailed):
        raise
    except Exception as exc:  # noqa: BLE001 - a foreign server may fail in any way; what came is told without secrets
        own = next((one for one in _leaves(exc) if isinstance(one, ToolError)), None)
        if own is not None:
            raise own from None
        if statuses.is_refused and server.auth_method != "none":
            raise McpTokenExpired(f"{server.name} refused the credential: connect again") from None
        # Not `from exc`: its text and its frames may hold the credential.
        raise McpConnectionFailed(f"{server.name} cannot be used: {_told(exc, credential)}") from None


def _transport(server: McpServer, credential: Credential | None, statuses: _Statuses) -> ClientTransport:
    if server.transport == "stdio":
        env = dict(server.env)
        if credential is not None and server.key_env is not None:
            env[server.key_env] = credential.secret
        # What it writes to its standard error may hold the credential, and would come into our log.
        log_file = Path(os.devnull)
        return StdioTransport(server.command or "", list(server.args), env=env, keep_alive=False, log_file=log_file)
    headers = dict(server.headers)
    if credential is not None:
        headers[server.key_header] = server.key_prefix + credential.secret
    if server.transport == "sse":
        return SSETransport(server.url or "", headers=headers, httpx_client_factory=statuses.client)
    return StreamableHttpTransport(server.url or "", headers=headers, httpx_client_factory=statuses.client)


def _described(server: McpServer, ref_id: str, tool: Any) -> RemoteTool:
    hints = tool.annotations
    is_safe = hints is not None and bool(hints.read_only_hint or hints.idempotent_hint)
    return RemoteTool(
        ref_id=ref_id,
        server=server.name,
        action=tool.name,
        description=tool.description or "",
        schema=dict(tool.input_schema),
        may_repeat=is_safe,
    )


def _value(result: CallToolResult) -> Any:
    """The structured content, else the text; what is neither is named."""
    structured = result.structured_content
    if structured is not None:
        return structured["result"] if list(structured) == ["result"] else structured
    parts = [getattr(part, "text", None) or f"[{part.type}]" for part in result.content]
    return "\n".join(parts)


def without_secrets(value: Any, credential: Credential | None) -> Any:
    """A JSON value in which no text holds the credential."""
    if credential is None:
        return value
    if isinstance(value, str):
        for secret in credential.secrets():
            value = value.replace(secret, "[secret]")
        return value
    if isinstance(value, dict):
        return {without_secrets(key, credential): without_secrets(item, credential) for key, item in value.items()}
    if isinstance(value, list):
        return [without_secrets(item, credential) for item in value]
    return value


def _told(exc: BaseException, credential: Credential | None) -> str:
    first = next(iter(_leaves(exc)), exc)
    text = f"{type(first).__name__}: {first}" if str(first) else type(first).__name__
    told: str = without_secrets(text[:500], None) if credential is None else without_secrets(text, credential)[:500]
    return told


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    """The errors inside of groups."""
    if isinstance(exc, BaseExceptionGroup):
        for one in exc.exceptions:
            yield from _leaves(one)
    else:
        yield exc
