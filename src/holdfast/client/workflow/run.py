"""A run that was started, or attached to: its stream is read and its calls are executed while, or before, it is awaited."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from holdfast.client.workflow.calls import Calls, Workshop
from holdfast.client.workflow.errors import (
    WorkflowConnectionError,
    WorkflowError,
    WorkflowHTTPError,
    WorkflowTimeout,
)
from holdfast.client.workflow.following import (
    FIRST_FRAME_SECONDS,
    POLL_SECONDS,
    Attempt,
    Following,
    StreamFault,
    StreamRefused,
)
from holdfast.client.workflow.http import is_passing
from holdfast.client.workflow.records import RunResult, TaskStatus
from holdfast.client.workflow.tools import ToolMap

log = logging.getLogger("holdfast.client")

RESPONSE_TIMEOUT_SECONDS: Final = 3600.0
# How an `error` frame's code would have been answered to a request.
_STATUS_CODES: Final = {"unauthorized": 401, "forbidden": 403}


class WorkflowRun:
    """
    A handle of one run.

    The stream is read, and calls are executed, from the first await on, by a task of its own: a timeout or a cancelled
    await ends the waiting only. The task ends with the run, or with the client.
    """

    def __init__(
        self,
        workshop: Workshop,
        agent_id: str,
        task_id: int,
        tools: ToolMap,
        *,
        run_id: str | None = None,
        since_seq: int | str | None = None,
        response_timeout: float | None = None,
        first_frame_seconds: float = FIRST_FRAME_SECONDS,
        on_drive: Callable[[asyncio.Task[Any]], None] = lambda _: None,
    ) -> None:
        self.task_id = task_id
        self._run_id = run_id
        self._agent_id = agent_id
        self._http = workshop.http
        self._calls = Calls(workshop, tools, agent_id, task_id, on_failure=self._fail)
        self._following = Following(since_seq, backoff=workshop.http.backoff())
        self._response_timeout = RESPONSE_TIMEOUT_SECONDS if response_timeout is None else response_timeout
        self._first_frame_seconds = first_frame_seconds
        self._on_drive = on_drive
        self._driver: asyncio.Task[RunResult] | None = None
        self._failure: Exception | None = None
        self._connection = 0

    def __repr__(self) -> str:
        return f"<WorkflowRun {self.task_id} of {self.agent_id}>"

    def __await__(self) -> Generator[Any, None, RunResult]:
        return self.get_response().__await__()

    @property
    def run_id(self) -> str | None:
        """The run's id; None as long as it is not known, as in a handle that was attached by its `task_id`."""
        return self._run_id

    @property
    def agent_id(self) -> str:
        """The agent's UUID; what the handle was made with until the first status came."""
        return self._agent_id

    @property
    def last_seq(self) -> int | None:
        """The `seq` of the newest status that was seen; None before the first."""
        return self._following.last_seq

    @property
    def unhandled_calls(self) -> list[Mapping[str, Any]]:
        """The pending calls that have no handler here."""
        return list(self._calls.unhandled)

    async def get_response(self, timeout: float | None = None) -> RunResult:
        """
        The run's row once it is over: completed, failed or cancelled. Every later await gives the same object.

        Raises:
            WorkflowTimeout: it was not over in time (default: the `response_timeout` of the start). The run and its
                handlers go on.
            WorkflowHTTPError: the server does not show us the run, or refuses our posts. The next await tries again.
        """
        if self._driver is None or (self._driver.done() and (self._driver.cancelled() or self._driver.exception())):
            self._failure = None
            self._driver = asyncio.create_task(self._drive(), name=f"holdfast run {self.task_id}")
            self._on_drive(self._driver)
        driver = self._driver
        seconds = self._response_timeout if timeout is None else timeout
        await asyncio.wait({driver}, timeout=None if math.isinf(seconds) else seconds)
        if not driver.done():
            raise WorkflowTimeout(self.task_id, self, seconds)
        if driver.cancelled():
            raise WorkflowError(f"the client was closed while run {self.task_id} was awaited; the run goes on")
        return driver.result()

    async def status(self) -> TaskStatus:
        """Where it stands now, asked from the server."""
        return TaskStatus(await self._http.request("GET", self._status_path))

    async def cancel(self, reason: str | None = None) -> str:
        """Cancel it; the status after that. It is `cancelled` within 5 s, unless it was over already."""
        path = f"/api/workflow/runs/{self.task_id}/schedule-cancel"
        answer = await self._http.request_again("POST", path, body={} if reason is None else {"reason": reason})
        return str(answer["status"])

    # Driving

    @property
    def _status_path(self) -> str:
        return f"/api/agent/{quote(self.agent_id, safe='')}/status/{self.task_id}"

    def _fail(self, failure: Exception) -> None:
        self._failure = failure
        if self._driver is not None:
            self._driver.cancel()

    async def _drive(self) -> RunResult:
        try:
            while not self._following.is_over:
                attempt = self._following.next_attempt()
                if attempt.delay_seconds:
                    await self._http.pause(attempt.delay_seconds)
                await self._attempt(attempt)
            self._calls.void()
            return RunResult.of_row(await self._row())
        except asyncio.CancelledError:
            if self._failure is not None:
                raise self._failure from None
            raise
        finally:
            # Also where the run is over: a post whose reply is still on its way tells nothing any more.
            await self._calls.close()

    async def _attempt(self, attempt: Attempt) -> None:
        """One connection, to its end. What may pass is left to the next one."""
        self._connection += 1
        try:
            if attempt.is_poll:
                await self._poll(attempt)
            else:
                await self._read(attempt)
        except StreamRefused as exc:
            status_code = _STATUS_CODES.get(exc.code, 404)
            raise WorkflowHTTPError(status_code, exc.code, {"code": exc.code, "message": exc.message}) from None
        except (WorkflowConnectionError, StreamFault) as exc:
            log.info("run %d: the connection is lost, and made again: %s", self.task_id, exc)
            self._following.ended()
        except WorkflowHTTPError as exc:
            if not is_passing(exc):
                raise
            self._following.ended(retry_after=exc.retry_after)

    async def _read(self, attempt: Attempt) -> None:
        try:
            async with asyncio.timeout(self._first_frame_seconds) as limit:
                query = {"since_seq": attempt.cursor}
                async with self._http.pieces(f"{self._status_path}/events", query) as pieces:
                    async for piece in pieces:
                        for status in self._following.feed(piece):
                            self._show(status)
                        if self._following.is_over:
                            return
                        if self._following.has_frame:
                            limit.reschedule(None)
        except TimeoutError:
            self._following.was_silent()
        else:
            self._following.ended()

    async def _poll(self, attempt: Attempt) -> None:
        query = {"wait": POLL_SECONDS if attempt.cursor is not None else None, "since_seq": attempt.cursor}
        status = await self._http.request(
            "GET", self._status_path, query=query, timeout=POLL_SECONDS + FIRST_FRAME_SECONDS
        )
        self._following.polled(status)
        self._show(status)

    def _show(self, status: Mapping[str, Any]) -> None:
        info = status.get("task_info") or {}
        self._run_id = info.get("run_id", self._run_id)
        self._agent_id = self._calls.agent_id = info.get("agent_id", self._agent_id)
        self._calls.show(pending_calls(status), connection=self._connection)

    async def _row(self) -> dict[str, Any]:
        """The run's row. It is over: whatever hinders us passes."""
        backoff = self._http.backoff()
        while True:
            try:
                row: dict[str, Any] = await self._http.request("GET", f"/api/workflow/run/{self.task_id}")
                return row
            except WorkflowError as exc:
                if not is_passing(exc):
                    raise
                await self._http.pause(backoff.next_seconds(getattr(exc, "retry_after", None)))


def pending_calls(status: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The calls of a status, a row or a webhook's body that have no answer: of the last node, where they are not told."""
    info = status.get("task_info") or status
    if status.get("status", info.get("status")) != "awaiting_tool_calls":
        return ()
    if isinstance(pending := info.get("pending_tool_calls"), list):
        return pending
    nodes = (
        info.get("agent_node_execution_statuses")
        or info.get("executed_node_records")
        or info.get("prior_nodes_execution_records")
    )
    if not nodes:
        return ()
    answered = {response.get("call_id") for response in nodes[-1].get("tool_call_responses") or ()}
    requests = nodes[-1].get("tool_call_requests") or ()
    return [request for request in requests if (request.get("call_id") or request["id"]) not in answered]
