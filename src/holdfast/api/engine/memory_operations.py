"""What the calls about memory and feedback take and answer, for the OpenAPI document. Data alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from holdfast.api.engine.operations import CLOSED, CURSOR, IDEMPOTENCY, LIMIT, NULLABLE_TEXT, TASK_ID
from holdfast.api.http.operations import (
    ANYTHING,
    OBJECT,
    TEXT,
    TIME,
    Answers,
    Body,
    Operation,
    Parameter,
    Schema,
    component,
    list_of,
    number,
    object_of,
    one_of,
    or_null,
    whole,
)

_ID: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": 255}
_NULLABLE_TIME: Final = or_null(TIME)
_LEARNED_ITEM: Final[dict[str, Any]] = {
    "id": "k1",
    "subject": "billing",
    "content": "The Café pays on the 5th.",
    "type": "rule",
    "valid_from": None,
    "valid_until": None,
    "confidence": 1.0,
    "source": "turn:t1",
    "created_at": "2026-11-20T23:59:19.987298Z",
    "updated_at": "2026-11-20T23:59:19.987298Z",
}
_COUNTS: Final = object_of("*", added=whole(0, 2**53), updated=whole(0, 2**53), unchanged=whole(0, 2**53))
_SOUL_BODY: Final[dict[str, Schema]] = {"identity": TEXT, "values": list_of(TEXT), "patterns": list_of(TEXT)}
_SOUL_EXAMPLE: Final = {"identity": "", "values": [], "patterns": []}
_WRITTEN: Final[dict[str, Schema]] = {
    "id": _ID,
    "source": TEXT,
    "confidence": number(0, 1, 1),
    "subject": TEXT,
    "content": TEXT,
    "type": TEXT,
    "valid_from": TIME,
    "valid_until": TIME,
    "key": TEXT,
    "description": TEXT,
    "value": ANYTHING,
    "occurred_at": TIME,
    "task_id": TASK_ID,
    "kind": one_of("node", "edge"),
    "name": TEXT,
    "attributes": OBJECT,
    "from": _ID,
    "to": _ID,
    "relation": TEXT,
}

SCHEMAS: Final[Mapping[str, Schema]] = {
    "MemoryItem": object_of(
        "id confidence source created_at updated_at",
        score=number(0, 1),
        **{**_WRITTEN, "valid_from": _NULLABLE_TIME, "valid_until": _NULLABLE_TIME, "task_id": NULLABLE_TEXT},
        created_at=TIME,
        updated_at=TIME,
    ),
    "Soul": object_of("*", **_SOUL_BODY),
    "FullSoul": object_of(
        "*",
        **_SOUL_BODY,
        metadata=object_of("*", version=whole(0, 2**53), created_at=_NULLABLE_TIME, updated_at=_NULLABLE_TIME),
        history=list_of(object_of("*", version=whole(1, 2**53), at=TIME, by=TEXT, before=component("Soul"))),
    ),
    "MemoryExport": object_of(
        "format version",
        format={"const": "holdfast-memory"},
        version={"const": 1},
        exported_at=TIME,
        episodes=list_of(component("MemoryItem")),
        knowledge=list_of(component("MemoryItem")),
        social=list_of(component("MemoryItem")),
        skills=list_of(OBJECT),
        feedback=list_of(OBJECT),
        soul=component("FullSoul"),
    ),
}

OPERATIONS: Final[Mapping[str, Operation]] = {
    "POST /memory/{store}/search": Operation(
        parameters=(IDEMPOTENCY,),
        body=Body(
            object_of("query", query={"type": "string", "minLength": 1, "maxLength": 1000}, limit=whole(1, 100, 20))
            | CLOSED,
            {"query": "billing cafe", "limit": 5},
        ),
        answers={
            200: Answers(
                "What was found, best first.", list_of(component("MemoryItem")), [{"score": 0.61, **_LEARNED_ITEM}]
            )
        },
        refusals=(404,),
    ),
    "POST /memory/{store}": Operation(
        parameters=(IDEMPOTENCY,),
        body=Body(object_of(**_WRITTEN) | CLOSED, {"subject": "billing", "content": "The Café pays on the 5th."}),
        answers={
            200: Answers("The item that took the place of another.", "MemoryItem"),
            201: Answers("The new item.", "MemoryItem", _LEARNED_ITEM),
        },
        refusals=(404, 507),
    ),
    "GET /memory/{store}": Operation(
        parameters=(LIMIT, CURSOR),
        answers={
            200: Answers(
                "A page of items, newest first.",
                object_of("*", items=list_of(component("MemoryItem")), next_cursor=NULLABLE_TEXT),
                {"items": [_LEARNED_ITEM], "next_cursor": None},
            )
        },
        refusals=(404,),
    ),
    "GET /memory/{store}/{item_id}": Operation(
        answers={200: Answers("The item.", "MemoryItem", _LEARNED_ITEM)}, refusals=(404,)
    ),
    "DELETE /memory/{store}/{item_id}": Operation(
        parameters=(IDEMPOTENCY,),
        answers={
            200: Answers(
                "It is forgotten.",
                object_of("*", status={"const": "deleted"}, id=TEXT),
                {"status": "deleted", "id": "k1"},
            )
        },
        refusals=(404, 507),
    ),
    "GET /memory/soul": Operation(answers={200: Answers("The soul.", "Soul", _SOUL_EXAMPLE)}),
    "GET /memory/soul/full": Operation(
        answers={
            200: Answers(
                "The soul with its history.",
                "FullSoul",
                {**_SOUL_EXAMPLE, "metadata": {"version": 0, "created_at": None, "updated_at": None}, "history": []},
            )
        }
    ),
    "PUT /memory/soul": Operation(
        parameters=(IDEMPOTENCY,),
        body=Body(object_of(**_SOUL_BODY) | CLOSED, {"identity": "You keep the books of the Café."}),
        answers={200: Answers("The soul as it is now.", "Soul")},
        refusals=(507,),
    ),
    "GET /memory/export": Operation(answers={200: Answers("Everything that is kept.", "MemoryExport")}),
    "POST /memory/import": Operation(
        parameters=(IDEMPOTENCY,),
        body=Body("MemoryExport", {"format": "holdfast-memory", "version": 1, "knowledge": [_LEARNED_ITEM]}),
        answers={
            200: Answers(
                "What became of the items.",
                object_of(
                    "*", status={"const": "imported"}, counts={"type": "object", "additionalProperties": _COUNTS}
                ),
                {"status": "imported", "counts": {"knowledge": {"added": 1, "updated": 0, "unchanged": 0}}},
            )
        },
        refusals=(507,),
    ),
    "POST /feedback": Operation(
        parameters=(IDEMPOTENCY,),
        body=Body(
            object_of(
                "task_id feedback_type",
                task_id=TASK_ID,
                feedback_type=one_of("positive", "negative", "correction", "preference", "rating"),
                turn_id=TEXT,
                message_id=TEXT,
                comment=TEXT,
                correction=TEXT,
                score=whole(1, 5),
                metadata=OBJECT,
            )
            | CLOSED,
            {"task_id": "demo-001", "feedback_type": "correction", "correction": "The Café pays on the 6th."},
        ),
        answers={
            201: Answers(
                "It is kept.",
                object_of("*", status={"const": "recorded"}, id=TEXT),
                {"status": "recorded", "id": "fb_1"},
            )
        },
        refusals=(404, 507),
    ),
    "GET /feedback": Operation(
        parameters=(Parameter("task_id", TASK_ID, "Of this task; default: of all."), LIMIT, CURSOR),
        answers={
            200: Answers(
                "A page of feedback, newest first.",
                object_of("*", feedback=list_of(OBJECT), next_cursor=NULLABLE_TEXT),
                {"feedback": [], "next_cursor": None},
            )
        },
    ),
}
