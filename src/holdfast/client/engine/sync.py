"""
The sync client of `AsyncEngineClient`: that one on an event loop of its own, in a thread.

Generated from the async client by scripts/generate_sync.py; do not edit. Callbacks are called on the thread of that loop,
and must not call the client. A sync client may be used by several threads at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from holdfast.client.engine.client import AsyncEngineClient, Object, Objects, Store
from holdfast.client.engine.events import EngineEvent
from holdfast.client.portal import Portal
from holdfast.client.resuming import HEARTBEAT_SECONDS, RECONNECT_SECONDS, OnDiscard
from holdfast.client.streams import EventStream

if TYPE_CHECKING:
    import httpx2


class EngineClient:
    """
    A sync client. One is enough for any number of tasks; close it, or use it in `with`.

    Every call that changes something has an idempotency key, so that repeats of it, which the client makes by itself,
    have one effect. Answers are plain JSON values. Leaving a stream never stops a turn.
    """

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
        self._portal = Portal()
        self._async = AsyncEngineClient(
            url,
            key,
            timeout=timeout,
            heartbeat_seconds=heartbeat_seconds,
            reconnect_seconds=reconnect_seconds,
            transport=transport,
        )

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
    ) -> EventStream[EngineEvent]:
        """
        Start a turn with the first iteration, and iterate over its frames on this one connection. `stream` comes back by itself.

        Raises: (by the iteration)
            ConnectionError: the connection ended before the last frame. The turn goes on: `replay` it from the timestamp
                of the last frame that came.
            Others: as `stream`.
        """
        return EventStream(
            self._portal,
            self._portal.make(
                lambda: self._async.execute(
                    message,
                    task_id,
                    media=media,
                    agent=agent,
                    metadata=metadata,
                    edit_message_id=edit_message_id,
                    retry_message_id=retry_message_id,
                    direct=direct,
                    super_thinking=super_thinking,
                    response_schema=response_schema,
                    idempotency_key=idempotency_key,
                    on_discard=on_discard,
                    timeout=timeout,
                )
            ),
        )

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
    ) -> EventStream[EngineEvent]:
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
        return EventStream(
            self._portal,
            self._portal.make(
                lambda: self._async.stream(
                    message,
                    task_id,
                    media=media,
                    agent=agent,
                    metadata=metadata,
                    edit_message_id=edit_message_id,
                    retry_message_id=retry_message_id,
                    direct=direct,
                    super_thinking=super_thinking,
                    response_schema=response_schema,
                    idempotency_key=idempotency_key,
                    on_discard=on_discard,
                    timeout=timeout,
                )
            ),
        )

    def replay(
        self,
        task_id: str | None = None,
        after: float | str = 0,
        *,
        turn_id: str | None = None,
        follow: bool = True,
        on_discard: OnDiscard | None = None,
        timeout: float | None = None,
    ) -> EventStream[EngineEvent]:
        """
        Iterate over frames that were sent before, and then live until every turn in scope that is active is over.

        Args:
            task_id: None: all tasks that the key may see.
            after: only frames with a greater timestamp (Unix milliseconds, or ISO 8601).
            follow: False ends at the end of what is stored.

        Raises: (by the iteration)
            TaskNotFound, TurnNotFound. Others: as `stream`.
        """
        return EventStream(
            self._portal,
            self._portal.make(
                lambda: self._async.replay(
                    task_id, after, turn_id=turn_id, follow=follow, on_discard=on_discard, timeout=timeout
                )
            ),
        )

    def cancel(self, task_id: str, turn_id: str | None = None) -> Object:
        """
        Cancel a task's active turn, or the one that is named. It is `errored` within 5 s; one that is over keeps its status.

        Raises:
            NoActiveTurn, TaskNotFound, TurnNotFound, AccessRefused, Unavailable, ConnectionFailed.
        """
        return self._portal.call(lambda: self._async.cancel(task_id, turn_id))

    def hitl_respond(
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
        return self._portal.call(
            lambda: self._async.hitl_respond(
                task_id,
                answer,
                request_id=request_id,
                feedback=feedback,
                content_blocks=content_blocks,
                input_hash=input_hash,
                idempotency_key=idempotency_key,
            )
        )

    def hitl_pending(
        self, task_id: str | None = None, *, limit: int | None = None, cursor: str | None = None
    ) -> Object:
        """A page of what turns ask people: `pending`, oldest first, and `next_cursor`."""
        return self._portal.call(lambda: self._async.hitl_pending(task_id, limit=limit, cursor=cursor))

    def tasks(
        self,
        *,
        status: Literal["idle", "running", "waiting"] | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Object:
        """A page of tasks: `tasks`, last changed first, and `next_cursor`."""
        return self._portal.call(lambda: self._async.tasks(status=status, limit=limit, cursor=cursor))

    def task(self, task_id: str) -> Object:
        """A task with its newest 50 turns. TaskNotFound."""
        return self._portal.call(lambda: self._async.task(task_id))

    def messages(
        self, task_id: str, *, superseded: bool = False, limit: int | None = None, cursor: str | None = None
    ) -> Object:
        """A page of a task's messages: `messages`, oldest first, and `next_cursor`. TaskNotFound."""
        return self._portal.call(
            lambda: self._async.messages(task_id, superseded=superseded, limit=limit, cursor=cursor)
        )

    def delete_task(self, task_id: str) -> Object:
        """Delete a task with its turns, frames and messages. TaskNotFound; TaskBusy, HitlRequired: a turn is active."""
        return self._portal.call(lambda: self._async.delete_task(task_id))

    def delete_grants(self, task_id: str) -> Object:
        """End every `always` of a task: what asked before asks again. For operators. TaskNotFound."""
        return self._portal.call(lambda: self._async.delete_grants(task_id))

    def memory_search(self, store: Store | str, query: str, limit: int = 20) -> Objects:
        """What a store of the memory has on this, best first, each with a `score` (0 to 1). `limit`: 1 to 100."""
        return self._portal.call(lambda: self._async.memory_search(store, query, limit))

    def memory_write(self, store: Store | str, item: Mapping[str, Any]) -> Object:
        """Write an item, or replace the one of its `id`; the item as it is stored. InvalidRequest, ItemNotFound."""
        return self._portal.call(lambda: self._async.memory_write(store, item))

    def memory_items(self, store: Store | str, *, limit: int | None = None, cursor: str | None = None) -> Object:
        """A page of a store: `items`, newest first, and `next_cursor`."""
        return self._portal.call(lambda: self._async.memory_items(store, limit=limit, cursor=cursor))

    def memory_item(self, store: Store | str, item_id: str) -> Object:
        """An item. ItemNotFound."""
        return self._portal.call(lambda: self._async.memory_item(store, item_id))

    def memory_delete(self, store: Store | str, item_id: str) -> Object:
        """Forget an item; with a node its edges. ItemNotFound."""
        return self._portal.call(lambda: self._async.memory_delete(store, item_id))

    def soul(self, *, full: bool = False) -> Object:
        """Who the assistant is: `identity`, `values`, `patterns`; `full`: with its history."""
        return self._portal.call(lambda: self._async.soul(full=full))

    def change_soul(self, **fields: Any) -> Object:
        """Replace `identity`, `values` or `patterns`; the soul as it is then."""
        return self._portal.call(lambda: self._async.change_soul(**fields))

    def memory_export(self) -> Object:
        """Everything that is remembered, as it is at one moment."""
        return self._portal.call(self._async.memory_export)

    def memory_import(self, exported: Mapping[str, Any]) -> Object:
        """Merge an export by ids; what became of the items is in `counts`. InvalidRequest: nothing was taken."""
        return self._portal.call(lambda: self._async.memory_import(exported))

    def feedback(self, task_id: str, feedback_type: str, **kwargs: Any) -> Object:
        """
        Say what somebody thinks of a turn: `positive`, `negative`, `correction`, `preference` or `rating`.

        Args:
            kwargs: `turn_id`, `message_id`, `comment`, `correction`, `score` (1 to 5), `metadata`; and `idempotency_key`.

        Raises:
            InvalidRequest: something is missing or does not fit. TaskNotFound, TurnNotFound, MessageNotFound.
        """
        return self._portal.call(lambda: self._async.feedback(task_id, feedback_type, **kwargs))

    def feedback_given(
        self, task_id: str | None = None, *, limit: int | None = None, cursor: str | None = None
    ) -> Object:
        """A page of feedback: `feedback`, newest first, and `next_cursor`."""
        return self._portal.call(lambda: self._async.feedback_given(task_id, limit=limit, cursor=cursor))

    def asset_servers(self) -> Objects:
        """The MCP servers that can be connected."""
        return self._portal.call(self._async.asset_servers)

    def asset_connect(self, server_name: str, server_config: Mapping[str, Any] | None = None) -> Object:
        """
        Connect an MCP server: `status` is "connected", or "pending_oauth" with the `auth_url` for the person's browser.

        Raises:
            McpConnectionFailed, McpTokenExpired, AssetNotFound, NotConfigured: nothing is kept.
        """
        return self._portal.call(lambda: self._async.asset_connect(server_name, server_config))

    def asset_connections(self) -> Objects:
        """This tenant's connections."""
        return self._portal.call(self._async.asset_connections)

    def asset_disconnect(self, ref_id: str) -> Object:
        """Erase a connection's credential. AssetNotFound."""
        return self._portal.call(lambda: self._async.asset_disconnect(ref_id))

    def asset_callback(self, code: str, state: str) -> Object:
        """Finish a consent with what the browser came back with. InvalidState: connect again."""
        return self._portal.call(lambda: self._async.asset_callback(code, state))

    def prompt_skills(self) -> Objects:
        """All prompt skills, by name: those of the catalog and the tenant's own."""
        return self._portal.call(self._async.prompt_skills)

    def prompt_skill(self, name: str) -> Object:
        """A prompt skill with its `prompt_template` and `scripts`. SkillNotFound."""
        return self._portal.call(lambda: self._async.prompt_skill(name))

    def create_prompt_skill(
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
        return self._portal.call(
            lambda: self._async.create_prompt_skill(
                name,
                prompt,
                description=description,
                category=category,
                capabilities=capabilities,
                scripts=scripts,
                idempotency_key=idempotency_key,
            )
        )

    def change_prompt_skill(self, name: str, **fields: Any) -> Object:
        """Replace fields of a prompt skill of the tenant's own, named as in `create_prompt_skill`. SkillNotFound, InvalidRequest."""
        return self._portal.call(lambda: self._async.change_prompt_skill(name, **fields))

    def delete_prompt_skill(self, name: str) -> Object:
        """Delete a prompt skill of the tenant's own; for operators. SkillNotFound."""
        return self._portal.call(lambda: self._async.delete_prompt_skill(name))

    def rpc(self, method: str, params: Mapping[str, Any] | None = None, *, idempotency_key: str | None = None) -> Any:
        """
        Call a tool, a prompt skill (`skill.<name>`) or the memory (`memory.search` …) without a conversation; its result.
        It may take 120 s.

        Raises:
            MethodNotFound: there is none of that name. InvalidRequest: the parameters do not fit, or the call failed.
            PermissionDenied: a person would be asked; nothing has happened.
            IdempotencyInProgress: a crash came first. Whether it happened is unknown; the client does not do it twice.
            ToolTimeout, McpConnectionFailed, and what the model's provider says: the call was begun.
        """
        return self._portal.call(lambda: self._async.rpc(method, params, idempotency_key=idempotency_key))

    def reload_catalog(self) -> Object:
        """Read the catalog again, all of it or nothing; for admins. CatalogInvalid (with the faults), NotConfigured."""
        return self._portal.call(self._async.reload_catalog)

    def health(self) -> Object:
        """How the process and its parts are; it answers as long as it lives. One try. ConnectionFailed."""
        return self._portal.call(self._async.health)

    def ready(self) -> bool:
        """Whether the server takes work. One try. ConnectionFailed."""
        return self._portal.call(self._async.ready)

    def set_key(self, key: str | None) -> None:
        """
        The key of all further requests; None sends none.

        Raises:
            ValueError: it is none, say with a line break behind it. The text does not show it.
        """
        self._async.set_key(key)

    def close(self) -> None:
        """Close the connections, and the event loop. Runs go on."""
        self._portal.call(self._async.aclose)
        self._portal.close()

    def __enter__(self) -> EngineClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
