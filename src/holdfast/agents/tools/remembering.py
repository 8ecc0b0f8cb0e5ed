"""
The tools by which a model uses the memory: it searches three stores, and writes knowledge, episodes, working memory.

A call that a crash cut off is carried out again under the same id, so that nothing is remembered twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec

from holdfast.agents.tools.tool import Call, Tool, ToolError
from holdfast.errors import MemoryItemNotFound
from holdfast.memory import Draft, Memory, MemoryWrite, shown_item
from holdfast.store.memory import Found

TEXT_MAX: Final = 10_000

# What a model can still overlook, and what is sent with each turn.
WORKING_KEYS_MAX: Final = 100
WORKING_BYTES_MAX: Final = 16 * 1024


class SearchInput(msgspec.Struct, forbid_unknown_fields=True):
    query: Annotated[
        str, msgspec.Meta(description="Words to look for; any of them will do.", min_length=1, max_length=1_000)
    ]
    limit: Annotated[int, msgspec.Meta(description="How many items at the most.", ge=1, le=20)] = 5


class KnowledgeInput(msgspec.Struct, forbid_unknown_fields=True):
    content: Annotated[
        str, msgspec.Meta(description="One fact, rule or preference, as a sentence.", min_length=1, max_length=TEXT_MAX)
    ]
    subject: Annotated[str, msgspec.Meta(description="What it is about, in a word or two.", max_length=255)] = ""
    type: Annotated[
        str, msgspec.Meta(description="fact, rule, preference or correction.", min_length=1, max_length=64)
    ] = "fact"
    id: Annotated[str | None, msgspec.Meta(description="The id of a known item, to put this in its place.")] = None


class EpisodeInput(msgspec.Struct, forbid_unknown_fields=True):
    description: Annotated[
        str, msgspec.Meta(description="What happened, in a sentence.", min_length=1, max_length=TEXT_MAX)
    ]
    key: Annotated[str, msgspec.Meta(description="A short name for this kind of thing.", max_length=255)] = ""
    value: Annotated[Any, msgspec.Meta(description="What came of it.")] = None


class WorkingInput(msgspec.Struct, forbid_unknown_fields=True):
    key: Annotated[str, msgspec.Meta(description="Names the note.", min_length=1, max_length=255)]
    value: Annotated[Any, msgspec.Meta(description="What to note; null removes the note.")]


MEMORY_TOOLS: Final = (
    "knowledge_search",
    "episode_search",
    "social_search",
    "knowledge_write",
    "memory_episode_write",
    "working_memory_write",
)
"""The names of these tools, for those who refer to them before there is a memory."""


def memory_tools(memory: Memory) -> list[Tool[Any]]:
    """The tools over this memory."""
    return [
        _search_tool(memory, "knowledge", "Searches what is known: facts, rules, preferences, corrections."),
        _search_tool(memory, "episodes", "Searches what happened in earlier conversations."),
        _search_tool(memory, "social", "Searches people and things, and how they stand to each other."),
        Tool(
            name="knowledge_write",
            description="Remembers a fact, rule or preference for all later conversations.",
            input=KnowledgeInput,
            function=_Writer(memory, "knowledge"),
        ),
        Tool(
            name="memory_episode_write",
            description="Remembers what happened, for all later conversations.",
            input=EpisodeInput,
            function=_Writer(memory, "episodes"),
        ),
        Tool(
            name="working_memory_write",
            description="Keeps a note for the rest of this conversation.",
            input=WorkingInput,
            function=_WorkingWriter(memory),
        ),
    ]


def _search_tool(memory: Memory, store: str, description: str) -> Tool[SearchInput]:
    async def search(call: Call, input: SearchInput) -> list[dict[str, Any]]:
        hits: Sequence[Found] = await call.context.execution.insist(
            lambda: memory.search(call.context.tenant, store, input.query, limit=input.limit)
        )
        now = memory.now()
        return [shown_item(hit.item, now, score=round(hit.score, 3)) for hit in hits]

    name = {"episodes": "episode_search"}.get(store, f"{store}_search")
    return Tool(name=name, description=description, input=SearchInput, function=search)


class _Writer:
    """Writes an item of one store, and tells it."""

    def __init__(self, memory: Memory, store: str) -> None:
        self._memory, self._store = memory, store

    async def __call__(self, call: Call, input: KnowledgeInput | EpisodeInput) -> dict[str, Any]:
        fields: dict[str, Any] = msgspec.to_builtins(input)
        item_id = fields.pop("id", None) or item_id_of(call)
        if self._store == "knowledge":
            # In the order in which items are shown elsewhere.
            fields = {name: fields[name] for name in ("subject", "content", "type")}
        else:
            fields = {name: fields[name] for name in ("key", "description", "value")}
            fields |= {"occurred_at": self._memory.now(), "task_id": call.context.thread_id}
        written = await write_item(self._memory, call, Draft(store=self._store, item_id=item_id, fields=fields))
        return {"status": "written", "id": written.item.item_id}


async def write_item(memory: Memory, call: Call, draft: Draft) -> MemoryWrite:
    """Keep an item of this turn, and tell it in its journal."""
    try:
        written: list[MemoryWrite] = await call.context.execution.insist(
            lambda: memory.write(call.context.tenant, draft, source=f"turn:{call.context.run_id}")
        )
    except MemoryItemNotFound as exc:
        raise ToolError(exc.code, exc.message) from exc
    item = written[0]
    shown: Mapping[str, Any] = shown_item(item.item, None)
    await call.context.event("memory", store=draft.store, action="written", item=shown)
    return item


class _WorkingWriter:
    """Sets or removes a key of the task's working memory, and tells it."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def __call__(self, call: Call, input: WorkingInput) -> dict[str, Any]:
        context = call.context
        if context.thread_id is None:
            raise ToolError("no_task", "this run belongs to no conversation that could keep a note")
        value = None if input.value is None else msgspec.json.encode(input.value)
        if value is not None and len(value) > WORKING_BYTES_MAX:
            raise ToolError(
                "invalid_input", f"a note may have {WORKING_BYTES_MAX:,} bytes; this one has {len(value):,}"
            )
        await context.execution.insist(lambda: self._write(call, input.key, value))
        action = "deleted" if value is None else "written"
        await context.event("memory", store="working", action=action, item={"key": input.key, "value": input.value})
        return {"status": action, "key": input.key}

    async def _write(self, call: Call, key: str, value: bytes | None) -> None:
        context, memory = call.context, self._memory
        assert context.thread_id is not None
        kept = await memory.working(context.tenant, context.thread_id)
        if value is not None and key not in kept and len(kept) >= WORKING_KEYS_MAX:
            raise ToolError("invalid_input", f"there are {WORKING_KEYS_MAX} notes already; remove one first")
        await memory.store.put_working(
            context.tenant,
            context.thread_id,
            number=context.execution.run.number,
            key=key,
            value=value,
            now=memory.now(),
        )


def item_id_of(call: Call) -> str:
    """The id of what a call writes: the same one when it is carried out again."""
    digest = hashlib.sha256(f"{call.context.tenant}\0{call.context.run_id}\0{call.key}".encode()).hexdigest()
    return f"mem_{digest[:16]}"
