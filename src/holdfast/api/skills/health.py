"""Whether the server is well: calls that need no key and count within no rate."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Final

from litestar import get

from holdfast.api.http.asgi import Answer
from holdfast.api.http.call import Call, Services
from holdfast.api.http.query import read_query
from holdfast.api.http.reply import json_reply
from holdfast.errors import StoreError
from holdfast.model.encoding import format_time

VERSION: Final = version("holdfast")
_PUBLIC: Final = {"public": True}
# It answers within a second, whatever the store does.
PING_SECONDS: Final = 0.8


@get("/v1/health", opt=_PUBLIC)
async def show_health(request: Call) -> Answer:
    """That the process answers; with `deep=true` also whether what it needs is there."""
    if read_query(request.scope["query_string"], None).get("deep") == "true":
        checks = await _checks(request.services)
        is_well = all(value == "ok" for value in checks.values())
        return json_reply({"status": "healthy" if is_well else "unhealthy", "checks": checks})
    now = format_time(request.services.clock.now())
    return json_reply({"status": "ok", "timestamp": now, "version": VERSION})


@get("/v1/health/live", opt=_PUBLIC)
async def show_live() -> Answer:
    """That the process answers."""
    return json_reply({"status": "alive"})


@get("/v1/health/ready", opt=_PUBLIC)
async def show_ready(request: Call) -> Answer:
    """200 while runs are taken, else 503."""
    checks = await _checks(request.services)
    if all(value == "ok" for value in checks.values()):
        return json_reply({"status": "ready", "checks": checks})
    return json_reply({"status": "not_ready", "checks": checks}, 503, ((b"retry-after", b"1"),))


async def _checks(services: Services) -> dict[str, str]:
    return {"process": _process(services), "store": await _store(services)}


def _process(services: Services) -> str:
    if services.shutdown.is_set:
        return "stopping"
    return "starting" if services.opened is None else "ok"


async def _store(services: Services) -> str:
    if services.opened is None:
        return "starting"
    try:
        await asyncio.wait_for(services.opened.store.ping(), PING_SECONDS)
    except (StoreError, TimeoutError):
        return "error"
    return "ok"


HANDLERS: Final = (show_health, show_live, show_ready)
