"""The client of the Engine API: turns of conversations, people in the loop, memory and feedback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from holdfast.client.api_client import ApiClient, given
from holdfast.client.engine.events import EngineEvent
from holdfast.client.engine.source import EngineSource
from holdfast.client.http import Request
from holdfast.client.resuming import HEARTBEAT_SECONDS, RECONNECT_SECONDS, OnDiscard
from holdfast.client.streams import AsyncEventStream

if TYPE_CHECKING:
    import httpx2

Object = dict[str, Any]
Objects = list[dict[str, Any]]
Store = Literal["knowledge", "episodes", "social"]

# An import has up to 256 MiB, and is written before it is answered.
IMPORT_SECONDS = 600.0
# A tool or a prompt skill that is called by itself may take 120 s, and its run some more to end.
RPC_SECONDS = 130.0


class AsyncEngineClient(ApiClient):
    """
    An async client. One is enough for any number of tasks; close it, or use it in `async with`.

    Every call that changes something has an idempotency key, so that repeats of it, which the client makes by itself,
    have one effect. Answers are plain JSON values. Leaving a stream never stops a turn.
    """

    _KEY_HEADER = "X-Engine-Key"

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 30.0,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        reconnect_seconds: float = RECONNECT_SECONDS,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """
        Args:
            url: where the server is; default is HOLDFAST_URL, else where `holdfast serve` listens by itself.
            key: an API key; None sends none.
            timeout: seconds that a request waits for the server: for the connection, its answer, or the next piece of it.
                What waits for a turn has its own limit.
            heartbeat_seconds: how often the server shows that a stream lives (its setting). A stream that is silent for
                nearly twice as long is opened again.
            reconnect_seconds: how long the server may be away before a stream raises; `math.inf` is for ever.
            transport: replaces the network, for tests.
        """
        super().__init__(
            url,
            key,
            timeout=timeout,
            heartbeat_seconds=heartbeat_seconds,
            reconnect_seconds=reconnect_seconds,
            transport=transport,
        )

    # Turns

    def execute(
        self,
        message: str | None,
        task_id: str,
        *,
        media: Sequence[Mapping[str, Any]] | None = None,
        agent: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        edit_message_id: str | None = None,
        retry_message_id: str | None = None,
        direct: bool | None = None,
        super_thinking: bool | None = None,
        response_schema: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        on_discard: OnDiscard | None = None,
        timeout: float | None = None,
    ) -> AsyncEventStream[EngineEvent]:
        """
        Start a turn with the first iteration, and iterate over its frames on this one connection. `stream` comes back by itself.

        Raises: (by the iteration)
            ConnectionError: the connection ended before the last frame. The turn goes on: `replay` it from the timestamp
                of the last frame that came.
            Others: as `stream`.
        """
        source = self._turn(
            message,
            task_id,
            idempotency_key,
            on_discard,
            media=media,
            agent=agent,
            metadata=metadata,
            edit_message_id=edit_message_id,
            retry_message_id=retry_message_id,
            direct=direct,
            super_thinking=super_thinking,
            response_schema=response_schema,
        )
        return self._stream(source, timeout, is_once=True)

    def stream(
        self,
        message: str | None,
        task_id: str,
        *,
        media: Sequence[Mapping[str, Any]] | None = None,
        agent: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        edit_message_id: str | None = None,
        retry_message_id: str | None = None,
        direct: bool | None = None,
        super_thinking: bool | None = None,
        response_schema: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        on_discard: OnDiscard | None = None,
        timeout: float | None = None,
    ) -> AsyncEventStream[EngineEvent]:
        """
        Start a turn with the first iteration, and iterate over its frames up to the last one, whatever the connection does.

        Args:
            message: what the user says; None with `media` or `retry_message_id` alone.
            on_discard: is told which frames are void, as (turn_id, first, last), right before their `Restarted`.
            timeout: seconds from now after which the iteration raises; None: never.

        Raises: (by the iteration)
            TaskBusy, HitlRequired: the task has an active turn; no other was started.
            RequestRefused, AccessRefused: it was refused; there is no turn.
            Unavailable, ConnectionFailed: the server was away for longer than `reconnect_seconds`.
            DeadlineExceeded: the time is over. The turn, if it was started, goes on.
            A turn that fails raises nothing here: its last frame says so, and `result()` raises.
        """
        source = self._turn(
            message,
            task_id,
            idempotency_key,
            on_discard,
            media=media,
            agent=agent,
            metadata=metadata,
            edit_message_id=edit_message_id,
            retry_message_id=retry_message_id,
            direct=direct,
            super_thinking=super_thinking,
            response_schema=response_schema,
        )
        return self._stream(source, timeout)

    def replay(
        self,
        task_id: str | None = None,
        after: float | str = 0,
        *,
        turn_id: str | None = None,
        follow: bool = True,
        on_discard: OnDiscard | None = None,
        timeout: float | None = None,
    ) -> AsyncEventStream[EngineEvent]:
        """
        Iterate over frames that were sent before, and then live until every turn in scope that is active is over.

        Args:
            task_id: None: all tasks that the key may see.
            after: only frames with a greater timestamp (Unix milliseconds, or ISO 8601).
            follow: False ends at the end of what is stored.

        Raises: (by the iteration)
            TaskNotFound, TurnNotFound. Others: as `stream`.
        """
        source = EngineSource(None, task_id=task_id, turn_id=turn_id, after=after, follow=follow, on_discard=on_discard)
        return self._stream(source, timeout)

    async def cancel(self, task_id: str, turn_id: str | None = None) -> Object:
        """
        Cancel a task's active turn, or the one that is named. It is `errored` within 5 s; one that is over keeps its status.

        Raises:
            NoActiveTurn, TaskNotFound, TurnNotFound, AccessRefused, Unavailable, ConnectionFailed.
        """
        return await self._object("POST", "/execute/cancel", given(task_id=task_id, turn_id=turn_id))

    # People in the loop

    async def hitl_respond(
        self,
        task_id: str,
        answer: str,
        *,
        request_id: str | None = None,
        feedback: str | None = None,
        content_blocks: Sequence[Mapping[str, Any]] | None = None,
        input_hash: str | None = None,
        idempotency_key: str | None = None,
    ) -> Object:
        """
        Answer what a task's turn asks. Once this returns the answer is on disk. The same answer again is a success.

        Raises:
            AmbiguousHitl: several wait; name one. HitlNotFound: none does.
            HitlAlreadyAnswered: another answer was first. InvalidAnswer: it does not fit.
            HitlInputChanged, AccessRefused, Unavailable, ConnectionFailed.
        """
        body = given(
            task_id=task_id,
            answer=answer,
            request_id=request_id,
            feedback=feedback,
            content_blocks=_list(content_blocks),
            input_hash=input_hash,
        )
        return await self._object("POST", "/hitl/respond", body, key=idempotency_key)

    async def hitl_pending(
        self, task_id: str | None = None, *, limit: int | None = None, cursor: str | None = None
    ) -> Object:
        """A page of what turns ask people: `pending`, oldest first, and `next_cursor`."""
        return await self._read("/hitl/pending", given(task_id=task_id, limit=limit, cursor=cursor))

    # Tasks

    async def tasks(
        self,
        *,
        status: Literal["idle", "running", "waiting"] | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Object:
        """A page of tasks: `tasks`, last changed first, and `next_cursor`."""
        return await self._read("/tasks", given(status=status, limit=limit, cursor=cursor))

    async def task(self, task_id: str) -> Object:
        """A task with its newest 50 turns. TaskNotFound."""
        return await self._read(_task(task_id))

    async def messages(
        self, task_id: str, *, superseded: bool = False, limit: int | None = None, cursor: str | None = None
    ) -> Object:
        """A page of a task's messages: `messages`, oldest first, and `next_cursor`. TaskNotFound."""
        query = given(superseded=1 if superseded else None, limit=limit, cursor=cursor)
        return await self._read(f"{_task(task_id)}/messages", query)

    async def delete_task(self, task_id: str) -> Object:
        """Delete a task with its turns, frames and messages. TaskNotFound; TaskBusy, HitlRequired: a turn is active."""
        return await self._object("DELETE", _task(task_id))

    async def delete_grants(self, task_id: str) -> Object:
        """End every `always` of a task: what asked before asks again. For operators. TaskNotFound."""
        return await self._object("DELETE", f"{_task(task_id)}/grants")

    # Memory

    async def memory_search(self, store: Store | str, query: str, limit: int = 20) -> Objects:
        """What a store of the memory has on this, best first, each with a `score` (0 to 1). `limit`: 1 to 100."""
        answer = await self._change("POST", f"/memory/{_part(store)}/search", {"query": query, "limit": limit})
        return list(answer)

    async def memory_write(self, store: Store | str, item: Mapping[str, Any]) -> Object:
        """Write an item, or replace the one of its `id`; the item as it is stored. InvalidRequest, ItemNotFound."""
        return await self._object("POST", f"/memory/{_part(store)}", dict(item))

    async def memory_items(self, store: Store | str, *, limit: int | None = None, cursor: str | None = None) -> Object:
        """A page of a store: `items`, newest first, and `next_cursor`."""
        return await self._read(f"/memory/{_part(store)}", given(limit=limit, cursor=cursor))

    async def memory_item(self, store: Store | str, item_id: str) -> Object:
        """An item. ItemNotFound."""
        return await self._read(f"/memory/{_part(store)}/{_part(item_id)}")

    async def memory_delete(self, store: Store | str, item_id: str) -> Object:
        """Forget an item; with a node its edges. ItemNotFound."""
        return await self._object("DELETE", f"/memory/{_part(store)}/{_part(item_id)}")

    async def soul(self, *, full: bool = False) -> Object:
        """Who the assistant is: `identity`, `values`, `patterns`; `full`: with its history."""
        return await self._read("/memory/soul/full" if full else "/memory/soul")

    async def change_soul(self, **fields: Any) -> Object:
        """Replace `identity`, `values` or `patterns`; the soul as it is then."""
        return await self._object("PUT", "/memory/soul", fields)

    async def memory_export(self) -> Object:
        """Everything that is remembered, as it is at one moment."""
        return await self._read("/memory/export", timeout=IMPORT_SECONDS)

    async def memory_import(self, exported: Mapping[str, Any]) -> Object:
        """Merge an export by ids; what became of the items is in `counts`. InvalidRequest: nothing was taken."""
        return await self._object("POST", "/memory/import", dict(exported), timeout=IMPORT_SECONDS)

    # Feedback

    async def feedback(self, task_id: str, feedback_type: str, **kwargs: Any) -> Object:
        """
        Say what somebody thinks of a turn: `positive`, `negative`, `correction`, `preference` or `rating`.

        Args:
            kwargs: `turn_id`, `message_id`, `comment`, `correction`, `score` (1 to 5), `metadata`; and `idempotency_key`.

        Raises:
            InvalidRequest: something is missing or does not fit. TaskNotFound, TurnNotFound, MessageNotFound.
        """
        key = kwargs.pop("idempotency_key", None)
        body = {"task_id": task_id, "feedback_type": feedback_type, **kwargs}
        return await self._object("POST", "/feedback", body, key=key)

    async def feedback_given(
        self, task_id: str | None = None, *, limit: int | None = None, cursor: str | None = None
    ) -> Object:
        """A page of feedback: `feedback`, newest first, and `next_cursor`."""
        return await self._read("/feedback", given(task_id=task_id, limit=limit, cursor=cursor))

    # MCP servers

    async def asset_servers(self) -> Objects:
        """The MCP servers that can be connected."""
        return list(await self._get("/assets/servers"))

    async def asset_connect(self, server_name: str, server_config: Mapping[str, Any] | None = None) -> Object:
        """
        Connect an MCP server: `status` is "connected", or "pending_oauth" with the `auth_url` for the person's browser.

        Raises:
            McpConnectionFailed, McpTokenExpired, AssetNotFound, NotConfigured: nothing is kept.
        """
        body = given(server_name=server_name, server_config=None if server_config is None else dict(server_config))
        return await self._object("POST", "/assets/connect", body)

    async def asset_connections(self) -> Objects:
        """This tenant's connections."""
        return list(await self._get("/assets/connections"))

    async def asset_disconnect(self, ref_id: str) -> Object:
        """Erase a connection's credential. AssetNotFound."""
        return await self._object("DELETE", f"/assets/connections/{_part(ref_id)}")

    async def asset_callback(self, code: str, state: str) -> Object:
        """Finish a consent with what the browser came back with. InvalidState: connect again."""
        return await self._object("POST", "/assets/callback", {"code": code, "state": state})

    # Prompt skills, and calls without a conversation

    async def prompt_skills(self) -> Objects:
        """All prompt skills, by name: those of the catalog and the tenant's own."""
        return list(await self._get("/skills"))

    async def prompt_skill(self, name: str) -> Object:
        """A prompt skill with its `prompt_template` and `scripts`. SkillNotFound."""
        return await self._read(f"/skills/{_part(name)}")

    async def create_prompt_skill(
        self,
        name: str,
        prompt: str | None = None,
        *,
        description: str | None = None,
        category: str | None = None,
        capabilities: Sequence[str] | None = None,
        scripts: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Object:
        """
        Make a prompt skill of the tenant's own; for operators. The skill as it is kept.

        Args:
            name: lower-case words of letters and digits with hyphens between them.
            prompt: its template; without one it has `scripts`: texts by the names of their files.

        Raises:
            SkillExists: there is one of that name. InvalidRequest: something does not fit.
        """
        body = given(
            name=name,
            prompt=prompt,
            description=description,
            category=category,
            capabilities=None if capabilities is None else list(capabilities),
            scripts=None if scripts is None else dict(scripts),
        )
        return await self._object("POST", "/skills/create", body, key=idempotency_key)

    async def change_prompt_skill(self, name: str, **fields: Any) -> Object:
        """Replace fields of a prompt skill of the tenant's own, named as in `create_prompt_skill`. SkillNotFound, InvalidRequest."""
        return await self._object("PUT", f"/skills/{_part(name)}", fields)

    async def delete_prompt_skill(self, name: str) -> Object:
        """Delete a prompt skill of the tenant's own; for operators. SkillNotFound."""
        return await self._object("DELETE", f"/skills/{_part(name)}")

    async def rpc(
        self, method: str, params: Mapping[str, Any] | None = None, *, idempotency_key: str | None = None
    ) -> Any:
        """
        Call a tool, a prompt skill (`skill.<name>`) or the memory (`memory.search` …) without a conversation; its result.
        It may take 120 s.

        Raises:
            MethodNotFound: there is none of that name. InvalidRequest: the parameters do not fit, or the call failed.
            PermissionDenied: a person would be asked; nothing has happened.
            IdempotencyInProgress: a crash came first. Whether it happened is unknown; the client does not do it twice.
            ToolTimeout, McpConnectionFailed, and what the model's provider says: the call was begun.
        """
        body = {"method": method, "params": dict(params or {})}
        answer = await self._object("POST", "/rpc", body, key=idempotency_key, timeout=RPC_SECONDS)
        return answer["result"]

    # The server

    async def reload_catalog(self) -> Object:
        """Read the catalog again, all of it or nothing; for admins. CatalogInvalid (with the faults), NotConfigured."""
        return await self._object("POST", "/admin/reload-catalog", {})

    async def health(self) -> Object:
        """How the process and its parts are; it answers as long as it lives. One try. ConnectionFailed."""
        return dict((await self._http.send(Request("GET", "/health"))).json())

    async def ready(self) -> bool:
        """Whether the server takes work. One try. ConnectionFailed."""
        return await self._is_ready("/ready")

    # Inside

    def _turn(
        self,
        message: str | None,
        task_id: str,
        key: str | None,
        on_discard: OnDiscard | None,
        *,
        media: Sequence[Mapping[str, Any]] | None,
        metadata: Mapping[str, Any] | None,
        response_schema: Mapping[str, Any] | None,
        **fields: Any,
    ) -> EngineSource:
        body = given(
            message=message,
            task_id=task_id,
            media=_list(media),
            metadata=None if metadata is None else dict(metadata),
            response_schema=None if response_schema is None else dict(response_schema),
            **fields,
        )
        return EngineSource(self._keyed("POST", "/execute", body, key=key), task_id=task_id, on_discard=on_discard)

    async def _object(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, timeout: float | None = None
    ) -> Object:
        request = self._keyed(method, path, body, key=key)
        answer = await self._http.send_again(request, timeout=timeout)
        return dict(answer.json())

    async def _read(self, path: str, query: Object | None = None, *, timeout: float | None = None) -> Object:
        return dict(await self._get(path, query, timeout=timeout))


def _list(blocks: Sequence[Mapping[str, Any]] | None) -> Objects | None:
    return None if blocks is None else [dict(block) for block in blocks]


def _part(text: str) -> str:
    return quote(text, safe="")


def _task(task_id: str) -> str:
    return f"/tasks/{_part(task_id)}"
