"""The Engine API as the server takes it."""

from __future__ import annotations

from typing import Final

from holdfast.api.engine import (
    assets,
    assets_operations,
    feedback,
    memory,
    memory_operations,
    rpc,
    skills,
    skills_operations,
)
from holdfast.api.engine.execute import cancel, execute
from holdfast.api.engine.hitl import pending, respond
from holdfast.api.engine.operations import OPERATIONS, SCHEMAS
from holdfast.api.engine.refusals import render
from holdfast.api.engine.replay import replay
from holdfast.api.engine.tasks import delete_grants, delete_task, messages, task, tasks
from holdfast.api.http.routing import Api

BODY_BYTES_MAX: Final = 32 * 1024 * 1024


def engine() -> Api:
    """The handlers and error bodies of the Engine API."""
    return Api(
        name="engine",
        handlers=(
            *(execute, replay, cancel, respond, pending, tasks, task, messages, delete_task, delete_grants),
            *memory.HANDLERS,
            *feedback.HANDLERS,
            *assets.HANDLERS,
            *skills.HANDLERS,
            *rpc.HANDLERS,
        ),
        render=render,
        body_max=BODY_BYTES_MAX,
        repairs_text=True,
        operations={
            **OPERATIONS,
            **memory_operations.OPERATIONS,
            **assets_operations.OPERATIONS,
            **skills_operations.OPERATIONS,
        },
        schemas={**SCHEMAS, **memory_operations.SCHEMAS, **assets_operations.SCHEMAS, **skills_operations.SCHEMAS},
        error_schema="EngineError",
        examples={
            "task_id": "demo-001",
            "store": "knowledge",
            "item_id": "k1",
            "ref_id": "ast_1",
            "name": "daily-report",
        },
    )
