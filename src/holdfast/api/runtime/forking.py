"""Forking a run: a new one with its results up to a point, which goes on from there."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from litestar import post

from holdfast.api.http.asgi import Answer
from holdfast.api.http.call import Call
from holdfast.api.http.run_webhook import fork_run as fork_run_with_webhook
from holdfast.api.runtime.changing import check_members
from holdfast.api.runtime.controls import CONTROLS, check_input, start_request, wish_of
from holdfast.api.runtime.starting import accepted
from holdfast.errors import InvalidRequest
from holdfast.runs import ForkRequest

_MEMBERS: Final = ("from_sequence", "step", "input")


@post("/runs/{run_id:str}/fork", opt={"role": "executor"})
async def fork_run(request: Call) -> Answer:
    """Start a run that keeps the results of the steps of this one that were over before a point."""
    request.runs.check_rate(request.caller)
    body = await request.json_body(request.services.settings.body_bytes_max)
    check_members(body, _MEMBERS)
    query = request.query(*CONTROLS)
    sequence, step = _point(body)
    run = await request.runs.get(request.caller, request.path_value("run_id"))
    if "input" in body:
        check_input(body["input"], request.runs.agent(run.agent), field="input")
    given = body["input"] if "input" in body else msgspec.json.decode(run.input)
    start = start_request(request, query, agent=run.agent, input=given, body=body)
    fork = ForkRequest(from_sequence=sequence, step=step, start=start)
    return accepted(await fork_run_with_webhook(request, run.run_id, fork, wish_of(query)))


def _point(body: dict[str, Any]) -> tuple[int, str | None]:
    """The sequence or the step's key; exactly one of them is given."""
    if ("from_sequence" in body) == ("step" in body):
        raise InvalidRequest("a fork needs one of from_sequence and step", field="from_sequence")
    if "step" in body:
        if not isinstance(body["step"], str):
            raise InvalidRequest("step is the key of a step, a text", field="step")
        return 0, body["step"]
    sequence = body["from_sequence"]
    if type(sequence) is not int or sequence < 0:
        raise InvalidRequest("from_sequence is a whole number from 0 on", field="from_sequence")
    return sequence, None


HANDLERS: Final = (fork_run,)
