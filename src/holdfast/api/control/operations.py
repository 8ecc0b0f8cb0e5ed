"""What the side door of the command line takes and answers, for the OpenAPI document. Data alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from holdfast.api.http.operations import (
    OBJECT,
    TEXT,
    Answers,
    Body,
    Operation,
    Schema,
    list_of,
    number,
    object_of,
    one_of,
)

SCHEMAS: Final[Mapping[str, Schema]] = {
    "ControlError": object_of("error message", error=TEXT, message=TEXT, details=OBJECT),
}

OPERATIONS: Final[Mapping[str, Operation]] = {
    "GET /_holdfast/keys": Operation(
        answers={200: Answers("The keys, revoked ones too.", object_of("*", keys=list_of(OBJECT)), {"keys": []})}
    ),
    "POST /_holdfast/keys": Operation(
        body=Body(
            object_of("name", name=TEXT, role=one_of("reader", "executor", "operator", "admin"), tenant=TEXT)
            | {"additionalProperties": False},
            {"name": "backend", "role": "executor"},
        ),
        answers={201: Answers("The key; its text is in this answer and nowhere else.", OBJECT)},
        refusals=(409, 507),
    ),
    "POST /_holdfast/keys/{name}/rotate": Operation(
        body=Body(
            object_of("", overlap_seconds=number(0, 300, 300)) | {"additionalProperties": False},
            {"overlap_seconds": 60},
        ),
        answers={201: Answers("The new key; its text is in this answer and nowhere else.", OBJECT)},
        refusals=(404, 409, 507),
    ),
    "DELETE /_holdfast/keys/{name}": Operation(
        answers={200: Answers("The key is revoked.", OBJECT)}, refusals=(409, 507)
    ),
    "POST /_holdfast/backup": Operation(
        body=Body(object_of("target", target=TEXT) | {"additionalProperties": False}, {"target": "/backups/today"}),
        answers={200: Answers("The copy is made.", object_of("*", target=TEXT), {"target": "/backups/today"})},
        refusals=(409, 507),
    ),
}
