"""
Clients of a Holdfast server, for Python. They come back by themselves when a connection breaks or the server restarts.

    from holdfast.client import AsyncRunsClient
    from holdfast.client.runtime import Token

    async with AsyncRunsClient("http://127.0.0.1:8000", "…") as client:
        async with client.stream({"message": "Hello!"}) as events:
            async for event in events:
                if isinstance(event, Token):
                    print(event.content, end="")

Each client has a twin without `await`, say `RunsClient`. The events of an API are in `holdfast.client.runtime`,
`holdfast.client.engine` and `holdfast.client.skills`, all errors in `holdfast.client.errors`. `holdfast.client.workflow`
is the client of runs whose tools are executed by the caller. Nothing here knows the server: the wire is all that both share.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.client.engine.client import AsyncEngineClient
    from holdfast.client.engine.sync import EngineClient
    from holdfast.client.errors import ApiError, ClientError, ConnectionFailed, DeadlineExceeded, RunFailed
    from holdfast.client.records import Record
    from holdfast.client.runtime.client import AsyncRunsClient
    from holdfast.client.runtime.sync import RunsClient
    from holdfast.client.skills.client import AsyncSkillsClient
    from holdfast.client.skills.sync import SkillsClient
    from holdfast.client.streams import AsyncEventStream, EventStream
    from holdfast.client.workflow.client import WorkflowClient
    from holdfast.client.workflow.sync import SyncWorkflowClient
else:
    # Where each public name is. They are loaded with their first use, so that an import costs little.
    _MODULES = {
        "AsyncEngineClient": "engine.client",
        "EngineClient": "engine.sync",
        "ApiError": "errors",
        "ClientError": "errors",
        "ConnectionFailed": "errors",
        "DeadlineExceeded": "errors",
        "RunFailed": "errors",
        "Record": "records",
        "AsyncRunsClient": "runtime.client",
        "RunsClient": "runtime.sync",
        "AsyncSkillsClient": "skills.client",
        "SkillsClient": "skills.sync",
        "AsyncEventStream": "streams",
        "EventStream": "streams",
        "WorkflowClient": "workflow.client",
        "SyncWorkflowClient": "workflow.sync",
    }

    def __getattr__(name):
        from importlib import import_module

        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})


__all__ = [
    "ApiError",
    "AsyncEngineClient",
    "AsyncEventStream",
    "AsyncRunsClient",
    "AsyncSkillsClient",
    "ClientError",
    "ConnectionFailed",
    "DeadlineExceeded",
    "EngineClient",
    "EventStream",
    "Record",
    "RunFailed",
    "RunsClient",
    "SkillsClient",
    "SyncWorkflowClient",
    "WorkflowClient",
]
