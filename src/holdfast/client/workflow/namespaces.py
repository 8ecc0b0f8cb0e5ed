"""What a client has under a name: `client.tools`, `client.webhooks` and so on. One method for each route."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote

from holdfast.client.records import Record
from holdfast.client.workflow.http import Http
from holdfast.client.workflow.records import AgentRuns, RunResult

Source = Literal["admin", "user"]


def quoted(part: str) -> str:
    """A part of a path."""
    return quote(part, safe="")


class Tools:
    """The registry of tools that the assistant may ask for."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def register(self, tools: Sequence[Mapping[str, Any]]) -> list[Record]:
        """Register definitions, all or none; one of the same namespace and name is replaced. `id`, `name`, `namespace` each."""
        answer = await self._http.request_again("POST", "/api/tools/register", body={"tools": list(tools)})
        return [Record(tool) for tool in answer["tools"]]

    async def list(
        self, limit: int = 100, offset: int = 0, *, namespace: str | None = None, status: str | None = None
    ) -> list[Record]:
        """The registered tools."""
        query = {"limit": limit, "offset": offset, "namespace": namespace, "status": status}
        answer = await self._http.request("GET", "/api/tools", query=query)
        return [Record(tool) for tool in answer["schemas"]]

    async def delete(self, tool_id: str) -> None:
        """Make a tool inactive. Registering it again revives it."""
        await self._http.request_again("DELETE", f"/api/tools/{quoted(tool_id)}")


class ExecutionFeedback:
    """What people think of a run. One per run and source; the last one counts."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def submit(
        self, task_id: int, feedback: Mapping[str, Mapping[str, Any]], feedback_source: Source = "admin"
    ) -> Record:
        """Store `{node: {"rating": "very-low" … "very-high", "feedback": text}}`."""
        body = {"feedback_data": {"feedback": feedback}, "feedback_source": feedback_source}
        return Record(await self._http.request_again("POST", _feedback(task_id), body=body))

    async def submit_simple(self, task_id: int, passed: bool, source: Source = "user") -> Record:
        """Store whether the run was good."""
        body = {"passed": passed, "source": source}
        return Record(await self._http.request_again("POST", f"{_feedback(task_id)}/simple", body=body))

    async def get(self, task_id: int) -> Record:
        """What is stored; `exists` says whether anything is."""
        return Record(await self._http.request("GET", _feedback(task_id)))

    async def get_simple(self, task_id: int) -> list[Record]:
        """Whether the run was good, by each source that said so."""
        answer = await self._http.request("GET", f"{_feedback(task_id)}/simple")
        return [Record(item) for item in answer["items"]]

    async def list(
        self,
        agent_id: str | None = None,
        limit: int = 3,
        *,
        before_task_id: int | None = None,
        task_id: int | None = None,
        nearest_runs_after_id_with_feedback: int | None = None,
    ) -> list[Record]:
        """Feedback over the runs of an agent."""
        query = {
            "agent_id": agent_id,
            "limit": limit,
            "before_task_id": before_task_id,
            "task_id": task_id,
            "nearest_runs_after_id_with_feedback": nearest_runs_after_id_with_feedback,
        }
        answer = await self._http.request("GET", "/api/agents/execution/feedback", query=query)
        return [Record(item) for item in answer["items"]]


class ExecutionRecords:
    """Rows of runs."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def get(self, task_id: int) -> RunResult:
        """The row of a run, whole."""
        return RunResult.of_row(await self._http.request("GET", f"/api/workflow/run/{task_id}"))

    async def list(
        self, agent_id: str, limit: int = 100, *, before: int | None = None, status: str | None = None
    ) -> AgentRuns:
        """An agent's rows, newest first, without nodes."""
        query = {"limit": limit, "before": before, "status": status}
        return AgentRuns.of_page(await self._http.request("GET", f"/api/agent/{quoted(agent_id)}/runs", query=query))


class Webhooks:
    """Endpoints that are told of runs, and what was delivered to them."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def create(
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
        fields = {
            "url": url,
            "events": events,
            "agents": agents,
            "environments": environments,
            "description": description,
            "secret": secret,
        }
        body = {name: value for name, value in fields.items() if value is not None}
        return Record(await self._http.request_again("POST", "/webhooks", body=body))

    async def list(self) -> list[Record]:
        """All endpoints."""
        answer = await self._http.request("GET", "/webhooks")
        return [Record(endpoint) for endpoint in answer["endpoints"]]

    async def get(self, endpoint_id: str) -> Record:
        """One endpoint."""
        return Record(await self._http.request("GET", _endpoint(endpoint_id)))

    async def update(self, endpoint_id: str, **fields: Any) -> Record:
        """Change `url`, `events`, `agents`, `environments`, `description` or `enabled`."""
        return Record(await self._http.request_again("PATCH", _endpoint(endpoint_id), body=fields))

    async def delete(self, endpoint_id: str) -> None:
        """Remove an endpoint. Nothing is delivered to it any more."""
        await self._http.request_again("DELETE", _endpoint(endpoint_id))

    async def rotate(self, endpoint_id: str, overlap_seconds: int = 86_400) -> Record:
        """Make a new secret, shown here only. The old one signs too until the overlap is over."""
        body = {"overlap_seconds": overlap_seconds}
        return Record(await self._http.request_again("POST", f"{_endpoint(endpoint_id)}/rotate", body=body))

    async def test(self, endpoint_id: str) -> Record:
        """Send `endpoint.test` once, now; the delivery. It is not repeated: its effect is elsewhere."""
        return Record(await self._http.request("POST", f"{_endpoint(endpoint_id)}/test", body={}))

    async def deliveries(
        self,
        endpoint_id: str,
        *,
        status: str | None = None,
        task_id: int | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> Record:
        """What was delivered, or not: `.deliveries`, and `.next_before` for the next page."""
        query = {"status": status, "task_id": task_id, "limit": limit, "before": before}
        return Record(await self._http.request("GET", f"{_endpoint(endpoint_id)}/deliveries", query=query))

    async def replay(
        self,
        endpoint_id: str,
        *,
        event_ids: Sequence[str] | None = None,
        status: str | None = None,
        since: str | None = None,
        until: str | None = None,
    ) -> int:
        """Deliver again what is named by ids, by status or by time; how many these are."""
        fields = {"event_ids": event_ids, "status": status, "since": since, "until": until}
        body = {name: value for name, value in fields.items() if value is not None}
        answer = await self._http.request_again("POST", f"{_endpoint(endpoint_id)}/replay", body=body)
        return int(answer["scheduled"])


def _feedback(task_id: int) -> str:
    return f"/api/agents/execution/{task_id}/feedback"


def _endpoint(endpoint_id: str) -> str:
    return f"/webhooks/{quoted(endpoint_id)}"
