"""
The client of the Workflow API: start runs whose tools are executed here, by stream or by webhook.

    from holdfast.client.workflow import WorkflowClient

    async with WorkflowClient() as client:
        client.set_api_key("…")
        client.set_tools({"get_current_time": (None, get_current_time)})
        final = await client.run_agent("clock", string_inputs={"1": "What time is it?"})
        print(final.status, final.result)

`SyncWorkflowClient` is the same without `await`.
"""

from holdfast.client.records import Record
from holdfast.client.workflow.client import WorkflowClient
from holdfast.client.workflow.errors import (
    ToolError,
    WebhookRejected,
    WorkflowConnectionError,
    WorkflowError,
    WorkflowHTTPError,
    WorkflowTimeout,
)
from holdfast.client.workflow.file_ledger import FileLedger
from holdfast.client.workflow.ledger import Beginning, Begun, Ledger, MemoryLedger
from holdfast.client.workflow.receiver import WebhookReceiver
from holdfast.client.workflow.records import AgentRuns, RunResult, StartedRun, TaskStatus, ToolResponses
from holdfast.client.workflow.run import WorkflowRun
from holdfast.client.workflow.signing import verify_webhook
from holdfast.client.workflow.sync import SyncWorkflowClient, SyncWorkflowRun
from holdfast.client.workflow.tools import Answer, Call, at_most_once

__all__ = [
    "AgentRuns",
    "Answer",
    "Beginning",
    "Begun",
    "Call",
    "FileLedger",
    "Ledger",
    "MemoryLedger",
    "Record",
    "RunResult",
    "StartedRun",
    "SyncWorkflowClient",
    "SyncWorkflowRun",
    "TaskStatus",
    "ToolError",
    "ToolResponses",
    "WebhookReceiver",
    "WebhookRejected",
    "WorkflowClient",
    "WorkflowConnectionError",
    "WorkflowError",
    "WorkflowHTTPError",
    "WorkflowRun",
    "WorkflowTimeout",
    "at_most_once",
    "verify_webhook",
]
