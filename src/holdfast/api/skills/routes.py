"""The Skills API as the server takes it."""

from __future__ import annotations

from typing import Final

from holdfast.api.http.routing import Api
from holdfast.api.skills import (
    attaching,
    capabilities,
    catalog,
    executing,
    forking,
    health,
    metrics,
    run_calls,
    webhooks,
)
from holdfast.api.skills.admission import admit, enter
from holdfast.api.skills.bodies import BODY_BYTES_MAX
from holdfast.api.skills.operations import OPERATIONS, SCHEMAS
from holdfast.api.skills.refusals import render

_PARTS: Final = (health, catalog, executing, attaching, capabilities, run_calls, forking, webhooks, metrics)


def skills() -> Api:
    """The handlers and error bodies of the Skills API."""
    return Api(
        name="skills",
        handlers=tuple(handler for part in _PARTS for handler in part.HANDLERS),
        render=render,
        body_max=BODY_BYTES_MAX,
        repairs_text=True,
        operations=OPERATIONS,
        schemas=SCHEMAS,
        error_schema="SkillsError",
        examples={"id": "news.briefing", "run_id": "0197a2b4-1111-7000-8000-000000000001"},
        enter=enter,
        admit=admit,
    )
