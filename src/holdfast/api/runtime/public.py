"""The calls that need no key: which agents there are, how the server is, and a page that says where to go."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from typing import Final

from litestar import get

from holdfast.agents.registry import is_internal
from holdfast.api.http.asgi import Answer
from holdfast.api.http.call import Call, Services
from holdfast.api.http.errors import NotReady
from holdfast.api.http.openapi import input_schema_of, output_schema_of
from holdfast.api.http.reply import json_reply
from holdfast.errors import AgentNotFound, StoreError
from holdfast.execution.program import Program, spec_of
from holdfast.model.encoding import format_time

VERSION: Final = version("holdfast")
# `/health` answers within a second, whatever the store does.
PING_SECONDS = 0.8

_PUBLIC: Final = {"public": True}


@get("/health", opt=_PUBLIC)
async def show_health(request: Call) -> Answer:
    """200 while the process answers; `status` says whether it can work."""
    services = request.services
    database = await _database(services)
    now = services.clock.now()
    body = {
        "status": _status(services, database),
        "service": f"runtime:{services.default_agent}",
        "version": VERSION,
        "timestamp": format_time(now),
        "agent": services.default_agent,
        "framework": _framework(services),
        "uptime_seconds": round((now - services.started_at) / 1_000_000, 3),
        "subsystems": _subsystems(services, database),
    }
    return json_reply(body | ({"notices": services.notices} if services.notices else {}))


def _subsystems(services: Services, database: str) -> dict[str, str]:
    """How what the server needs is, as far as it knows; only the database decides whether it can work."""
    opened, mcp = services.opened, services.mcp
    is_answered = opened is None or opened.worker.tally.provider_answers
    return {
        "database": database,
        "llm_provider": "ok" if is_answered else "error",
        "asset_directory": "ok" if mcp is None else mcp.health,
        "sandbox": "unknown" if services.sandbox is None else services.sandbox.health,
    }


@get("/ready", opt=_PUBLIC)
async def show_ready(request: Call) -> Answer:
    """200 while the server takes runs."""
    services = request.services
    if services.shutdown.is_set:
        raise NotReady("the server is stopping", retry_after=1)
    status = _status(services, await _database(services))
    if status != "ok":
        raise NotReady(f"the server is not ready: {status}", retry_after=1)
    return json_reply({"success": True, "status": "ready", "agent": services.default_agent})


@get("/agents", opt=_PUBLIC)
async def list_agents(request: Call) -> Answer:
    """The agents that may be started now: those of the target, of the catalog and of the skill files."""
    services = request.services
    agents = [
        {
            "name": program.name,
            "description": _description(program),
            "framework": program.framework,
            "version": spec_of(program).version,
        }
        for program in services.programs
    ]
    return json_reply({"default": services.default_agent, "agents": agents})


@get(["/schema", "/agents/{name:str}/schema"], opt=_PUBLIC)
async def show_schema(request: Call) -> Answer:
    """What an agent takes and gives; without a declared schema, any object and anything."""
    program = _agent(request)
    return json_reply(
        {
            "success": True,
            "agent": program.name,
            "input_schema": input_schema_of(program),
            "output_schema": output_schema_of(program),
        }
    )


@get(["/info", "/agents/{name:str}/info"], opt=_PUBLIC)
async def show_info(request: Call) -> Answer:
    """What an agent is."""
    program = _agent(request)
    spec = spec_of(program)
    rotation = request.services.access.rotation_days
    return json_reply(
        {
            "success": True,
            **({} if rotation is None else {"rotation_days": rotation}),
            "agent": {
                "name": program.name,
                "description": _description(program),
                "framework": program.framework,
                "mode": spec.mode,
                "handler": spec.handler or _handler(program),
            },
            "auth_enabled": not request.services.authenticator.is_open,
            "version": spec.version,
            "metadata": {"tags": []} | spec.metadata,
        }
    )


def _agent(request: Call) -> Program:
    services = request.services
    name = request.path_value("name") if "name" in request.scope["path_params"] else services.default_agent
    found = None if name is None else services.registry.get(name)
    if found is not None and not is_internal(found):
        return found
    raise AgentNotFound(f"this server serves no agent {name!r}; GET /agents lists those that it serves", agent=name)


def _description(program: Program) -> str | None:
    return spec_of(program).description or getattr(program, "description", None)


def _handler(program: Program) -> str:
    function = getattr(program, "function", type(program))
    return f"{function.__module__}:{function.__qualname__}"


def _framework(services: Services) -> str | None:
    default = services.default_agent
    found = None if default is None else services.registry.get(default)
    return None if found is None else found.framework


def _status(services: Services, database: str) -> str:
    if services.shutdown.is_set:
        return "draining"
    if services.opened is None:
        return "starting"
    return "ok" if database == "ok" else "error"


async def _database(services: Services) -> str:
    if services.opened is None:
        return "starting"
    try:
        await asyncio.wait_for(services.opened.store.ping(), PING_SECONDS)
    except (StoreError, TimeoutError):
        return "error"
    return "ok"


HANDLERS: Final = (show_health, show_ready, list_agents, show_schema, show_info)
