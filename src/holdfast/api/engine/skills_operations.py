"""What the calls under `/skills`, `/rpc` and `/admin` take and answer, for the OpenAPI document. Data alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from holdfast.api.engine.operations import CLOSED, IDEMPOTENCY
from holdfast.api.http.operations import (
    ANYTHING,
    OBJECT,
    TEXT,
    Answers,
    Body,
    Operation,
    Schema,
    component,
    list_of,
    object_of,
    one_of,
)

_NAME: Final = {"type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$", "minLength": 1, "maxLength": 64}
_TEXTS: Final = {"type": "object", "additionalProperties": TEXT, "maxProperties": 20}

SCHEMAS: Final[Mapping[str, Schema]] = {
    "PromptSkillListed": object_of(
        "*",
        name=TEXT,
        description=TEXT,
        source=one_of("platform", "custom"),
        category=TEXT,
        confidence={"type": "number"},
    ),
    "PromptSkill": object_of(
        "*",
        name=TEXT,
        description=TEXT,
        category=TEXT,
        prompt_template=TEXT,
        scripts=_TEXTS,
        capabilities=list_of(TEXT),
    ),
}

_SENT: Final[dict[str, Any]] = {
    "prompt": {"type": "string", "minLength": 1, "maxLength": 100_000},
    "description": TEXT,
    "category": TEXT,
    "capabilities": list_of(TEXT) | {"maxItems": 100},
    "scripts": _TEXTS,
}
_EXAMPLE: Final = {
    "name": "daily-report",
    "description": "A report of a day.",
    "category": "writing",
    "prompt_template": "Write a report of {{day}}.",
    "scripts": {},
    "capabilities": [],
}

OPERATIONS: Final[Mapping[str, Operation]] = {
    "GET /skills": Operation(
        answers={
            200: Answers(
                "All prompt skills, by name.",
                list_of(component("PromptSkillListed")),
                [
                    {
                        "name": "daily-report",
                        "description": "A report of a day.",
                        "source": "custom",
                        "category": "writing",
                        "confidence": 1.0,
                    }
                ],
            )
        }
    ),
    "GET /skills/{name}": Operation(
        answers={200: Answers("The skill.", component("PromptSkill"), _EXAMPLE)}, refusals=(404,)
    ),
    "POST /skills/create": Operation(
        parameters=(IDEMPOTENCY,),
        body=Body(
            object_of("name", name=_NAME, **_SENT) | CLOSED,
            {"name": "daily-report", "prompt": "Write a report of {{day}}."},
        ),
        answers={201: Answers("The skill.", component("PromptSkill"), _EXAMPLE)},
        refusals=(409, 507),
    ),
    "PUT /skills/{name}": Operation(
        parameters=(IDEMPOTENCY,),
        body=Body(object_of("", name=_NAME, **_SENT) | CLOSED, {"description": "A report of a day."}),
        answers={200: Answers("The skill as it is now.", component("PromptSkill"), _EXAMPLE)},
        refusals=(404, 409, 507),
    ),
    "DELETE /skills/{name}": Operation(
        parameters=(IDEMPOTENCY,),
        answers={
            200: Answers(
                "It is gone.",
                object_of("*", status={"const": "deleted"}, name=TEXT),
                {"status": "deleted", "name": "daily-report"},
            )
        },
        refusals=(404, 409, 507),
    ),
    "POST /rpc": Operation(
        parameters=(IDEMPOTENCY,),
        body=Body(
            object_of("method", method={"type": "string", "minLength": 1, "maxLength": 255}, params=OBJECT) | CLOSED,
            {"method": "skill.daily-report", "params": {"day": "Monday"}},
        ),
        answers={
            200: Answers(
                "What it gave.",
                object_of("*", result=ANYTHING),
                {"result": {"output": "…", "usage": {"input_tokens": 12, "output_tokens": 3, "cache_hit_tokens": 0}}},
            )
        },
        refusals=(401, 404, 409, 502, 504, 507),
    ),
    "POST /admin/reload-catalog": Operation(
        parameters=(IDEMPOTENCY,),
        body=Body(object_of("") | CLOSED, {}, is_required=False),
        answers={
            200: Answers(
                "All of it was taken.",
                object_of(
                    "*",
                    status={"const": "reloaded"},
                    agents=list_of(TEXT),
                    skills=list_of(TEXT),
                    tools=list_of(TEXT),
                    changed=list_of(TEXT),
                ),
                {"status": "reloaded", "agents": ["clerk"], "skills": [], "tools": [], "changed": ["clerk"]},
            )
        },
        refusals=(409,),
    ),
}
