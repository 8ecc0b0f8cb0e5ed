"""The call that lists what can be started."""

from __future__ import annotations

from typing import Any, Final

from litestar import get

from holdfast.agents.registry import is_internal
from holdfast.api.http.asgi import Answer
from holdfast.api.http.call import Call
from holdfast.api.http.reply import json_reply
from holdfast.api.workflow.finding import version_of
from holdfast.api.workflow.registry import tool_names
from holdfast.execution.program import Program, spec_of


@get("/api/workflow/list")
async def list_workflows(request: Call) -> Answer:
    """The agents that this server serves, those with a tag if one is named."""
    tag = request.query("tag").get("tag")
    runs, tenant = request.runs, request.caller.tenant
    shown = []
    for name in runs.worker.programs.names():
        program = runs.agent(name)
        tags = tags_of(program)
        if not is_internal(program) and (not tag or tag in tags):
            shown.append(
                {
                    "workflow_id": runs.agent_id(name),
                    "name": name,
                    "description": spec_of(program).description or getattr(program, "description", None) or "",
                    "tags": tags,
                    "version": version_of(program),
                    "client_tools": await tool_names(runs, tenant, program),
                }
            )
    return json_reply(shown)


def tags_of(program: Program) -> list[str]:
    """The texts under `tags` in what is declared of an agent."""
    given: Any = spec_of(program).metadata.get("tags")
    return [tag for tag in given if isinstance(tag, str)] if isinstance(given, list) else []


HANDLERS: Final = (list_workflows,)
