"""`/skills…`: prompt skills, those of the catalog and the tenant's own. `POST /admin/reload-catalog`."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from litestar import delete, get, post, put

from holdfast.agents.catalog import PromptSkills
from holdfast.agents.prompt_skill import PromptSkill
from holdfast.api.engine.fields import read_object
from holdfast.api.engine.skill_fields import changed_fields, new_skill
from holdfast.api.http import asgi
from holdfast.api.http.call import Call
from holdfast.api.http.idempotency import once
from holdfast.api.http.reply import Reply, json_reply
from holdfast.errors import NotConfigured


@get("/skills", opt={"role": "reader"})
async def skills(request: Call) -> asgi.Answer:
    """All prompt skills that this tenant has, by name."""
    request.query()
    found = await _skills(request).all(request.caller.tenant)
    return json_reply(
        [
            {
                "name": listed.skill.name,
                "description": listed.skill.description,
                "source": listed.source,
                "category": listed.skill.category,
                "confidence": listed.confidence,
            }
            for listed in found
        ]
    )


@get("/skills/{name:str}", opt={"role": "reader"})
async def skill(request: Call) -> asgi.Answer:
    """A prompt skill with its prompt and scripts."""
    request.query()
    return json_reply((await _skills(request).get(request.caller.tenant, request.path_value("name"))).fields)


@post("/skills/create", opt={"role": "operator"}, status_code=201)
async def create(request: Call) -> asgi.Answer:
    """Make a prompt skill of this tenant's own."""
    query, body = request.query(), await request.json_body()
    made = PromptSkill(**new_skill(body))

    async def work() -> Reply:
        caller = request.caller
        return json_reply((await _skills(request).create(caller.tenant, made, by=caller.name)).fields, 201)

    return await once(request, query, body, work)


@put("/skills/{name:str}", opt={"role": "operator"})
async def change(request: Call) -> asgi.Answer:
    """Replace the fields that are sent."""
    query, body, name = request.query(), await request.json_body(), request.path_value("name")
    changes = changed_fields(body, name)

    async def work() -> Reply:
        caller = request.caller
        return json_reply((await _skills(request).change(caller.tenant, name, changes, by=caller.name)).fields)

    return await once(request, query, body, work)


@delete("/skills/{name:str}", opt={"role": "operator"}, status_code=200)
async def delete_skill(request: Call) -> asgi.Answer:
    """Delete a prompt skill of this tenant's own."""
    query, name = request.query(), request.path_value("name")

    async def work() -> Reply:
        await _skills(request).delete(request.caller.tenant, name)
        return json_reply({"status": "deleted", "name": name})

    return await once(request, query, None, work)


@post("/admin/reload-catalog", opt={"role": "admin"}, status_code=200)
async def reload_catalog(request: Call) -> asgi.Answer:
    """Read the catalog again, and take all of it or nothing."""
    query, body = request.query(), await request.json_body() if request.has_body else {}
    read_object(body, {})

    async def work() -> Reply:
        catalog = request.services.catalog
        if catalog is None:
            raise NotConfigured("the server has no catalog: set HOLDFAST_CATALOG", setting="HOLDFAST_CATALOG")
        found = await asyncio.to_thread(catalog.reload)
        store, clock = request.runs.store, request.services.clock
        await catalog.remember(store, clock)
        await catalog.tell(store, clock)
        return json_reply({"status": "reloaded", **msgspec.to_builtins(found)})

    return await once(request, query, body, work)


def _skills(request: Call) -> PromptSkills:
    return request.services.prompts


HANDLERS: Final = (skills, skill, create, change, delete_skill, reload_catalog)
