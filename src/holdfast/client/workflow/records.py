"""What the Workflow API answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from holdfast.client.records import Record

Status = Literal["pending", "running", "awaiting_tool_calls", "completed", "failed", "cancelled"]


class StartedRun(Record):
    """The answer to a start: the run is on disk."""

    __slots__ = ()
    task_id: int
    run_id: str
    agent_id: str
    client_tools: list[str]
    webhook_endpoint_id: str | None


class TaskStatus(Record):
    """Where a run stands."""

    __slots__ = ()
    completed: bool
    status: Status
    seq: int
    task_info: Record


class RunResult(Record):
    """A run's row: its result, its failure, its nodes in `executed_node_records`."""

    __slots__ = ()
    task_id: int
    run_id: str
    agent_id: str
    agent_name: str
    status: Status
    result: str | None
    seq: int
    metadata: Record
    failure_code: str | None
    failure_reason: str | None
    executed_node_records: list[Any]

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> RunResult:
        """A row shows its nodes as those of before; a webhook's body as those executed. Here they are executed ones."""
        if row.get("executed_node_records") or not row.get("prior_nodes_execution_records"):
            return cls(row)
        return cls({**row, "executed_node_records": row["prior_nodes_execution_records"]})


class AgentRuns(Record):
    """A page of an agent's runs, newest first. `next_before` is for the next page, None on the last."""

    __slots__ = ()
    runs: list[RunResult]
    next_before: int | None

    @classmethod
    def of_page(cls, page: Mapping[str, Any]) -> AgentRuns:
        return cls({**page, "runs": [RunResult.of_row(row) for row in page["runs"]]})


class ToolResponses(Record):
    """Outputs of calls, ready for `send_tool_responses`."""

    __slots__ = ()
    results: list[Any]
