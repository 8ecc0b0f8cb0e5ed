"""New runs made of old ones: all of it again, or from a step on with the results that were there before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from litestar import post

from holdfast.agents.skill.forking import kept_steps, skill_of, taken_over
from holdfast.agents.skill.model import Definition, Options, decode_definition
from holdfast.agents.skill.program import REQUEST
from holdfast.api.http.asgi import Answer
from holdfast.api.http.call import Call
from holdfast.api.http.reply import json_reply
from holdfast.api.skills.bodies import (
    choice_field,
    known_fields,
    object_field,
    read_body,
    take_trace,
    text_field,
    trace_id,
)
from holdfast.api.skills.finding import find_run
from holdfast.api.skills.library import definition_of
from holdfast.api.skills.refusals import SkillsRefusal, wrong
from holdfast.api.skills.runs import SKILL, facts_of
from holdfast.api.skills.starting import accepted, start_request, start_run
from holdfast.api.skills.wishes import WAIT_SECONDS, Wish
from holdfast.execution.codec import decode_result
from holdfast.execution.forking import Inherited
from holdfast.execution.given import DEFINITION, given_key, given_step
from holdfast.model import Run, Step
from holdfast.runs import StartRequest
from holdfast.settings import TRUST_LEVELS


@post("/v1/runs/{run_id:str}/replay", opt={"role": "executor"}, status_code=202)
async def replay_run(request: Call) -> Answer:
    """Execute again what a run executed, from the start, with its inputs and options, as a new run."""
    request.query()
    body = await read_body(request)
    take_trace(request, known_fields(request, body, ("trace_id",)).get("trace_id"))
    trace = trace_id(request)
    run = await find_run(request)
    steps = await request.runs.store.steps(run.number)
    wish = _wish(request, run, steps, decode_result(run.input), trace)
    start = start_request(
        request, wish, definition_of(request, run.agent), channel=_channel(run), body=body, source_run_id=run.run_id
    )
    return await _started(request, run, start)


@post("/v1/runs/{run_id:str}/fork", opt={"role": "executor"}, status_code=202)
async def fork_run(request: Call) -> Answer:
    """Execute a step of an ended run and what depends on it again, as a new run that keeps all other results."""
    request.query()
    body = await read_body(request)
    found = known_fields(request, body, ("from_step", "inputs", "definition", "trace_id"))
    take_trace(request, found.get("trace_id"))
    trace = trace_id(request)
    step_id = text_field(found, "from_step", most=64)
    if step_id is None:
        raise wrong("from_step", "the id of a step")
    which = choice_field(found, "definition", ("pinned", "current"), "pinned")
    inputs = object_field(found, "inputs") if "inputs" in found else None
    run = await find_run(request)
    if not run.status.is_final:
        raise SkillsRefusal("not_finished", f"Run {run.run_id} is {run.status.value}; only an ended run is forked.")
    if not run.agent.startswith(SKILL):
        raise wrong("from_step", "a run of a bare capability has one step alone; replay it")
    steps = await request.runs.store.steps(run.number)
    pinned = await _pinned(request, run, steps)
    definition = pinned if which == "pinned" else definition_of(request, run.agent)
    skill = skill_of(definition)
    if all(step.id != step_id for step in skill.steps):
        raise wrong("from_step", f"the id of a step of '{skill.id}'")
    kept = kept_steps(step_id, pinned, definition, steps)
    wish = _wish(request, run, steps, decode_result(run.input) if inputs is None else inputs, trace)
    start = start_request(
        request, wish, definition, channel=_channel(run), body=body, source_run_id=run.run_id, from_step=step_id
    )
    name = await request.runs.worker.definitions.keep(run.tenant, definition.encode())
    given = given_step(DEFINITION, name, request.services.clock.now())
    inherited = Inherited(steps=(*start.inherited.steps, given, *taken_over(kept, steps)))
    facts = {"forked_from": {"run_id": run.run_id, "step": step_id}}
    return await _started(request, run, msgspec.structs.replace(start, inherited=inherited, facts=facts), reused=kept)


async def _started(request: Call, source: Run, start: StartRequest, *, reused: list[str] | None = None) -> Answer:
    started = await start_run(request, start)
    answer = accepted(started.run) | {"source_run_id": source.run_id}
    return json_reply(answer if reused is None else answer | {"reused": reused}, 202)


def _wish(request: Call, run: Run, steps: Sequence[Step], inputs: Any, trace: str) -> Wish:
    """What the old run was asked for, within what this caller may ask for."""
    options = Options()
    for step in steps:
        if step.key == given_key(REQUEST) and step.output is not None:
            options = msgspec.json.decode(step.output, type=Options)
    caller = request.caller
    trust = min(options.trust, caller.trust, key=TRUST_LEVELS.index)
    confirmed = options.confirmed_capabilities if caller.has("operator") else ()
    options = msgspec.structs.replace(options, trust=trust, confirmed_capabilities=confirmed)
    audit_mode = str(facts_of(run).get("audit_mode", "off"))
    return Wish(
        inputs=inputs if isinstance(inputs, dict) else {},
        options=options,
        wait_seconds=WAIT_SECONDS,
        audit_mode=audit_mode,
        trace_id=trace,
    )


def _channel(run: Run) -> str:
    return str(facts_of(run).get("channel", "http-async"))


async def _pinned(request: Call, run: Run, steps: Sequence[Step]) -> Definition:
    """The definition that a run began with."""
    for step in steps:
        if step.key == given_key(DEFINITION) and step.output is not None:
            name = decode_result(step.output)
            return decode_definition(await request.runs.worker.definitions.get(run.tenant, name))
    raise SkillsRefusal("fork_conflict", f"Run {run.run_id} kept no definition to be forked with.")


HANDLERS: Final = (replay_run, fork_run)
