"""`/memory/…`: what the assistant remembers, for people and programs: search, write, list, forget, soul, moving."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from litestar import delete, get, post, put

from holdfast.api.engine import fields
from holdfast.api.engine.fields import Check, read_object, refuse, require
from holdfast.api.engine.memory_fields import imported_item, soul_fields, time, written_item
from holdfast.api.engine.pages import page_cursor, page_limit, shown_cursor
from holdfast.api.http import asgi
from holdfast.api.http.call import Call
from holdfast.api.http.errors import PathNotFound
from holdfast.api.http.idempotency import once
from holdfast.api.http.reply import Reply, json_reply
from holdfast.memory import EXPORTED, STORES, Draft, Memory, SoulVersion, shown_item
from holdfast.model.encoding import format_time
from holdfast.store.memory import Everything

QUERY_MAX: Final = 1000
SEARCH_DEFAULT: Final = 20
SEARCH_MAX: Final = 100
IMPORT_BYTES_MAX: Final = 256 * 1024 * 1024

FORMAT: Final = "holdfast-memory"
VERSION: Final = 1


def whole(least: int, most: int) -> Check:
    """A whole number within bounds."""

    def check(value: Any, path: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            refuse(path, f"must be a whole number from {least} to {most}")
        return value

    return check


_SEARCH: Final[Mapping[str, Check]] = {"query": fields.text(1, QUERY_MAX), "limit": whole(1, SEARCH_MAX)}


@post("/memory/{store:str}/search", opt={"role": "reader"}, status_code=200)
async def search(request: Call) -> asgi.Answer:
    """Items that share a word with the query, best first."""
    query, store = request.query(), _store(request)
    body = await request.json_body()
    found = read_object(body, _SEARCH)
    require(found, "query")

    async def work() -> Reply:
        memory = request.runs.memory
        limit = found.get("limit", SEARCH_DEFAULT)
        hits = await memory.search(request.caller.tenant, store, found["query"], limit=limit)
        now = memory.now()
        return json_reply([shown_item(hit.item, now, score=hit.score) for hit in hits])

    return await once(request, query, body, work)


@post("/memory/{store:str}", opt={"role": "executor"}, status_code=201)
async def write(request: Call) -> asgi.Answer:
    """Keep an item; one whose id exists is replaced."""
    query, store = request.query(), _store(request)
    body = await request.json_body()
    memory = request.runs.memory
    draft = written_item(store, body, memory.now())

    async def work() -> Reply:
        (written,) = await memory.write(request.caller.tenant, draft, source=f"api:{request.caller.name}")
        item = await memory.read(request.caller.tenant, store, written.item.item_id)
        return json_reply(shown_item(item, memory.now()), 201 if written.is_new else 200)

    return await once(request, query, body, work)


@get("/memory/{store:str}", opt={"role": "reader"})
async def items(request: Call) -> asgi.Answer:
    """A page of a store's items, newest first."""
    query, store = request.query("limit", "cursor"), _store(request)
    limit, cursor = page_limit(query), page_cursor(query, int, str)
    memory = request.runs.memory
    page = await memory.store.items(request.caller.tenant, store, before=cursor, limit=limit + 1)
    now = memory.now()
    last = shown_cursor(page[limit - 1].created_at, page[limit - 1].item_id) if len(page) > limit else None
    return json_reply({"items": [shown_item(item, now) for item in page[:limit]], "next_cursor": last})


@get("/memory/{store:str}/{item_id:str}", opt={"role": "reader"})
async def item(request: Call) -> asgi.Answer:
    """An item."""
    request.query()
    memory = request.runs.memory
    found = await memory.read(request.caller.tenant, _store(request), _item_id(request))
    return json_reply(shown_item(found, memory.now()))


@delete("/memory/{store:str}/{item_id:str}", opt={"role": "operator"}, status_code=200)
async def delete_item(request: Call) -> asgi.Answer:
    """Forget an item; with a node go its edges."""
    query, store, item_id = request.query(), _store(request), _item_id(request)

    async def work() -> Reply:
        await request.runs.memory.forget(request.caller.tenant, store, item_id)
        return json_reply({"status": "deleted", "id": item_id})

    return await once(request, query, None, work)


@get("/memory/soul", opt={"role": "reader"})
async def soul(request: Call) -> asgi.Answer:
    """Who the assistant is to this tenant."""
    request.query()
    found = await request.runs.memory.soul(request.caller.tenant)
    return json_reply(dict(found.body))


@get("/memory/soul/full", opt={"role": "reader"})
async def full_soul(request: Call) -> asgi.Answer:
    """The soul with its version and history, newest first."""
    request.query()
    return json_reply(_full(await request.runs.memory.soul(request.caller.tenant)))


@put("/memory/soul", opt={"role": "operator"})
async def change_soul(request: Call) -> asgi.Answer:
    """Replace the fields that are sent."""
    query, body = request.query(), await request.json_body()
    found = soul_fields(body)

    async def work() -> Reply:
        caller = request.caller
        changed = await request.runs.memory.change_soul(caller.tenant, found, by=caller.name)
        return json_reply(dict(changed.body))

    return await once(request, query, body, work)


@get("/memory/export", opt={"role": "operator"})
async def export(request: Call) -> asgi.Answer:
    """Everything that is kept of the tenant, at one moment."""
    request.query()
    memory, tenant = request.runs.memory, request.caller.tenant
    found = await memory.everything(tenant)
    # All of a tenant would hold up every stream of the server.
    return await asyncio.to_thread(_export, found, memory.version_of(found.souls[::-1]), memory.now())


def _export(found: Everything, soul: SoulVersion, now: int) -> Reply:
    shown: dict[str, list[Any]] = {store: [] for store in EXPORTED}
    for each in found.items:
        if each.store in shown:
            shown[each.store].append(shown_item(each, None))
    # Nodes before edges, so that whoever reads it in order knows the ends.
    shown["social"].sort(key=lambda each: each["kind"] != "node")
    head = {"format": FORMAT, "version": VERSION, "exported_at": format_time(now)}
    return json_reply({**head, **shown, "soul": _full(soul)})


@post("/memory/import", opt={"role": "operator"}, status_code=200)
async def import_(request: Call) -> asgi.Answer:
    """Take an export: merged by id, what is newer wins, a tie changes nothing."""
    query, body = request.query(), await request.json_body(IMPORT_BYTES_MAX)
    memory, caller = request.runs.memory, request.caller
    drafts, soul_given = await asyncio.to_thread(_read_import, body, memory.now())

    async def work() -> Reply:
        counts = await memory.merge(caller.tenant, drafts, source=f"api:{caller.name}")
        counts["soul"] = await _merge_soul(memory, caller.tenant, soul_given, by=caller.name)
        return json_reply({"status": "imported", "counts": counts})

    return await once(request, query, body, work)


def _read_import(body: Any, now: int) -> tuple[list[Draft], dict[str, Any]]:
    parts: dict[str, Check] = {store: _list_of(store, now) for store in EXPORTED}
    found = read_object(
        body,
        {
            "format": fields.one_of((FORMAT,)),
            "version": whole(VERSION, VERSION),
            "exported_at": time,
            **parts,
            "soul": _read_soul,
        },
    )
    require(found, "format", "version")
    drafts = [draft for store in EXPORTED for draft in found.get(store, ())]
    _check_edges(drafts)
    return drafts, found.get("soul", {})


def _list_of(store: str, now: int) -> Check:
    def check(value: Any, path: str) -> list[Draft]:
        if not isinstance(value, list):
            refuse(path, "must be a list")
        found = [imported_item(store, each, now, f"{path}[{index}]") for index, each in enumerate(value)]
        for index, draft in enumerate(found):
            if draft.item_id is None:
                refuse(f"{path}[{index}].id", "is required")
        return sorted(found, key=lambda draft: draft.fields.get("kind") == "edge")

    return check


def _check_edges(drafts: list[Draft]) -> None:
    nodes = {draft.item_id for draft in drafts if draft.store == "social" and draft.fields["kind"] == "node"}
    for draft in drafts:
        if draft.store == "social" and draft.fields["kind"] == "edge":
            for end in ("from", "to"):
                if draft.fields[end] not in nodes:
                    refuse("social", f"the edge {draft.item_id!r} leads {end} a node that is not in the export")


def _read_soul(value: Any, path: str) -> dict[str, Any]:
    found = soul_fields(value, path, extra={"metadata": _as_it_is, "history": _as_it_is})
    metadata = found.pop("metadata", None)
    found.pop("history", None)
    updated_at = metadata.get("updated_at") if isinstance(metadata, dict) else None
    return {
        "fields": found,
        "updated_at": None if updated_at is None else time(updated_at, f"{path}.metadata.updated_at"),
    }


def _as_it_is(value: Any, _: str) -> Any:
    return value


async def _merge_soul(memory: Memory, tenant: str, given: Mapping[str, Any], *, by: str) -> dict[str, int]:
    counts = {"added": 0, "updated": 0, "unchanged": 0}
    if not given or given["updated_at"] is None:
        return counts  # nobody has written the exported one yet
    known = await memory.soul(tenant)
    if known.updated_at is not None and known.updated_at >= given["updated_at"]:
        return counts | {"unchanged": 1}
    changed = await memory.change_soul(tenant, given["fields"], by=by, at=given["updated_at"])
    if changed.version == known.version:
        return counts | {"unchanged": 1}
    return counts | {"added" if known.updated_at is None else "updated": 1}


def _full(found: SoulVersion) -> dict[str, Any]:
    def shown(at: int | None) -> str | None:
        return None if at is None else format_time(at)

    metadata = {
        "version": found.version,
        "created_at": shown(found.created_at),
        "updated_at": shown(found.updated_at),
    }
    history = [{**each, "at": shown(each["at"])} for each in found.history]
    return {**found.body, "metadata": metadata, "history": history}


def _store(request: Call) -> str:
    store = request.path_value("store")
    if store not in STORES:
        raise PathNotFound(f"there is no store {store!r} of the memory; there are {', '.join(STORES)}")
    return store


def _item_id(request: Call) -> str:
    return str(fields.task_id(request.path_value("item_id"), "item_id"))


HANDLERS: Final = (search, write, items, item, delete_item, soul, full_soul, change_soul, export, import_)
