"""
Holdfast: a server for AI agents whose runs outlive the connection, the browser tab, the deploy and the crash.

    from holdfast import agent, Context

    @agent("greeter")
    async def greeter(context: Context, input: dict) -> dict:
        await context.token("Hello, ")
        await context.token(input["name"])
        return {"greeted": input["name"]}

    holdfast serve greeter.py
"""

from holdfast.agents.function import FunctionAgent, agent
from holdfast.execution.context import Approval, Context, StreamContext, get_current_context
from holdfast.execution.program import Result
from holdfast.execution.steps import NotRetryable
from holdfast.execution.sync import SyncContext
from holdfast.model.lifecycle import Restart, Status

__version__ = "0.1.0"

__all__ = [
    "Approval",
    "Context",
    "FunctionAgent",
    "NotRetryable",
    "Restart",
    "Result",
    "Status",
    "StreamContext",
    "SyncContext",
    "agent",
    "get_current_context",
]
