"""The Workflow API as the server takes it."""

from __future__ import annotations

from typing import Final

from holdfast.api.http.routing import Api
from holdfast.api.workflow import answering, claiming, feedback, listing, reading, registry, starting, webhooks
from holdfast.api.workflow.operations import OPERATIONS, SCHEMAS
from holdfast.api.workflow.refusals import render

BODY_BYTES_MAX: Final = 1024 * 1024
_PARTS: Final = (starting, reading, answering, claiming, registry, listing, feedback, webhooks)


def workflow() -> Api:
    """The handlers and error bodies of the Workflow API."""
    return Api(
        name="workflow",
        handlers=tuple(handler for part in _PARTS for handler in part.HANDLERS),
        render=render,
        body_max=BODY_BYTES_MAX,
        repairs_text=False,
        operations=OPERATIONS,
        schemas=SCHEMAS,
        error_schema="WorkflowError",
        examples={"agent": "clock", "task": "17", "id": "whe_3f9c"},
    )
