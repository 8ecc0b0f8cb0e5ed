"""
Follow a run by the Runtime API: show its text, answer its questions, drop what a restart made void.

    python examples/clients/follow_run.py http://localhost:8000 KEY assistant "Count from 1 to 20."
"""

import asyncio
import sys
from typing import assert_never

from holdfast.client import AsyncRunsClient
from holdfast.client.errors import RunFailed
from holdfast.client.runtime import (
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


def line_of(event: RunEvent) -> str | None:
    """An event for people. A type that is forgotten here is found by the type checker."""
    match event:
        case Started(agent_name=name):
            return f"[{name} has started]"
        case Token(content=text) | Thinking(content=text):
            return text
        case ToolCall(tool=tool) | ToolResult(tool=tool):
            return f"[{event.type} {tool}]"
        case Progress(progress=part, message=message):
            return f"[{part:.0%} {message or ''}]"
        case Step(node_name=step) | StepStarted(step=step) | StepFailed(step=step):
            return f"[{event.type} {step}]"
        case Interrupt(question=question):
            return f"[{question}]"
        case InterruptResolved(answer=answer):
            return f"[{answer}]"
        case Complete() | Error() | Cancelled():
            return f"[{event.type}]"
        case Restarted() | Gap():
            return "[some of this is void]"
        case BlockStarted() | BlockStopped() | Checkpoint() | Usage() | UnknownEvent():
            return None
        case _:
            assert_never(event)


async def main(url: str, key: str | None, agent: str, question: str) -> object:
    """The output of the run, or why there is none."""
    async with AsyncRunsClient(url, key) as client, client.stream({"question": question}, agent=agent) as events:
        async for event in events:
            if line := line_of(event):
                print(line, end="", flush=True)
            if isinstance(event, Interrupt) and event.choices:
                await client.answer(event.run_id, event.interrupt_id, event.choices[0])
        try:
            return await events.result()
        except RunFailed as failure:
            return failure.code


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    print(asyncio.run(main(*sys.argv[1:])))
