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

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.agents.function import FunctionAgent, agent
    from holdfast.execution.context import Approval, Context, StreamContext, get_current_context
    from holdfast.execution.program import Result
    from holdfast.execution.steps import NotRetryable
    from holdfast.execution.sync import SyncContext
    from holdfast.model.lifecycle import Restart, Status
else:
    # Where each public name is. They are loaded with their first use, so that `import holdfast.client.workflow`, whose
    # process may never serve an agent, does not load what serves them.
    _MODULES = {
        "FunctionAgent": "agents.function",
        "agent": "agents.function",
        "Approval": "execution.context",
        "Context": "execution.context",
        "StreamContext": "execution.context",
        "get_current_context": "execution.context",
        "Result": "execution.program",
        "NotRetryable": "execution.steps",
        "SyncContext": "execution.sync",
        "Restart": "model.lifecycle",
        "Status": "model.lifecycle",
    }

    def __getattr__(name):
        from importlib import import_module

        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})


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
