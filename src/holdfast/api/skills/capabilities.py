"""The calls about bare capabilities: executing one as a run of one step, and explaining which binding fulfils it."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from litestar import post

from holdfast.agents.skill.choosing import kind_of
from holdfast.agents.skill.model import Capability
from holdfast.api.http.asgi import Answer
from holdfast.api.http.call import Call
from holdfast.api.http.idempotency import once
from holdfast.api.http.reply import Reply, json_reply
from holdfast.api.skills.bodies import ignore, known_fields, read_body, take_trace, trace_id
from holdfast.api.skills.library import capability_of, definition_of, may_be_legacy
from holdfast.api.skills.runs import CAPABILITY
from holdfast.api.skills.starting import answer_reply, answered, start_request, start_run
from holdfast.api.skills.wishes import read_wish
from holdfast.model import Status


@post("/v1/capabilities/{id:str}/execute", opt={"role": "executor"}, status_code=200)
async def execute_capability(request: Call) -> Answer:
    """Execute a bare capability, as a run with the one step `call`."""
    may_be_legacy(request)
    body: dict[str, Any] = await read_body(request)
    wish, _ = read_wish(request, body)
    name = request.path_value("id")
    definition = definition_of(request, f"{CAPABILITY}{name}")
    declared = definition.capabilities[name].inputs
    ignore(request, (f"inputs.{field}" for field in wish.inputs if field not in declared))
    inputs = {field: value for field, value in wish.inputs.items() if field in declared}
    wish = msgspec.structs.replace(wish, inputs=inputs)
    started = await start_run(request, start_request(request, wish, definition, channel="http", body=body))
    run, answer = await answered(request, started.run, wish)
    shown: dict[str, Any] = {"capability_id": name, "outputs": answer["outputs"], "meta": {}}
    if run.status is not Status.COMPLETED:
        shown["status"] = answer["status"]
    shown |= {"trace_id": answer["trace_id"], "run_id": answer["run_id"]}
    if "interrupt" in answer:
        shown["interrupt"] = answer["interrupt"]
    if "events" in answer:
        shown["meta"] = {"status": answer["status"], "events": answer["events"]}
    return answer_reply(run, shown)


@post("/v1/capabilities/{id:str}/explain", opt={"role": "executor"}, status_code=200)
async def explain_capability(request: Call) -> Answer:
    """Say which binding fulfils a capability, and why that one."""
    may_be_legacy(request)
    query, body = request.query(), await read_body(request)
    take_trace(request, known_fields(request, body, ("trace_id",)).get("trace_id"))

    async def work() -> Reply:
        capability = capability_of(request, request.path_value("id"))
        return json_reply(binding_view(capability) | {"trace_id": trace_id(request)})

    return await once(request, query, body, work)


def binding_view(capability: Capability) -> dict[str, Any]:
    """What fulfils a capability: the one binding of its contract."""
    kind = kind_of(capability)
    binding_id = f"{capability.id}:{kind}"
    return {
        "capability_id": capability.id,
        "selection_source": "builtin" if kind == "builtin" else "contract",
        "primary_binding_id": binding_id,
        "selected_binding": binding_id,
        "chain": [{"binding_id": binding_id, "kind": kind, "conformance_profile": "standard", "selected": True}],
    }


HANDLERS: Final = (execute_capability, explain_capability)
