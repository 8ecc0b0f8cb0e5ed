"""
The client of the Engine API: its events.

    from holdfast.client import EngineClient
    from holdfast.client.engine import TextDelta
"""

from holdfast.client.engine.client import (
    AsyncEngineClient,
)
from holdfast.client.engine.events import (
    CompactionEvent,
    ContentBlockStart,
    ContentBlockStop,
    EngineError,
    EngineEvent,
    HitlRequest,
    HitlResolved,
    MemoryUpdate,
    ReplayGap,
    Restarted,
    SubAgentDelta,
    TextDelta,
    ThinkingDelta,
    ThreadLifecycle,
    ToolCall,
    ToolResult,
    UnknownEvent,
    Usage,
    WorkingMemoryUpdate,
)

__all__ = [
    "AsyncEngineClient",
    "CompactionEvent",
    "ContentBlockStart",
    "ContentBlockStop",
    "EngineError",
    "EngineEvent",
    "HitlRequest",
    "HitlResolved",
    "MemoryUpdate",
    "ReplayGap",
    "Restarted",
    "SubAgentDelta",
    "TextDelta",
    "ThinkingDelta",
    "ThreadLifecycle",
    "ToolCall",
    "ToolResult",
    "UnknownEvent",
    "Usage",
    "WorkingMemoryUpdate",
]
