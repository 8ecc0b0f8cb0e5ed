"""
The client of the Runtime API: its events and records.

    from holdfast.client import RunsClient
    from holdfast.client.runtime import Token
"""

from holdfast.client.resuming import OnDiscard
from holdfast.client.runtime.client import (
    AsyncRunsClient,
    Preset,
)
from holdfast.client.runtime.events import (
    BlockStarted,
    BlockStopped,
    Cancelled,
    Checkpoint,
    Complete,
    Error,
    Gap,
    Interrupt,
    InterruptResolved,
    Progress,
    Restarted,
    RunEvent,
    Started,
    Step,
    StepFailed,
    StepStarted,
    Thinking,
    Token,
    ToolCall,
    ToolResult,
    UnknownEvent,
    Usage,
)
from holdfast.client.runtime.records import (
    Invocation,
    Run,
    RunPage,
    StartedRun,
    Status,
)

__all__ = [
    "AsyncRunsClient",
    "BlockStarted",
    "BlockStopped",
    "Cancelled",
    "Checkpoint",
    "Complete",
    "Error",
    "Gap",
    "Interrupt",
    "InterruptResolved",
    "Invocation",
    "OnDiscard",
    "Preset",
    "Progress",
    "Restarted",
    "Run",
    "RunEvent",
    "RunPage",
    "Started",
    "StartedRun",
    "Status",
    "Step",
    "StepFailed",
    "StepStarted",
    "Thinking",
    "Token",
    "ToolCall",
    "ToolResult",
    "UnknownEvent",
    "Usage",
]
