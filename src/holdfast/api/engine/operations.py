"""What the calls of the Engine API take and answer, for the OpenAPI document. Data alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from holdfast.api.http.operations import (
    ANYTHING,
    OBJECT,
    STREAM,
    STREAM_EVENT,
    TEXT,
    TIME,
    Answers,
    Body,
    Operation,
    Parameter,
    Schema,
    component,
    list_of,
    object_of,
    one_of,
    or_null,
    whole,
)

TASK_ID: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": 255}
NULLABLE_TEXT: Final = or_null(TEXT)
CLOSED: Final = {"additionalProperties": False}

SCHEMAS: Final[Mapping[str, Schema]] = {
    "EngineError": object_of("error message", error=TEXT, message=TEXT, details=OBJECT),
    "MediaBlock": object_of(
        "*",
        type=one_of("image", "document", "audio", "video"),
        source={
            "oneOf": [
                object_of("*", type={"const": "base64"}, media_type=TEXT, data=TEXT),
                object_of("*", type={"const": "url"}, url=TEXT),
            ]
        },
    ),
    "Task": object_of(
        "task_id status agent active_turn_id last_timestamp created_at updated_at",
        task_id=TEXT,
        status=one_of("idle", "running", "waiting"),
        agent=NULLABLE_TEXT,
        active_turn_id=NULLABLE_TEXT,
        last_timestamp=or_null({"type": "number"}),
        created_at=TIME,
        updated_at=TIME,
    ),
}

IDEMPOTENCY: Final = Parameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    "The same key with the same body has one effect and one answer.",
    where="header",
)
_LAST_EVENT_ID: Final = Parameter("Last-Event-ID", TEXT, "The last `id:` of this stream.", where="header")
LIMIT: Final = Parameter("limit", whole(1, 100, 50), "How many at the most.")
CURSOR: Final = Parameter("cursor", TEXT, "A `next_cursor`, as it came.")
_TASK: Final = Parameter("task_id", TASK_ID, "Of this task; default: of all.")
_TASK_EXAMPLE: Final = {
    "task_id": "demo-001",
    "status": "idle",
    "agent": "assistant",
    "active_turn_id": None,
    "last_timestamp": 1795219160990.004,
    "created_at": "2026-11-20T23:59:19.987298Z",
    "updated_at": "2026-11-20T23:59:20.990004Z",
}
_FRAMES: Final = (
    'retry: 1840\n\nid: 1\nevent: text_delta\ndata: {"type":"text_delta","task_id":"demo-001","turn_id":"t1",'
    '"sequence":1,"timestamp":1795219160977.05,"text":"Hello!"}\n\n'
)

OPERATIONS: Final[Mapping[str, Operation]] = {
    "POST /execute": Operation(
        parameters=(IDEMPOTENCY, _LAST_EVENT_ID),
        body=Body(
            object_of(
                "task_id",
                task_id=TASK_ID,
                message={"type": "string", "minLength": 1, "maxLength": 1_000_000},
                media=list_of(component("MediaBlock")) | {"maxItems": 20},
                edit_message_id=TEXT,
                retry_message_id=TEXT,
                agent=TEXT,
                metadata=OBJECT,
                direct={"type": "boolean"},
                super_thinking={"type": "boolean"},
                effort=one_of("none", "low", "medium", "high"),
                response_schema=OBJECT,
            )
            | CLOSED,
            {"message": "Say hello in one short sentence.", "task_id": "demo-001"},
        ),
        answers={200: Answers("The frames of the turn, as server-sent events.", STREAM_EVENT, _FRAMES, STREAM)},
        refusals=(400, 404, 409, 507),
    ),
    "GET /execute/replay": Operation(
        parameters=(
            Parameter("after", TEXT, "Only frames with a greater timestamp."),
            _TASK,
            Parameter("turn_id", TEXT, "Of this turn; default: of all."),
            Parameter("follow", one_of("0", "1") | {"default": "1"}, "0 ends at the end of what is stored."),
            _LAST_EVENT_ID,
        ),
        answers={
            200: Answers("Frames, as server-sent events.", STREAM_EVENT, _FRAMES, STREAM),
            204: Answers("Nothing is left to send.", media_type=None),
        },
        refusals=(404,),
    ),
    "POST /execute/cancel": Operation(
        parameters=(IDEMPOTENCY,),
        body=Body(object_of("task_id", task_id=TASK_ID, turn_id=TEXT) | CLOSED, {"task_id": "demo-001"}),
        answers={
            200: Answers("The turn is over already.", object_of("*", status=TEXT, task_id=TEXT, turn_id=TEXT)),
            202: Answers(
                "The turn ends within 5 s.",
                object_of("*", status=TEXT, task_id=TEXT, turn_id=TEXT),
                {"status": "cancelling", "task_id": "demo-001", "turn_id": "t1"},
            ),
        },
        refusals=(404, 409, 507),
    ),
    "POST /hitl/respond": Operation(
        parameters=(IDEMPOTENCY,),
        body=Body(
            object_of(
                "task_id answer",
                task_id=TASK_ID,
                answer=TEXT,
                request_id=TEXT,
                feedback=TEXT,
                content_blocks=list_of(OBJECT) | {"maxItems": 20},
                input_hash=TEXT,
            )
            | CLOSED,
            {"task_id": "demo-001", "answer": "no", "request_id": "q1"},
        ),
        answers={
            200: Answers(
                "The answer is durable.",
                object_of("*", status={"const": "resumed"}, request_id=TEXT),
                {"status": "resumed", "request_id": "q1"},
            )
        },
        refusals=(404, 409, 507),
    ),
    "GET /hitl/pending": Operation(
        parameters=(_TASK, LIMIT, CURSOR),
        answers={
            200: Answers(
                "What turns ask people, oldest first.",
                object_of("*", pending=list_of(OBJECT), next_cursor=NULLABLE_TEXT),
                {"pending": [], "next_cursor": None},
            )
        },
        refusals=(404,),
    ),
    "GET /tasks": Operation(
        parameters=(
            Parameter("status", one_of("idle", "running", "waiting"), "Only such tasks."),
            LIMIT,
            CURSOR,
        ),
        answers={
            200: Answers(
                "A page of tasks, last changed first.",
                object_of("*", tasks=list_of(component("Task")), next_cursor=NULLABLE_TEXT),
                {"tasks": [_TASK_EXAMPLE], "next_cursor": None},
            )
        },
    ),
    "GET /tasks/{task_id}": Operation(answers={200: Answers("The task with its newest turns.", "Task")}),
    "GET /tasks/{task_id}/messages": Operation(
        parameters=(Parameter("superseded", one_of("0", "1"), "1: superseded ones too."), LIMIT, CURSOR),
        answers={
            200: Answers(
                "A page of messages, oldest first.",
                object_of("*", messages=list_of(OBJECT), next_cursor=NULLABLE_TEXT),
                {"messages": [], "next_cursor": None},
            )
        },
    ),
    "DELETE /tasks/{task_id}": Operation(
        parameters=(IDEMPOTENCY,),
        answers={
            200: Answers(
                "The task is gone.",
                object_of("*", status={"const": "deleted"}, task_id=ANYTHING),
                {"status": "deleted", "task_id": "demo-001"},
            )
        },
        refusals=(409, 507),
    ),
    "DELETE /tasks/{task_id}/grants": Operation(
        parameters=(IDEMPOTENCY,),
        answers={
            200: Answers(
                "Every `always` of the task has ended.",
                object_of("*", status={"const": "deleted"}, task_id=ANYTHING),
                {"status": "deleted", "task_id": "demo-001"},
            )
        },
        refusals=(507,),
    ),
}
