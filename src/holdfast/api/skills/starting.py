"""Starting a run of a skill or of a bare capability, and answering for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from holdfast.agents.skill.contract import input_problems
from holdfast.agents.skill.model import Capability, Definition, Skill
from holdfast.agents.skill.program import REQUEST
from holdfast.api.http.call import Call
from holdfast.api.http.idempotency import REPLAYED, idempotency_row
from holdfast.api.http.reply import Reply, json_reply
from holdfast.api.skills.bodies import concerns
from holdfast.api.skills.finding import settled
from holdfast.api.skills.following import all_frames
from holdfast.api.skills.outcome import Asked, answer_of, error_detail
from holdfast.api.skills.refusals import SkillsRefusal, wrong_inputs
from holdfast.api.skills.runs import skill_id_of, trace_of
from holdfast.api.skills.wishes import Wish
from holdfast.errors import Stopping
from holdfast.execution.forking import Inherited
from holdfast.execution.given import given_step
from holdfast.model import Run, Status
from holdfast.runs import StartRequest
from holdfast.store.base import Started


def start_request(
    request: Call, wish: Wish, definition: Definition, *, channel: str, body: Any, **facts: Any
) -> StartRequest:
    """
    What a run is started with.

    Raises:
        SkillsRefusal: the inputs do not fit. Nothing was started.
    """
    target, inputs = _target(definition), wish.inputs
    problems = input_problems(target.inputs, inputs)
    if problems:
        raise wrong_inputs(problems)
    kept = {
        "trace_id": wish.trace_id,
        "channel": channel,
        "skill_version": target.version,
        "audit_mode": wish.audit_mode,
    }
    options = given_step(REQUEST, msgspec.to_builtins(wish.options), request.services.clock.now())
    return StartRequest(
        agent=definition.target,
        input=inputs,
        metadata={"skills": kept | facts},
        idempotency=idempotency_row(request, request.query(), body),
        inherited=Inherited(steps=(options,)),
    )


def _target(definition: Definition) -> Skill | Capability:
    kind, _, name = definition.target.partition(":")
    return definition.skills[name] if kind == "skill" else definition.capabilities[name]


async def start_run(request: Call, start: StartRequest) -> Started:
    """Start a run, or find the one that the same call started before."""
    request.exchange.agent = start.agent or ""
    started = await request.runs.start(request.caller, start)
    concerns(request, started.run)
    if started.replayed:
        request.exchange.headers.append(REPLAYED)
    return started


async def answered(request: Call, run: Run, wish: Wish) -> tuple[Run, dict[str, Any]]:
    """
    The run and its answer, once it is over or waits for the outside, or after the time that the caller wants to wait.

    Raises:
        SkillsRefusal: the run failed; it is the run's error.
        Stopping
    """
    run, asked = await settled(request, run, wish.wait_seconds)
    check_ended(run)
    if request.services.shutdown.is_set and not run.status.is_final and not asked:
        raise Stopping("the server is stopping; the run goes on after it", run_id=run.run_id)
    return run, await with_events(request, run, asked, include_trace=wish.options.include_trace)


async def with_events(request: Call, run: Run, asked: Sequence[Asked], *, include_trace: bool) -> dict[str, Any]:
    """The answer for a run that did not fail, with all its frames if they are wanted."""
    answer = answer_of(run, asked)
    return answer | {"events": await all_frames(request, run)} if include_trace else answer


def check_ended(run: Run) -> None:
    """
    Let a run pass that did not fail.

    Raises:
        SkillsRefusal: the run's own error.
    """
    error = error_detail(run)
    if error is not None:
        raise SkillsRefusal(**error)


def answer_reply(run: Run, answer: dict[str, Any]) -> Reply:
    """200 with the outputs, 202 while there are none yet."""
    return json_reply(answer, 200 if run.status is Status.COMPLETED else 202)


def accepted(run: Run) -> dict[str, Any]:
    """The answer to a start that nobody waits for."""
    return {
        "run_id": run.run_id,
        "skill_id": skill_id_of(run.agent),
        "status": "running",
        "trace_id": trace_of(run),
    }
