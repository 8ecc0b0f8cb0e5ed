"""`/assets/…`: MCP servers and a tenant's connections to them. No answer holds a credential."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from litestar import delete, get, post

from holdfast.agents.mcp import Connection, Pending
from holdfast.api.engine import fields
from holdfast.api.engine.fields import Check, read_object, require
from holdfast.api.engine.refusals import answer_of
from holdfast.api.http import asgi
from holdfast.api.http.call import Call
from holdfast.api.http.idempotency import once
from holdfast.api.http.query import read_query
from holdfast.api.http.reply import Reply, json_reply
from holdfast.errors import HoldfastError
from holdfast.model.encoding import format_time

# Longer than any key or code that a known provider gives.
KEY_MAX: Final = 8192
NAME_MAX: Final = 255

_HTML: Final = b"text/html; charset=utf-8"
# The page has no scripts and loads nothing, and its address, which holds a code, is told to nobody.
_PAGE_HEADERS: Final = (
    (b"content-security-policy", b"default-src 'none'"),
    (b"referrer-policy", b"no-referrer"),
)


def _config(value: Any, path: str) -> dict[str, Any]:
    return read_object(value, {"api_key": fields.text(1, KEY_MAX)}, path)


_CONNECT: Final[Mapping[str, Check]] = {"server_name": fields.text(1, NAME_MAX), "server_config": _config}
_CALLBACK: Final[Mapping[str, Check]] = {"code": fields.text(1, KEY_MAX), "state": fields.text(1, NAME_MAX)}


@get("/assets/servers", opt={"role": "reader"})
async def servers(request: Call) -> asgi.Answer:
    """The MCP servers that this installation knows, and which of them this tenant is connected to."""
    request.query()
    found = await request.services.connections.servers(request.caller.tenant)
    return json_reply(
        [
            {
                "server_name": server.name,
                "display_name": server.display_name,
                "transport": server.transport,
                "auth_method": server.auth_method,
                "status": status,
            }
            for server, status in found
        ]
    )


@post("/assets/connect", opt={"role": "operator"}, status_code=200)
async def connect(request: Call) -> asgi.Answer:
    """Connect to a server after a handshake, or say where a person has to consent."""
    query, body = request.query(), await request.json_body()
    found = read_object(body, _CONNECT)
    require(found, "server_name")
    api_key = found.get("server_config", {}).get("api_key")

    async def work() -> Reply:
        made = await request.services.connections.connect(request.caller.tenant, found["server_name"], api_key)
        if isinstance(made, Pending):
            return json_reply({"ref_id": made.ref_id, "status": "pending_oauth", "auth_url": made.auth_url})
        return json_reply({"ref_id": made.ref_id, "status": "connected"})

    return await once(request, query, body, work, is_outside=True)


@get("/assets/connections", opt={"role": "reader"})
async def connections(request: Call) -> asgi.Answer:
    """This tenant's connections, oldest first."""
    request.query()
    return json_reply([_shown(one) for one in await request.services.connections.connections(request.caller.tenant)])


@delete("/assets/connections/{ref_id:str}", opt={"role": "operator"}, status_code=200)
async def disconnect(request: Call) -> asgi.Answer:
    """End a connection and erase its credential."""
    query, ref_id = request.query(), request.path_value("ref_id")

    async def work() -> Reply:
        await request.services.connections.disconnect(request.caller.tenant, ref_id)
        return json_reply({"status": "disconnected", "ref_id": ref_id})

    return await once(request, query, None, work)


@post("/assets/callback", opt={"role": "operator"}, status_code=200)
async def callback(request: Call) -> asgi.Answer:
    """What an OAuth consent came back with, from a program that took it in."""
    query, body = request.query(), await request.json_body()
    found = read_object(body, _CALLBACK)
    require(found, "code", "state")

    async def work() -> Reply:
        connections, tenant = request.services.connections, request.caller.tenant
        made = await connections.finish(found["state"], found["code"], tenant=tenant)
        return json_reply({"ref_id": made.ref_id, "status": made.status})

    return await once(request, query, body, work, is_outside=True)


@get("/assets/oauth/callback", opt={"public": True})
async def oauth_callback(request: Call) -> asgi.Answer:
    """Where a person's browser comes back to from an OAuth consent."""
    query = read_query(request.scope["query_string"], None)
    is_json = b"application/json" in (request.header(b"accept") or b"")
    try:
        made = await request.services.connections.finish(query.get("state", ""), query.get("code"))
    except HoldfastError as error:
        if is_json:
            raise
        return _page(answer_of(error)[0], "Not connected", "It did not work. Go back, and connect again.")
    if is_json:
        return json_reply({"ref_id": made.ref_id, "status": made.status})
    return _page(200, "Connected", f"{made.server_name} is connected. You may close this window.")


def _page(status: int, title: str, text: str) -> Reply:
    body = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><h1>{title}</h1><p>{text}</p></html>"
    )
    return Reply(status, body.encode(), _PAGE_HEADERS, _HTML)


def _shown(one: Connection) -> dict[str, Any]:
    return {
        "ref_id": one.ref_id,
        "server_name": one.server_name,
        "status": one.status,
        "scopes": list(one.scopes),
        "expires_at": None if one.expires_at is None else format_time(one.expires_at),
    }


HANDLERS: Final = (servers, connect, connections, disconnect, callback, oauth_callback)
