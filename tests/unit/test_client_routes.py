"""Every route of the APIs has a method of their clients, which sends what the route takes; or it is said why it has none."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

import pytest

from holdfast.api.engine.routes import engine
from holdfast.api.http.routing import Api
from holdfast.api.runtime import api as runtime
from holdfast.api.skills.routes import skills
from holdfast.client import AsyncEngineClient, AsyncEventStream, AsyncRunsClient, AsyncSkillsClient
from holdfast.client.errors import ClientError
from tests.support.wire import Wire, answer

CLIENTS = [(runtime, AsyncRunsClient), (engine, AsyncEngineClient), (skills, AsyncSkillsClient)]
# What a call needs that is no text, and calls that say more than they need.
GIVEN: dict[str, Any] = {"events": [], "item": {}, "exported": {}, "input": {}}
MORE: list[tuple[str, dict[str, Any]]] = [
    ("soul", {"full": True}),
    ("info", {"agent": "x"}),
    ("schema", {"agent": "x"}),
]

_BY_PARAMETER = "the client names the agent in `agent=` of the call without it"
_SOCKET = "WebSockets are for browsers; the stream over SSE carries the same"
_BROWSER = "it is for a browser"
WITHOUT = {
    "POST /agents/{name}/invoke": _BY_PARAMETER,
    "POST /agents/{name}/invoke/stream": _BY_PARAMETER,
    "POST /agents/{name}/runs": _BY_PARAMETER,
    "GET /agents/{name}/runs": _BY_PARAMETER,
    "DELETE /runs/{run_id}": "another name of POST /runs/{run_id}/cancel",
    "GET /runs/{run_id}/ws": _SOCKET,
    "GET /invoke/ws": _SOCKET,
    "GET /agents/{name}/invoke/ws": _SOCKET,
    "GET /": _BROWSER,
    "GET /docs": _BROWSER,
    "GET /redoc": _BROWSER,
    "GET /assets/oauth/callback": "the server of the consent sends the person's browser there",
    "GET /metrics": "it is for Prometheus",
    "GET /openapi.json": "it is for tools that make clients",
}
# The parts of all APIs that one of them answers for.
SHARED = {"GET /health", "GET /ready"}


async def asked_by(kind: type[Any]) -> set[tuple[str, str]]:
    """Method and path of what all methods of a client send."""
    wire = Wire(otherwise=lambda _: answer({}))
    async with kind("http://server", "key", transport=wire, reconnect_seconds=0) as client:
        for name, method in inspect.getmembers(client, inspect.ismethod):
            if name.startswith("_") or name in ("aclose", "set_key"):
                continue
            parameters = inspect.signature(method).parameters.values()
            empty = [
                item.name for item in parameters if item.default is item.empty and item.kind is not item.VAR_KEYWORD
            ]
            needed = {name: GIVEN.get(name, "x") for name in empty}
            for more in ({}, *[fields for other, fields in MORE if other == name]):
                call = method(**needed, **more)
                with suppress(ClientError, KeyError):  # the answer is none; what was asked counts
                    await (call.result() if isinstance(call, AsyncEventStream) else _as_awaitable(call))
    return {(request.method, request.url.raw_path.decode().partition("?")[0]) for request in wire.asked}


def _as_awaitable(call: Any) -> Awaitable[Any]:
    assert inspect.isawaitable(call)
    return call


def route_of(method: str, path: str, routes: set[str]) -> str | None:
    """The route that takes a request: of several, the one with the fewest parameters."""
    fitting = [
        route for route in routes if re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(route)), f"{method} {path}")
    ]
    return min(fitting, key=lambda route: route.count("{"), default=None)


@pytest.mark.parametrize(("api", "kind"), CLIENTS, ids=lambda item: getattr(item, "__name__", ""))
async def test_every_route_has_a_method_or_a_reason_to_have_none(api: Any, kind: type[Any]) -> None:
    made: Api = api()
    routes = set(made.operations)
    assert len(routes) > 20

    asked = {request: route_of(*request, routes | SHARED) for request in await asked_by(kind)}

    assert [request for request, route in asked.items() if route is None] == []
    assert sorted(routes - {route for route in asked.values() if route}) == sorted(routes & set(WITHOUT))


def test_what_is_said_to_have_no_method_is_a_route() -> None:
    routes = {route for api, _ in CLIENTS for route in api().operations}

    assert sorted(set(WITHOUT) - routes) == []
