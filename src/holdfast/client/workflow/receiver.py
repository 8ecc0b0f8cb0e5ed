"""
A receiver of webhooks: verify, store, answer; then do what the event asks for.

The answer is given once the event is in the ledger. What it asks for is done behind it, at least once: an event that a
crash cut off is found by `reconcile`, and each call is executed once all the same, because the ledger knows it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any, Final

from holdfast.client.workflow.calls import Calls
from holdfast.client.workflow.client import WorkflowClient
from holdfast.client.workflow.errors import WebhookRejected, WorkflowError
from holdfast.client.workflow.http import is_passing
from holdfast.client.workflow.run import pending_calls
from holdfast.client.workflow.signing import TOLERANCE_SECONDS, checked_secrets, event_id_of, verify_webhook
from holdfast.client.workflow.tools import ToolMap

log = logging.getLogger("holdfast.client")

# The server sends at most 256 KiB and the pending calls, which have up to 1 MiB of arguments; JSON escapes some of that.
BODY_BYTES_MAX: Final = 8 * 1024 * 1024
TRIES_MAX: Final = 5
_ENDS: Final = frozenset({"run.completed", "run.failed", "run.cancelled"})

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class WebhookReceiver:
    """
    Takes the deliveries of an endpoint; to be put behind a route of any framework, or served by itself (`asgi`).

    For a pause it executes what is pending and posts the outputs. For a run that is over it calls the handler filed
    under the agent's UUID or name with the `RunResult`; that happens at least once.
    """

    def __init__(
        self,
        client: WorkflowClient,
        secrets: str | Sequence[str],
        *,
        tools: Mapping[str, Any] | None = None,
        agent_handlers: Mapping[str, Any] | None = None,
        tolerance: float = TOLERANCE_SECONDS,
    ) -> None:
        """
        Args:
            client: whose ledger, key and settings are used. It stays its owner's to close.
            secrets: of the endpoint; several during a rotation.
            tools: as for `set_tools`; default is those of the client.
            agent_handlers: by an agent's UUID or name: `handler(result)`, sync or async.
            tolerance: seconds that a delivery's clock may differ from ours.

        Raises:
            ValueError, TypeError: a secret is none, or a tool.
        """
        self._client = client
        self._ledger = client._workshop.ledger
        self._secrets = checked_secrets(secrets)
        self._tools = None if tools is None else ToolMap(tools)
        self._agent_handlers = dict(agent_handlers or {})
        self._tolerance = tolerance
        self._at_work: dict[str, asyncio.Task[None]] = {}
        self._taking: set[asyncio.Task[bool]] = set()

    async def handle(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """
        The status and the JSON body with which to answer a delivery. What it asks for is done in the background.

        Once it has answered 200 the event is in the ledger, and further deliveries of it change nothing. Cancelled, as where
        the sender has left, it may be there, and then it is worked on.

        Args:
            body: the raw bytes, as they came.
        """
        try:
            event = verify_webhook(body, headers, self._secrets, tolerance=self._tolerance)
        except WebhookRejected as exc:
            log.warning("a webhook was not accepted: %s", exc)
            return exc.status_code, _message(str(exc))
        event_id = event_id_of(headers)
        taking = asyncio.create_task(self._take(event_id, body, event))
        self._taking.add(taking)
        taking.add_done_callback(self._taking.discard)
        # Shielded: an event that was stored and is not begun would be known to its next delivery, and to nobody else.
        return 200, _message("accepted" if await asyncio.shield(taking) else "known already")

    async def reconcile(self, agent_ids: Iterable[str]) -> None:
        """
        Do what was left: events that were stored and not finished, and runs of these agents that are paused.

        To be called at start. It returns when that is done; what fails is logged and stays for the next time.

        Raises:
            WorkflowError: the server does not show the runs of an agent.
        """
        for event_id, body in await self._ledger.take_events():
            if event_id not in self._at_work:
                self._begin(event_id, json.loads(body))
        for agent_id in agent_ids:
            await self._resume_runs(agent_id)
        await self.settle()

    async def settle(self) -> None:
        """Wait until nothing is done in the background any more."""
        while tasks := [*self._taking, *self._at_work.values()]:
            await asyncio.wait(tasks)

    def asgi(self) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
        """An ASGI application that takes deliveries at any path."""
        return self._serve

    # In the background

    async def _take(self, event_id: str, body: bytes, event: Mapping[str, Any]) -> bool:
        if not await self._ledger.add_event(event_id, body):
            return False
        self._begin(event_id, event)
        return True

    def _begin(self, event_id: str, event: Mapping[str, Any]) -> None:
        task = asyncio.create_task(self._work(event_id, event), name=f"holdfast webhook {event_id}")
        self._at_work[event_id] = task

    async def _work(self, event_id: str, event: Mapping[str, Any]) -> None:
        try:
            if event.get("type") == "run.awaiting_tool_calls":
                await self._execute(event["agent_id"], event["task_id"])
            elif event.get("type") in _ENDS:
                await self._client.process_webhook_agent_completed(event, self._agent_handlers)
            await self._ledger.finish_event(event_id)
        except Exception:
            log.exception("webhook event %s is not finished", event_id)
        finally:
            del self._at_work[event_id]

    async def _execute(self, agent_id: str, task_id: int) -> None:
        """What is pending now; the event may be an old one."""
        failures: list[Exception] = []
        status = await self._status(agent_id, task_id)
        tools = self._client._tools if self._tools is None else self._tools
        calls = Calls(self._client._workshop, tools, agent_id, task_id, on_failure=failures.append)
        try:
            calls.show(pending_calls(status))
            await calls.settle()
        finally:
            await calls.close()
        if failures:
            raise failures[0]

    async def _status(self, agent_id: str, task_id: int) -> Mapping[str, Any]:
        backoff = self._client._http.backoff()
        while True:
            try:
                return await self._client.get_agent_task_status(agent_id, task_id)
            except WorkflowError as exc:
                if backoff.tries + 1 >= TRIES_MAX or not is_passing(exc):
                    raise
                await self._client._http.pause(backoff.next_seconds(getattr(exc, "retry_after", None)))

    async def _resume_runs(self, agent_id: str) -> None:
        before: int | None = None
        while True:
            page = await self._client.get_agent_runs(agent_id, before=before, status="awaiting_tool_calls")
            for run in page.runs:
                self._begin_run(run.agent_id, run.task_id)
            before = page.next_before
            if before is None:
                return

    def _begin_run(self, agent_id: str, task_id: int) -> None:
        name = f"run {task_id}"
        if name not in self._at_work:
            self._at_work[name] = asyncio.create_task(self._work_on_run(name, agent_id, task_id))

    async def _work_on_run(self, name: str, agent_id: str, task_id: int) -> None:
        try:
            await self._execute(agent_id, task_id)
        except Exception:
            log.exception("the calls of run %d are not all answered", task_id)
        finally:
            del self._at_work[name]

    # ASGI

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            assert message["type"] == "lifespan.shutdown"
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["type"] == "http":
            status, body = await self._answer(scope, receive)
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        if scope["method"] != "POST":
            return 405, _message("expected a POST")
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return 400, _message("the body did not come")
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > BODY_BYTES_MAX:
                return 413, _message(f"the body has more than {BODY_BYTES_MAX} bytes")
        return await self.handle(
            body, {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        )


def _message(text: str) -> bytes:
    return json.dumps({"message": text}).encode()
