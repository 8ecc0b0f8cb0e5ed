"""
A conversation by the Engine API, without an event loop. A permission is asked for at the terminal.

    python examples/clients/chat.py http://localhost:8000 KEY
"""

import sys
from typing import assert_never

from holdfast.client import EngineClient
from holdfast.client.engine import (
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
from holdfast.client.errors import ClientError


def text_of(event: EngineEvent) -> str:
    """A frame for people. A type that is forgotten here is found by the type checker."""
    match event:
        case TextDelta(text=text):
            return text
        case SubAgentDelta(content=text):
            return f"({text})"
        case ToolCall(tool=tool) | ToolResult(tool=tool):
            return f"[{event.type} {tool}]"
        case HitlRequest(question=question):
            return f"\n{question} "
        case EngineError(message=message):
            return f"[{message}]"
        case Restarted() | ReplayGap():
            return "\n[again]\n"
        case ThreadLifecycle():
            return "\n" if event.is_last else ""
        case ContentBlockStart() | ContentBlockStop() | ThinkingDelta() | Usage() | CompactionEvent():
            return ""
        case HitlResolved() | MemoryUpdate() | WorkingMemoryUpdate() | UnknownEvent():
            return ""
        case _:
            assert_never(event)


def say(client: EngineClient, task_id: str, message: str) -> str:
    """One turn; what was shown of it."""
    shown = []
    for event in client.stream(message, task_id):
        shown.append(text_of(event))
        print(shown[-1], end="", flush=True)
        if isinstance(event, HitlRequest):
            client.hitl_respond(task_id, input(), request_id=event.request_id)
    return "".join(shown)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with EngineClient(sys.argv[1], sys.argv[2]) as engine:
        for line in sys.stdin:
            try:
                say(engine, "chat", line.strip())
            except ClientError as error:
                print(f"[{error}]")
