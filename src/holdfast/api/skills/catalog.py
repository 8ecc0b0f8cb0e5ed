"""The calls about the skills that there are: listed, described, searched, and what is wrong with their files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from litestar import get, post

from holdfast.agents.skill.model import Field, Skill, Step
from holdfast.api.http.asgi import Answer
from holdfast.api.http.call import Call
from holdfast.api.http.idempotency import once
from holdfast.api.http.query import Query
from holdfast.api.http.reply import Reply, json_reply
from holdfast.api.skills.bodies import known_fields, read_body, take_trace, text_field, trace_id, whole_field
from holdfast.api.skills.library import definition_of, library_of, may_be_legacy, problem_view
from holdfast.api.skills.refusals import wrong
from holdfast.api.skills.runs import SKILL
from holdfast.model import Status
from holdfast.store.base import RunQuery

STATES: Final = ("draft", "experimental", "stable")
INTENT_MAX: Final = 2000
_WORD: Final = re.compile(r"\w{3,}")
_OFFSET_MAX: Final = 2**53 - 1


@get("/v1/skills/list")
async def list_skills(request: Call) -> Answer:
    """The skills that can be executed, by id, page by page."""
    query = request.query("domain", "role", "status", "invocation", "offset", "limit")
    offset = query.integer("offset", 0, least=0, most=_OFFSET_MAX)
    limit = query.integer("limit", 20, least=1, most=100)
    views = [view for view in map(skill_view, library_of(request).skills()) if _fits(view, query)]
    page = views[offset : offset + limit]
    return json_reply({"skills": page, "pagination": pagination(offset, limit, len(views))} | _traced(request))


def pagination(offset: int, limit: int, total: int) -> dict[str, Any]:
    """Which part of a list a page is."""
    shown: dict[str, Any] = {"offset": offset, "limit": limit, "total": total, "has_more": offset + limit < total}
    return shown | {"next_offset": offset + limit} if shown["has_more"] else shown


def skill_view(skill: Skill) -> dict[str, Any]:
    """A skill as lists show it."""
    classification = _mapping(skill.metadata.get("classification"))
    tags = skill.metadata.get("tags")
    return {
        "id": skill.id,
        "name": skill.name,
        "description": skill.description,
        "domain": skill.domain,
        "channel": skill.channel,
        "status": state_of(skill),
        "role": classification.get("role"),
        "invocation": classification.get("invocation"),
        "effect_mode": classification.get("effect_mode"),
        "tags": tags if isinstance(tags, list) else [],
    }


def state_of(skill: Skill) -> str:
    """How far a skill has come, as its file says; a draft, where it does not."""
    status = skill.metadata.get("status")
    return status if isinstance(status, str) and status else STATES[0]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _fits(view: Mapping[str, Any], query: Query) -> bool:
    return all(view[name] == query[name] for name in ("domain", "role", "status", "invocation") if name in query)


@get("/v1/skills/{id:str}/describe")
async def describe_skill(request: Call) -> Answer:
    """All that a skill's file says about its inputs, outputs and steps."""
    may_be_legacy(request)
    request.query()
    name = request.path_value("id")
    skill = definition_of(request, f"{SKILL}{name}").skills[name]
    return json_reply(
        {
            "id": skill.id,
            "version": skill.version,
            "name": skill.name,
            "description": skill.description,
            "inputs": {name: field_view(field) for name, field in skill.inputs.items()},
            "outputs": {name: field_view(field) for name, field in skill.outputs.items()},
            "steps": [step_view(step) for step in skill.steps],
        }
        | _traced(request)
    )


def field_view(field: Field) -> dict[str, Any]:
    """A declared input or output, with its defaults filled in."""
    return {name: getattr(field, name) for name in Field.__struct_fields__}


def step_view(step: Step) -> dict[str, Any]:
    """A step as its file has it."""
    return {"id": step.id, "uses": step.uses, "input": step.input, "output": step.output, "config": step.config}


@post("/v1/skills/discover", status_code=200)
async def discover_skills(request: Call) -> Answer:
    """The skills that fit an intent, the best first."""
    query, body = request.query(), await read_body(request)
    found = known_fields(request, body, ("intent", "domain", "role", "limit", "trace_id"))
    take_trace(request, found.get("trace_id"))
    intent = text_field(found, "intent", most=INTENT_MAX)
    if intent is None:
        raise wrong("intent", f"a text of 1 to {INTENT_MAX} characters")
    limit = whole_field(found, "limit", least=1, most=100, default=10)
    wanted = Query({name: text_field(found, name, most=200) or "" for name in ("domain", "role") if name in found})

    async def work() -> Reply:
        views = [view for view in map(skill_view, library_of(request).skills()) if _fits(view, wanted)]
        return json_reply({"intent": intent, "results": search(intent, views)[:limit]} | _traced(request))

    return await once(request, query, body, work)


def search(intent: str, views: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """
    The skills in which words of an intent occur, with a score from 0 to 1, the best first.

    A word counts 3 in the id or the name, else 2 in the tags, else 1 in the description.
    """
    words = list(dict.fromkeys(_WORD.findall(intent.casefold())))
    scored = []
    for view in views:
        places = [(word, place) for word in words if (place := _place(word, view)) is not None]
        if places:
            score = round(sum(_WEIGHTS[place] for _, place in places) / (3 * len(words)), 4)
            reason = ", ".join(f"'{word}' in the {place}" for word, place in places)
            scored.append(view | {"score": score, "reason": reason})
    return sorted(scored, key=lambda view: (-view["score"], view["id"]))


_WEIGHTS: Final = {"id": 3, "name": 3, "tags": 2, "description": 1}


def _place(word: str, view: Mapping[str, Any]) -> str | None:
    for place in _WEIGHTS:
        value = view[place]
        texts = value if isinstance(value, list) else [value]
        if any(word in str(text).casefold() for text in texts):
            return place
    return None


@get("/v1/skills/diagnostics")
async def show_diagnostics(request: Call) -> Answer:
    """What is wrong with the files of skills and capabilities, and whether the server is well."""
    request.query()
    library = library_of(request)
    problems = library.problems()
    failed = {problem.skill_id or problem.file for problem in problems if problem.severity == "error"}
    gateway = {"process": "ok", "cache": "ok", "persistence": await _persistence(request)}
    skills = {"loaded": len(library.skills()), "failed": len(failed)}
    return json_reply(
        {"gateway": gateway, "skills": skills, "problems": [problem_view(problem) for problem in problems]}
        | _traced(request)
    )


async def _persistence(request: Call) -> str:
    await request.runs.store.ping()
    return "ok"


@get("/v1/skills/governance")
async def show_governance(request: Call) -> Answer:
    """How far the skills have come, and how their runs went."""
    query = request.query("min_state", "limit")
    limit = query.integer("limit", 100, least=1, most=1000)
    least = query.get("min_state")
    if least is not None and least not in STATES:
        raise wrong("min_state", f"one of {', '.join(STATES)}")
    skills = [skill for skill in library_of(request).skills() if rank_of(state_of(skill)) >= rank_of(least or "")]
    counted = await _runs_of(request)
    shown = [
        {
            "id": skill.id,
            "state": state_of(skill),
            "runs": counted[skill.id, "runs"],
            "failed": counted[skill.id, "failed"],
        }
        for skill in skills[:limit]
    ]
    summary = dict.fromkeys(STATES[rank_of(least or "") :], 0) | Counter(state_of(skill) for skill in skills)
    return json_reply(
        {"source": "runs", "summary": summary, "skills": shown, "min_state": least, "limit": limit} | _traced(request)
    )


def rank_of(state: str) -> int:
    """The place of a state; what is none of ours counts as the first."""
    return STATES.index(state) if state in STATES else 0


async def _runs_of(request: Call) -> Counter[tuple[str, str]]:
    """How many runs each skill had, and how many of them failed."""
    found = await request.runs.store.count_runs(RunQuery(tenant=request.caller.tenant, agent_prefixes=(SKILL,)))
    counted: Counter[tuple[str, str]] = Counter()
    for (agent, status), count in found.items():
        skill_id = agent.removeprefix(SKILL)
        counted[skill_id, "runs"] += count
        if status in (Status.FAILED, Status.CANCELLED):
            counted[skill_id, "failed"] += count
    return counted


def _traced(request: Call) -> dict[str, str]:
    return {"trace_id": trace_id(request)}


HANDLERS: Final = (list_skills, describe_skill, discover_skills, show_diagnostics, show_governance)
