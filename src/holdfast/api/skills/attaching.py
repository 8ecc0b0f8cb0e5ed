"""Executing a skill on something that is there already, a run for example."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from litestar import post

from holdfast.agents.skill.model import Skill
from holdfast.api.http.asgi import Answer
from holdfast.api.http.call import Call
from holdfast.api.http.reply import json_reply
from holdfast.api.skills.bodies import read_body, text_field, trace_id
from holdfast.api.skills.finding import asked_of, visible_run
from holdfast.api.skills.library import definition_of
from holdfast.api.skills.outcome import outputs_of, status_of
from holdfast.api.skills.refusals import SkillsRefusal, wrong
from holdfast.api.skills.runs import SKILL, skill_id_of
from holdfast.api.skills.starting import answered, start_request, start_run
from holdfast.api.skills.wishes import read_wish
from holdfast.execution.codec import decode_result
from holdfast.model import Status
from holdfast.model.encoding import format_time

TARGET: Final = "target"
_REF_MAX: Final = 1000


@post("/v1/skills/{id:str}/attach", opt={"role": "executor"}, status_code=200)
async def attach_skill(request: Call) -> Answer:
    """Execute a skill on a target; its input `target` tells about it, unless it is given."""
    body = await read_body(request)
    wish, found = read_wish(request, body, "target_type", "target_ref")
    kind, ref = text_field(found, "target_type", most=64), text_field(found, "target_ref", most=_REF_MAX)
    if kind is None or ref is None:
        raise wrong("target_type" if kind is None else "target_ref", "a text")
    name = request.path_value("id")
    definition = definition_of(request, f"{SKILL}{name}")
    skill = definition.skills[name]
    _check_attachable(skill, kind)
    context = await _target(request, kind, ref)
    if TARGET in skill.inputs and TARGET not in wish.inputs:
        wish = msgspec.structs.replace(wish, inputs={**wish.inputs, TARGET: context})
    start = start_request(
        request, wish, definition, channel=f"attach:{kind}", body=body, target={"type": kind, "ref": ref}
    )
    started = await start_run(request, start)
    run, answer = await answered(request, started.run, wish)
    shown = {
        "skill_id": skill.id,
        "target_type": kind,
        "target_ref": ref,
        "execution": answer,
        "attached_at": format_time(run.created_at),
        "attach_context": context,
        "trace_id": trace_id(request),
        "run_id": run.run_id,
    }
    return json_reply(shown, 200 if run.status is Status.COMPLETED else 202)


def _check_attachable(skill: Skill, kind: str) -> None:
    """
    Let a skill pass that may be attached to targets of this type.

    Raises:
        SkillsRefusal
    """
    classification = skill.metadata.get("classification")
    classification = classification if isinstance(classification, dict) else {}
    if classification.get("invocation") not in ("attach", "both"):
        raise SkillsRefusal("invalid_request", f"Skill '{skill.id}' is not made to be attached.", status=400)
    targets = classification.get("attach_targets")
    targets = targets if isinstance(targets, list) else []
    if kind not in targets:
        known = ", ".join(map(str, targets)) or "nothing"
        raise wrong("target_type", f"skill '{skill.id}' is attached to {known}, not to {kind!r}")


async def _target(request: Call, kind: str, ref: str) -> dict[str, Any]:
    """
    What a skill is told of its target.

    Raises:
        RunNotFound: it is a run that the caller does not see.
    """
    about: dict[str, Any] = {"type": kind, "ref": ref, "skill_id": None, "status": None, "outputs": None}
    if kind != "run":
        return about
    run = await visible_run(request, ref)
    outputs = decode_result(bytes(outputs_of(run))) if run.status is Status.COMPLETED else {}
    status = status_of(run, await asked_of(request, run))
    return about | {"skill_id": skill_id_of(run.agent), "status": status, "outputs": outputs}


HANDLERS: Final = (attach_skill,)
