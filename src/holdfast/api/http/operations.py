"""
What a call takes and answers, as data: the part of the OpenAPI document that no handler shows by itself. No I/O.

Path, method, role and summary come from the handler. Each API keeps a table of `Operation`s under the handler's method
and path (`GET /runs/{run_id}`); a test holds the tables against the routes, both ways.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

Schema = Mapping[str, Any]

JSON: Final = "application/json"
STREAM: Final = "text/event-stream"

TEXT: Final[Schema] = {"type": "string"}
TIME: Final[Schema] = {"type": "string", "format": "date-time"}
OBJECT: Final[Schema] = {"type": "object"}
ANYTHING: Final[Schema] = {}

# One event of a stream, as WHATWG's event stream format has it; `data` is JSON.
# https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
STREAM_EVENT: Final[Schema] = {
    "type": "object",
    "properties": {"id": TEXT, "event": TEXT, "data": TEXT, "retry": {"type": "integer"}},
}


class Parameter(msgspec.Struct, frozen=True):
    """A parameter of the query, or a header."""

    name: str
    schema: Schema
    text: str
    where: str = "query"
    example: Any = msgspec.UNSET


class Body(msgspec.Struct, frozen=True):
    """What a call takes; `schema` may be the name of a component."""

    schema: Schema | str
    example: Any = None
    is_required: bool = True
    media_type: str = "application/json"


class Answers(msgspec.Struct, frozen=True):
    """One status of a success."""

    text: str
    schema: Schema | str = ANYTHING
    example: Any = msgspec.UNSET
    media_type: str | None = JSON  # None: no body


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """
    One call. `refusals` are the statuses of errors beyond those that every call of its kind may answer: 400, 408,
    414, 431 and 500 all of them, 401, 403, 429 and 503 where a key is asked for, 413, 415 and 422 where there is a body.
    """

    answers: Mapping[int, Answers]
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    refusals: tuple[int, ...] = ()
    is_page: bool = False  # answers people with HTML, refusals too, unless JSON is accepted


def object_of(required: str = "", /, **properties: Schema) -> dict[str, Any]:
    """An object with these properties; `required` names some of them, or `*` all."""
    names = list(properties) if required == "*" else required.split()
    return {"type": "object", "properties": properties, **({"required": names} if names else {})}


def list_of(items: Schema) -> dict[str, Any]:
    return {"type": "array", "items": items}


def or_null(schema: Schema) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def component(name: str) -> dict[str, Any]:
    """A reference to a schema that the document holds once."""
    return {"$ref": f"#/components/schemas/{name}"}


def whole(least: int, most: int, default: int | None = None) -> dict[str, Any]:
    """A whole number within bounds."""
    schema: dict[str, Any] = {"type": "integer", "minimum": least, "maximum": most}
    return schema if default is None else schema | {"default": default}


def number(least: float, most: float, default: float | None = None) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "number", "minimum": least, "maximum": most}
    return schema if default is None else schema | {"default": default}


def one_of(*values: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(values)}
