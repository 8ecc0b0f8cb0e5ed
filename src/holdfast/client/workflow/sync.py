"""
The sync client of the Workflow API: `WorkflowClient` on an event loop of its own, in a thread.

Generated from the async client by scripts/generate_sync.py; do not edit. Handlers that are `async def` run on that loop,
plain ones in threads. A sync client may be used by several threads at once.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from holdfast.client.portal import Portal
from holdfast.client.records import Record
from holdfast.client.workflow.client import WorkflowClient
from holdfast.client.workflow.errors import WorkflowTimeout
from holdfast.client.workflow.inputs import Image, Upload
from holdfast.client.workflow.ledger import Ledger
from holdfast.client.workflow.namespaces import ExecutionFeedback, ExecutionRecords, Source, Tools, Webhooks
from holdfast.client.workflow.records import AgentRuns, RunResult, StartedRun, TaskStatus, ToolResponses
from holdfast.client.workflow.run import WorkflowRun
from holdfast.client.workflow.tools import OnToolError

if TYPE_CHECKING:
    import httpx2


class SyncWorkflowRun:
    """
    A handle of one run.

    The stream is read, and calls are executed, from the first await on, by a task of its own: a timeout or a cancelled
    await ends the waiting only. The task ends with the run, or with the client.
    """

    def __init__(self, portal: Portal, wrapped: WorkflowRun) -> None:
        self._portal = portal
        self._async = wrapped
        self.task_id: int = wrapped.task_id

    @property
    def run_id(self) -> str | None:
        """The run's id; None as long as it is not known, as in a handle that was attached by its `task_id`."""
        return self._async.run_id

    @property
    def agent_id(self) -> str:
        """The agent's UUID; what the handle was made with until the first status came."""
        return self._async.agent_id

    @property
    def last_seq(self) -> int | None:
        """The `seq` of the newest status that was seen; None before the first."""
        return self._async.last_seq

    @property
    def unhandled_calls(self) -> list[Mapping[str, Any]]:
        """The pending calls that have no handler here."""
        return self._async.unhandled_calls

    def get_response(self, timeout: float | None = None) -> RunResult:
        """
        The run's row once it is over: completed, failed or cancelled. Every later call gives the same object.

        Raises:
            WorkflowTimeout: it was not over in time (default: the `response_timeout` of the start). The run and its
                handlers go on.
            WorkflowHTTPError: the server does not show us the run, or refuses our posts. The next await tries again.
        """
        return _result(self._portal, lambda: self._async.get_response(timeout))

    def status(self) -> TaskStatus:
        """Where it stands now, asked from the server."""
        return self._portal.call(self._async.status)

    def cancel(self, reason: str | None = None) -> str:
        """Cancel it; the status after that. It is `cancelled` within 5 s, unless it was over already."""
        return self._portal.call(lambda: self._async.cancel(reason))


class SyncTools:
    """
    The registry of tools that the assistant may ask for.
    """

    def __init__(self, portal: Portal, wrapped: Tools) -> None:
        self._portal = portal
        self._async = wrapped

    def register(self, tools: Sequence[Mapping[str, Any]]) -> list[Record]:
        """Register definitions, all or none; one of the same namespace and name is replaced. `id`, `name`, `namespace` each."""
        return self._portal.call(lambda: self._async.register(tools))

    def list(
        self, limit: int = 100, offset: int = 0, *, namespace: str | None = None, status: str | None = None
    ) -> list[Record]:
        """The registered tools."""
        return self._portal.call(lambda: self._async.list(limit, offset, namespace=namespace, status=status))

    def delete(self, tool_id: str) -> None:
        """Make a tool inactive. Registering it again revives it."""
        self._portal.call(lambda: self._async.delete(tool_id))


class SyncExecutionFeedback:
    """
    What people think of a run. One per run and source; the last one counts.
    """

    def __init__(self, portal: Portal, wrapped: ExecutionFeedback) -> None:
        self._portal = portal
        self._async = wrapped

    def submit(
        self, task_id: int, feedback: Mapping[str, Mapping[str, Any]], feedback_source: Source = "admin"
    ) -> Record:
        """Store `{node: {"rating": "very-low" … "very-high", "feedback": text}}`."""
        return self._portal.call(lambda: self._async.submit(task_id, feedback, feedback_source))

    def submit_simple(self, task_id: int, passed: bool, source: Source = "user") -> Record:
        """Store whether the run was good."""
        return self._portal.call(lambda: self._async.submit_simple(task_id, passed, source))

    def get(self, task_id: int) -> Record:
        """What is stored; `exists` says whether anything is."""
        return self._portal.call(lambda: self._async.get(task_id))

    def get_simple(self, task_id: int) -> list[Record]:
        """Whether the run was good, by each source that said so."""
        return self._portal.call(lambda: self._async.get_simple(task_id))

    def list(
        self,
        agent_id: str | None = None,
        limit: int = 3,
        *,
        before_task_id: int | None = None,
        task_id: int | None = None,
        nearest_runs_after_id_with_feedback: int | None = None,
    ) -> list[Record]:
        """Feedback over the runs of an agent."""
        return self._portal.call(
            lambda: self._async.list(
                agent_id,
                limit,
                before_task_id=before_task_id,
                task_id=task_id,
                nearest_runs_after_id_with_feedback=nearest_runs_after_id_with_feedback,
            )
        )


class SyncExecutionRecords:
    """
    Rows of runs.
    """

    def __init__(self, portal: Portal, wrapped: ExecutionRecords) -> None:
        self._portal = portal
        self._async = wrapped

    def get(self, task_id: int) -> RunResult:
        """The row of a run, whole."""
        return _result(self._portal, lambda: self._async.get(task_id))

    def list(
        self, agent_id: str, limit: int = 100, *, before: int | None = None, status: str | None = None
    ) -> AgentRuns:
        """An agent's rows, newest first, without nodes."""
        return self._portal.call(lambda: self._async.list(agent_id, limit, before=before, status=status))


class SyncWebhooks:
    """
    Endpoints that are told of runs, and what was delivered to them.
    """

    def __init__(self, portal: Portal, wrapped: Webhooks) -> None:
        self._portal = portal
        self._async = wrapped

    def create(
        self,
        url: str,
        *,
        events: Sequence[str] | None = None,
        agents: Sequence[str] | None = None,
        environments: Sequence[str] | None = None,
        description: str | None = None,
        secret: str | None = None,
    ) -> Record:
        """Make an endpoint. Its `secret` is in this answer and in no later one."""
        return self._portal.call(
            lambda: self._async.create(
                url, events=events, agents=agents, environments=environments, description=description, secret=secret
            )
        )

    def list(self) -> list[Record]:
        """All endpoints."""
        return self._portal.call(self._async.list)

    def get(self, endpoint_id: str) -> Record:
        """One endpoint."""
        return self._portal.call(lambda: self._async.get(endpoint_id))

    def update(self, endpoint_id: str, **fields: Any) -> Record:
        """Change `url`, `events`, `agents`, `environments`, `description` or `enabled`."""
        return self._portal.call(lambda: self._async.update(endpoint_id, **fields))

    def delete(self, endpoint_id: str) -> None:
        """Remove an endpoint. Nothing is delivered to it any more."""
        self._portal.call(lambda: self._async.delete(endpoint_id))

    def rotate(self, endpoint_id: str, overlap_seconds: int = 86400) -> Record:
        """Make a new secret, shown here only. The old one signs too until the overlap is over."""
        return self._portal.call(lambda: self._async.rotate(endpoint_id, overlap_seconds))

    def test(self, endpoint_id: str) -> Record:
        """Send `endpoint.test` once, now; the delivery. It is not repeated: its effect is elsewhere."""
        return self._portal.call(lambda: self._async.test(endpoint_id))

    def deliveries(
        self,
        endpoint_id: str,
        *,
        status: str | None = None,
        task_id: int | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> Record:
        """What was delivered, or not: `.deliveries`, and `.next_before` for the next page."""
        return self._portal.call(
            lambda: self._async.deliveries(endpoint_id, status=status, task_id=task_id, limit=limit, before=before)
        )

    def replay(
        self,
        endpoint_id: str,
        *,
        event_ids: Sequence[str] | None = None,
        status: str | None = None,
        since: str | None = None,
        until: str | None = None,
    ) -> int:
        """Deliver again what is named by ids, by status or by time; how many these are."""
        return self._portal.call(
            lambda: self._async.replay(endpoint_id, event_ids=event_ids, status=status, since=since, until=until)
        )


class SyncWorkflowClient:
    """
    A sync client. One is enough for any number of runs; close it, or use it in `async with`.

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
        self._portal = Portal()
        self._async = WorkflowClient(
            base_url,
            timeout,
            ledger=ledger,
            concurrency=concurrency,
            tool_timeout=tool_timeout,
            unknown_tools=unknown_tools,
            claim=claim,
            worker=worker,
            on_tool_error=on_tool_error,
            transport=transport,
        )
        self.tools = SyncTools(self._portal, self._async.tools)
        self.execution_feedback = SyncExecutionFeedback(self._portal, self._async.execution_feedback)
        self.agent_feedback = self.execution_feedback
        self.agent_execution_records = SyncExecutionRecords(self._portal, self._async.agent_execution_records)
        self.webhooks = SyncWebhooks(self._portal, self._async.webhooks)

    def close(self) -> None:
        """End what it is doing and close its connections. The ledger is its owner's to close."""
        self._portal.call(self._async.aclose)
        self._portal.close()

    def set_api_key(self, api_key: str | None) -> None:
        """
        The key of all further requests; None sends none.

        Raises:
            ValueError: it is none, say with a line break behind it. The text does not show it.
        """
        self._async.set_api_key(api_key)

    def set_tools(self, tools: Mapping[str, Any], *, replace: bool = True) -> None:
        """
        The handlers of runs that are started from now on.

        Args:
            tools: by `tool` or `namespace.tool`: a handler, or (definition or None, handler).
            replace: False keeps those that were set before, unless they have the same name.

        Raises:
            ValueError, TypeError: something in there is no tool. Nothing was set.
        """
        self._async.set_tools(tools, replace=replace)

    def execute_agent_polling(
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
        return self._portal.call(
            lambda: self._async.execute_agent_polling(
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
        )

    start_agent_run = execute_agent_polling

    def execute_agent(
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
    ) -> SyncWorkflowRun:
        """
        Start a run and return its handle. Its calls are executed from the first await of the handle on.

        Args:
            response_timeout: seconds that an await of it waits; default 3,600, `math.inf` for ever.

        Raises:
            WorkflowHTTPError, WorkflowConnectionError: as for `execute_agent_polling`.
        """
        return SyncWorkflowRun(
            self._portal,
            self._portal.call(
                lambda: self._async.execute_agent(
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
            ),
        )

    def run_agent(
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
        return _result(
            self._portal,
            lambda: self._async.run_agent(
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
            ),
        )

    def execute_agent_with_files(
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
        return self._portal.call(
            lambda: self._async.execute_agent_with_files(
                agent_id,
                file_1,
                file_2,
                string_inputs,
                image_inputs,
                environment,
                metadata,
                tenant_id,
                extra_headers,
                idempotency_key=idempotency_key,
                thread_id=thread_id,
            )
        )

    def upload_run_input_file(
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
        return self._portal.call(
            lambda: self._async.upload_run_input_file(file_1, filename_1, file_2, filename_2, tenant_id)
        )

    def attach(
        self,
        agent_id: str,
        task_id: int,
        *,
        tools: Mapping[str, Any] | None = None,
        since_seq: int | str | None = None,
        response_timeout: float | None = None,
    ) -> SyncWorkflowRun:
        """
        A handle of a run that was started by somebody, or before a crash. With a ledger that knows its calls, stored
        outputs are posted again and no handler runs twice.

        Args:
            tools: default is those of `set_tools`.
            since_seq: the newest `seq` that is known.
        """
        return SyncWorkflowRun(
            self._portal,
            self._portal.make(
                lambda: self._async.attach(
                    agent_id, task_id, tools=tools, since_seq=since_seq, response_timeout=response_timeout
                )
            ),
        )

    def get_agent_task_status(
        self, agent_id: str, task_id: int, *, wait: float | None = None, since_seq: int | str | None = None
    ) -> TaskStatus:
        """Where a run stands; with `wait` (up to 60 s) and `since_seq`, once there is something newer, or the time is over."""
        return self._portal.call(
            lambda: self._async.get_agent_task_status(agent_id, task_id, wait=wait, since_seq=since_seq)
        )

    def send_tool_responses(
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
        return self._portal.call(lambda: self._async.send_tool_responses(agent_id, task_id, tool_responses))

    def schedule_run_cancel(self, task_id: int, reason: str | None = None) -> Record:
        """Cancel a run: `success`, and the `status` after it. A run that is over keeps its own."""
        return self._portal.call(lambda: self._async.schedule_run_cancel(task_id, reason))

    def list_workflows(self, tag: str | None = None) -> list[Record]:
        """The agents that this server serves."""
        return self._portal.call(lambda: self._async.list_workflows(tag))

    def get_agent_runs(
        self, agent_id: str, *, limit: int = 100, before: int | None = None, status: str | None = None
    ) -> AgentRuns:
        """An agent's runs, newest first: `.runs`, and `.next_before` for the next page."""
        return self._portal.call(
            lambda: self._async.get_agent_runs(agent_id, limit=limit, before=before, status=status)
        )

    def list_workflow_runs_by_parent_task_id(self, parent_task_id: int, *, recursive: bool = True) -> list[RunResult]:
        """The runs that a run started, oldest first; with those that these started."""
        return self._portal.call(
            lambda: self._async.list_workflow_runs_by_parent_task_id(parent_task_id, recursive=recursive)
        )

    def process_webhook_tools(self, request: RunResult | Mapping[str, Any], tools: Mapping[str, Any]) -> ToolResponses:
        """
        Execute the pending calls of a webhook's body, or of a run's row, and return their outputs without posting them.

        Each call is executed once, however often this is called with it, as long as the ledger remembers.
        """
        return self._portal.call(lambda: self._async.process_webhook_tools(request, tools))

    def process_webhook_agent_completed(
        self, request: RunResult | Mapping[str, Any], agent_handlers: Mapping[str, Any]
    ) -> Any:
        """
        Call the handler that is filed under the agent's UUID or name with the run's `RunResult`, and return what it returns.

        None without such a handler. `def` runs in a thread. What the handler raises is raised here.
        """
        return self._portal.call(lambda: self._async.process_webhook_agent_completed(request, agent_handlers))

    def __enter__(self) -> SyncWorkflowClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _result(portal: Portal, work: Callable[[], Coroutine[Any, Any, RunResult]]) -> RunResult:
    """What a run comes to; the handle in a timeout's error is a sync one too."""
    try:
        return portal.call(work)
    except WorkflowTimeout as exc:
        exc.run = SyncWorkflowRun(portal, exc.run)
        raise
