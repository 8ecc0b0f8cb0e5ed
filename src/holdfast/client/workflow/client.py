"""The client of the Workflow API: start runs, execute their calls, look at them."""

from __future__ import annotations

import asyncio
import inspect
import os
import secrets
import socket
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal

from holdfast.client.records import Record
from holdfast.client.workflow.calls import Calls, Workshop, log
from holdfast.client.workflow.claims import LEASE_SECONDS
from holdfast.client.workflow.following import FIRST_FRAME_SECONDS
from holdfast.client.workflow.http import Http, encoded, idempotency_key
from holdfast.client.workflow.inputs import Image, Upload, given, headers_of, run_inputs, upload_parts
from holdfast.client.workflow.ledger import Ledger, MemoryLedger
from holdfast.client.workflow.namespaces import ExecutionFeedback, ExecutionRecords, Tools, Webhooks, quoted
from holdfast.client.workflow.records import AgentRuns, RunResult, StartedRun, TaskStatus, ToolResponses
from holdfast.client.workflow.run import WorkflowRun, pending_calls
from holdfast.client.workflow.tools import OnToolError, ToolMap

if TYPE_CHECKING:
    import httpx2

# Where `holdfast serve` listens if nothing else is said.
DEFAULT_URL: Final = "http://127.0.0.1:8000"
# A handler that blocks for ever keeps its thread; the others need room beside it.
THREADS_MIN: Final = 64


class WorkflowClient:
    """
    An async client. One is enough for any number of runs; close it, or use it in `async with`.

    Closing ends the reading of runs and the handlers that are at work; the runs themselves go on, and so does another
    client that attaches to them.
    """

    def __init__(
        self,
        base_url: str | None = None,
        timeout: float = 30.0,
        *,
        ledger: Ledger | None = None,
        concurrency: int = 8,
        tool_timeout: float | None = None,
        unknown_tools: Literal["leave", "error"] = "leave",
        claim: bool | int = False,
        worker: str | None = None,
        on_tool_error: OnToolError | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """
        Args:
            base_url: where the server is; default is HOLDFAST_URL, else where `holdfast serve` listens by itself.
            timeout: seconds that a request waits for the server: for the connection, its answer, or the next piece of it.
            ledger: what remembers calls and outputs; default is a MemoryLedger of its own.
            concurrency: how many handlers of one run are at work at once.
            tool_timeout: seconds that a handler may take; default is as long as its call is open.
            unknown_tools: what becomes of calls without a handler: they stay pending, or are answered with an error.
            claim: claim calls before executing them, so that one of several workers does; a number is the lease in
                seconds (5 to 3,600), True is 60.
            worker: the name under which calls are claimed; default is one that no other client has.
            on_tool_error: is told each fault as (stage, call, exception); a text that it returns is what the run is told.
            transport: replaces the network, for tests.
        """
        if unknown_tools not in ("leave", "error"):
            raise ValueError(f"unknown_tools is {unknown_tools!r}; expected 'leave' or 'error'")
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}; expected 1 or more")
        self._http = Http(base_url or os.environ.get("HOLDFAST_URL") or DEFAULT_URL, timeout, transport=transport)
        self._workshop = Workshop(
            http=self._http,
            ledger=MemoryLedger() if ledger is None else ledger,
            threads=self._threads,
            concurrency=concurrency,
            tool_timeout=tool_timeout,
            unknown_tools=unknown_tools,
            lease_seconds=None if claim is False else LEASE_SECONDS if claim is True else claim,
            worker=worker or f"{socket.gethostname()[:60]}-{os.getpid()}-{secrets.token_hex(4)}",
            on_tool_error=on_tool_error,
        )
        self._pool: ThreadPoolExecutor | None = None
        self._pool_process = 0
        self._tools = ToolMap()
        self._drivers: set[asyncio.Task[Any]] = set()
        self._first_frame_seconds = FIRST_FRAME_SECONDS
        self.tools = Tools(self._http)
        self.execution_feedback = ExecutionFeedback(self._http)
        self.agent_feedback = self.execution_feedback
        self.agent_execution_records = ExecutionRecords(self._http)
        self.webhooks = Webhooks(self._http)

    async def __aenter__(self) -> WorkflowClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End what it is doing and close its connections. The ledger is its owner's to close."""
        # Those of a loop that is gone, say of the process that this one was forked from, went with it.
        drivers = [driver for driver in self._drivers if driver.get_loop() is asyncio.get_running_loop()]
        for driver in drivers:
            driver.cancel()
        if drivers:
            await asyncio.wait(drivers)
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
        await self._http.aclose()

    def set_api_key(self, api_key: str | None) -> None:
        """
        The key of all further requests; None sends none.

        Raises:
            ValueError: it is none, say with a line break behind it. The text does not show it.
        """
        self._http.set_header("X-API-Key", api_key)

    def set_tools(self, tools: Mapping[str, Any], *, replace: bool = True) -> None:
        """
        The handlers of runs that are started from now on.

        Args:
            tools: by `tool` or `namespace.tool`: a handler, or (definition or None, handler).
            replace: False keeps those that were set before, unless they have the same name.

        Raises:
            ValueError, TypeError: something in there is no tool. Nothing was set.
        """
        made = ToolMap(tools)
        self._tools = made if replace else ToolMap({**self._tools, **made})

    # Starting

    async def execute_agent_polling(
        self,
        agent_id: str,
        string_inputs: Mapping[str, Any] | None = None,
        image_inputs: Mapping[str, Image] | None = None,
        environment: str = "production",
        metadata: Mapping[str, Any] | None = None,
        tenant_id: str | None = None,
        extra_headers: Mapping[str, str] | None = None,
        *,
        idempotency_key: str | None = None,
        thread_id: str | None = None,
        webhook_url: str | None = None,
        webhook_events: Sequence[str] | None = None,
        webhook_secret: str | None = None,
    ) -> StartedRun:
        """
        Start a run and leave it to itself. Once this returns it is on the server's disk; up to five tries start one run.

        Raises:
            WorkflowHTTPError: it was refused; there is no run.
            WorkflowConnectionError: it is unknown whether there is one. The same call with the same `idempotency_key` tells.
        """
        body = {
            "inputs": run_inputs(string_inputs, image_inputs),
            "environment": environment,
            **given(
                metadata=metadata,
                thread_id=thread_id,
                webhook_url=webhook_url,
                webhook_events=None if webhook_events is None else list(webhook_events),
                webhook_secret=webhook_secret,
            ),
        }
        answer = await self._http.request_again(
            "POST",
            f"/api/workflow/execute/{quoted(agent_id)}",
            key=idempotency_key,
            body=body,
            headers=headers_of(tenant_id, extra_headers),
        )
        return StartedRun(answer)

    start_agent_run = execute_agent_polling

    async def execute_agent(
        self,
        agent_id: str,
        string_inputs: Mapping[str, Any] | None = None,
        image_inputs: Mapping[str, Image] | None = None,
        environment: str = "production",
        metadata: Mapping[str, Any] | None = None,
        tenant_id: str | None = None,
        response_timeout: float | None = None,
        extra_headers: Mapping[str, str] | None = None,
        *,
        idempotency_key: str | None = None,
        thread_id: str | None = None,
        webhook_url: str | None = None,
        webhook_events: Sequence[str] | None = None,
        webhook_secret: str | None = None,
    ) -> WorkflowRun:
        """
        Start a run and return its handle. Its calls are executed from the first await of the handle on.

        Args:
            response_timeout: seconds that an await of it waits; default 3,600, `math.inf` for ever.

        Raises:
            WorkflowHTTPError, WorkflowConnectionError: as for `execute_agent_polling`.
        """
        tools = self._tools
        started = await self.execute_agent_polling(
            agent_id,
            string_inputs,
            image_inputs,
            environment,
            metadata,
            tenant_id,
            extra_headers,
            idempotency_key=idempotency_key,
            thread_id=thread_id,
            webhook_url=webhook_url,
            webhook_events=webhook_events,
            webhook_secret=webhook_secret,
        )
        self._warn_of_missing(started, tools)
        run_agent_id = started.get("agent_id") or agent_id
        return self._run(run_agent_id, started["task_id"], tools, started.get("run_id"), None, response_timeout)

    async def run_agent(
        self,
        agent_id: str,
        string_inputs: Mapping[str, Any] | None = None,
        image_inputs: Mapping[str, Image] | None = None,
        environment: str = "production",
        metadata: Mapping[str, Any] | None = None,
        tenant_id: str | None = None,
        response_timeout: float | None = None,
        extra_headers: Mapping[str, str] | None = None,
        *,
        idempotency_key: str | None = None,
        thread_id: str | None = None,
        webhook_url: str | None = None,
        webhook_events: Sequence[str] | None = None,
        webhook_secret: str | None = None,
    ) -> RunResult:
        """
        Start a run, execute its calls, and return its row once it is over: completed, failed or cancelled.

        Raises:
            WorkflowTimeout: it was not over in time. It goes on; `run` of the error is its handle.
            WorkflowHTTPError, WorkflowConnectionError: as for `execute_agent_polling` and `WorkflowRun.get_response`.
        """
        run = await self.execute_agent(
            agent_id,
            string_inputs,
            image_inputs,
            environment,
            metadata,
            tenant_id,
            response_timeout,
            extra_headers,
            idempotency_key=idempotency_key,
            thread_id=thread_id,
            webhook_url=webhook_url,
            webhook_events=webhook_events,
            webhook_secret=webhook_secret,
        )
        return await run.get_response()

    async def execute_agent_with_files(
        self,
        agent_id: str,
        file_1: Upload | None = None,
        file_2: Upload | None = None,
        string_inputs: Mapping[str, Any] | None = None,
        image_inputs: Mapping[str, Image] | None = None,
        environment: str = "production",
        metadata: Mapping[str, Any] | None = None,
        tenant_id: str | None = None,
        extra_headers: Mapping[str, str] | None = None,
        *,
        idempotency_key: str | None = None,
        thread_id: str | None = None,
    ) -> StartedRun:
        """
        Start a run whose slots "1" and "2" are files: bytes, a path, or an open binary file.

        Raises:
            WorkflowHTTPError, WorkflowConnectionError: as for `execute_agent_polling`.
        """
        fields = {
            "inputs": encoded(run_inputs(string_inputs, image_inputs)).decode(),
            "environment": environment,
            **given(metadata=None if metadata is None else encoded(metadata).decode(), thread_id=thread_id),
        }
        answer = await self._http.request_again(
            "POST",
            f"/api/workflow/execute/{quoted(agent_id)}/with-files",
            key=idempotency_key,
            headers=headers_of(tenant_id, extra_headers),
            files=[
                *((name, (None, value.encode())) for name, value in fields.items()),
                *await upload_parts(file_1, None, file_2, None),
            ],
        )
        return StartedRun(answer)

    async def upload_run_input_file(
        self,
        file_1: Upload,
        filename_1: str | None = None,
        file_2: Upload | None = None,
        filename_2: str | None = None,
        tenant_id: str | None = None,
    ) -> Record:
        """
        Upload one file or two: `reference`, or `references` by slot. As a string input, a reference is the file.

        A file is kept for 24 hours, or with the run that it is an input of.
        """
        answer = await self._http.request_again(
            "POST",
            "/api/workflow/upload-run-input",
            headers=headers_of(tenant_id, None),
            files=await upload_parts(file_1, filename_1, file_2, filename_2),
        )
        return Record(answer)

    def attach(
        self,
        agent_id: str,
        task_id: int,
        *,
        tools: Mapping[str, Any] | None = None,
        since_seq: int | str | None = None,
        response_timeout: float | None = None,
    ) -> WorkflowRun:
        """
        A handle of a run that was started by somebody, or before a crash. With a ledger that knows its calls, stored
        outputs are posted again and no handler runs twice.

        Args:
            tools: default is those of `set_tools`.
            since_seq: the newest `seq` that is known.
        """
        made = self._tools if tools is None else ToolMap(tools)
        return self._run(agent_id, task_id, made, None, since_seq, response_timeout)

    # Looking, answering, cancelling

    async def get_agent_task_status(
        self, agent_id: str, task_id: int, *, wait: float | None = None, since_seq: int | str | None = None
    ) -> TaskStatus:
        """Where a run stands; with `wait` (up to 60 s) and `since_seq`, once there is something newer, or the time is over."""
        answer = await self._http.request(
            "GET",
            f"/api/agent/{quoted(agent_id)}/status/{task_id}",
            query={"wait": wait, "since_seq": since_seq},
            timeout=None if wait is None else wait + 30.0,
        )
        return TaskStatus(answer)

    async def send_tool_responses(
        self,
        agent_id: str,
        task_id: int,
        tool_responses: ToolResponses | Mapping[str, Any] | Iterable[Mapping[str, Any]],
    ) -> Record:
        """
        Post outputs of calls: what `process_webhook_tools` returned, or entries `{"call_id", "output", …}`. Up to five tries.

        Raises:
            WorkflowHTTPError: 409: none was new, and one had another answer before; 422: what is posted is wrong.
        """
        results = tool_responses["results"] if isinstance(tool_responses, Mapping) else tool_responses
        shown = [result.to_dict() if isinstance(result, Record) else dict(result) for result in results]
        body = encoded({"results": shown})
        path = f"/api/agent/{quoted(agent_id)}/{task_id}/tool_responses"
        return Record(await self._http.request_again("POST", path, key=idempotency_key(body), content=body))

    async def schedule_run_cancel(self, task_id: int, reason: str | None = None) -> Record:
        """Cancel a run: `success`, and the `status` after it. A run that is over keeps its own."""
        body = {} if reason is None else {"reason": reason}
        return Record(
            await self._http.request_again("POST", f"/api/workflow/runs/{task_id}/schedule-cancel", body=body)
        )

    async def list_workflows(self, tag: str | None = None) -> list[Record]:
        """The agents that this server serves."""
        return [Record(item) for item in await self._http.request("GET", "/api/workflow/list", query={"tag": tag})]

    async def get_agent_runs(
        self, agent_id: str, *, limit: int = 100, before: int | None = None, status: str | None = None
    ) -> AgentRuns:
        """An agent's runs, newest first: `.runs`, and `.next_before` for the next page."""
        query = {"limit": limit, "before": before, "status": status}
        return AgentRuns.of_page(await self._http.request("GET", f"/api/agent/{quoted(agent_id)}/runs", query=query))

    async def list_workflow_runs_by_parent_task_id(
        self, parent_task_id: int, *, recursive: bool = True
    ) -> list[RunResult]:
        """The runs that a run started, oldest first; with those that these started."""
        path = f"/api/workflow/runs/by-parent/{parent_task_id}"
        rows = await self._http.request("GET", path, query={"recursive": recursive})
        return [RunResult.of_row(row) for row in rows]

    # Webhooks

    async def process_webhook_tools(
        self, request: RunResult | Mapping[str, Any], tools: Mapping[str, Any]
    ) -> ToolResponses:
        """
        Execute the pending calls of a webhook's body, or of a run's row, and return their outputs without posting them.

        Each call is executed once, however often this is called with it, as long as the ledger remembers.
        """
        body = request.to_dict() if isinstance(request, Record) else dict(request)
        calls = self._calls(body, ToolMap(tools))
        return ToolResponses({"results": [answer.result() for answer in await calls.answers(pending_calls(body))]})

    async def process_webhook_agent_completed(
        self, request: RunResult | Mapping[str, Any], agent_handlers: Mapping[str, Any]
    ) -> Any:
        """
        Call the handler that is filed under the agent's UUID or name with the run's `RunResult`, and return what it returns.

        None without such a handler. `def` runs in a thread. What the handler raises is raised here.
        """
        result = request if isinstance(request, RunResult) else RunResult.of_row(dict(request))
        handler = agent_handlers.get(result["agent_id"]) or agent_handlers.get(result.get("agent_name", ""))
        if handler is None:
            return None
        if inspect.iscoroutinefunction(handler):
            return await handler(result)
        value = await asyncio.get_running_loop().run_in_executor(self._threads(), handler, result)
        return await value if inspect.isawaitable(value) else value

    # Inside

    def _run(
        self,
        agent_id: str,
        task_id: int,
        tools: ToolMap,
        run_id: str | None,
        since_seq: int | str | None,
        response_timeout: float | None,
    ) -> WorkflowRun:
        return WorkflowRun(
            self._workshop,
            agent_id,
            task_id,
            tools,
            run_id=run_id,
            since_seq=since_seq,
            response_timeout=response_timeout,
            first_frame_seconds=self._first_frame_seconds,
            on_drive=self._keep,
        )

    def _keep(self, driver: asyncio.Task[Any]) -> None:
        self._drivers.add(driver)
        driver.add_done_callback(self._let_go)

    def _let_go(self, driver: asyncio.Task[Any]) -> None:
        self._drivers.discard(driver)
        if not driver.cancelled():
            driver.exception()  # nobody may be waiting; the next await tries again

    def _calls(self, body: Mapping[str, Any], tools: ToolMap) -> Calls:
        return Calls(self._workshop, tools, body["agent_id"], body["task_id"])

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None or self._pool_process != os.getpid():  # a forked process has no threads of its parent's
            self._pool_process = os.getpid()
            threads = max(THREADS_MIN, 4 * self._workshop.concurrency)
            self._pool = ThreadPoolExecutor(threads, thread_name_prefix="holdfast-tool")
        return self._pool

    def _warn_of_missing(self, started: StartedRun, tools: ToolMap) -> None:
        if self._workshop.unknown_tools == "leave":
            missing = [name for name in started.get("client_tools") or () if tools.find_named(name) is None]
            if missing:
                log.warning("run %d may call tools that have no handler here: %s", started.task_id, ", ".join(missing))
