"""What the calls of the Runtime API take and answer, for the OpenAPI document. Data alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

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
    number,
    object_of,
    one_of,
    or_null,
    whole,
)

_STATUS: Final = one_of("accepted", "running", "waiting", "completed", "failed", "cancelled")
_CURSOR: Final[Schema] = {"type": "string", "pattern": "^[0-9]{1,16}(@[0-9]{1,16})?$"}
_NULLABLE_TEXT: Final = or_null(TEXT)
_NULLABLE_TIME: Final = or_null(TIME)

SCHEMAS: Final[Mapping[str, Schema]] = {
    "Problem": object_of(
        "type title status success detail error code request_id",
        type=TEXT,
        title=TEXT,
        status={"type": "integer"},
        success={"const": False},
        detail=TEXT,
        error=TEXT,
        code={"type": "string", "pattern": "^[A-Z][A-Z0-9_]*$"},
        request_id=TEXT,
        errors=list_of(object_of("*", pointer=TEXT, message=TEXT)),
    ),
    "Failure": object_of("*", message=TEXT, code=TEXT, details=OBJECT),
    "Cancel": object_of("*", reason=TEXT, requested=TIME, stopped=_NULLABLE_TIME),
    "ListedRun": object_of(
        "*",
        run_id=TEXT,
        number={"type": "integer", "minimum": 1},
        status=_STATUS,
        agent=TEXT,
        thread_id=TEXT,
        attempt={"type": "integer", "minimum": 1},
        epoch={"type": "integer", "minimum": 0},
        first_sequence={"type": "integer", "minimum": 0},
        tail_sequence={"type": "integer", "minimum": 0},
        created_at=TIME,
        completed_at=_NULLABLE_TIME,
        error=or_null(component("Failure")),
        cancel=or_null(component("Cancel")),
        interrupts=list_of(TEXT),
        metadata=OBJECT,
        events_url=TEXT,
    ),
    "Run": {"allOf": [component("ListedRun"), object_of("*", input=ANYTHING, output=ANYTHING)]},
    "Accepted": object_of("*", run_id=TEXT, status={"const": "accepted"}, events_url=TEXT, created_at=TIME),
    "Interrupt": object_of(
        "*",
        interrupt_id=TEXT,
        kind=one_of("question", "approval", "tool", "timer"),
        question=_NULLABLE_TEXT,
        choices=or_null(list_of(TEXT)),
        tool_calls=or_null(list_of(object_of("*", tool=TEXT, tool_call_id=TEXT, input=ANYTHING))),
        status=one_of("pending", "resolved", "expired"),
        created_at=TIME,
        expires_at=_NULLABLE_TIME,
        default=ANYTHING,
        answer=ANYTHING,
        by=_NULLABLE_TEXT,
    ),
    "Step": object_of(
        "*",
        key=TEXT,
        name=TEXT,
        status=one_of("running", "completed", "skipped", "degraded", "failed"),
        attempts={"type": "integer", "minimum": 1},
        started_at=TIME,
        completed_at=_NULLABLE_TIME,
        duration_ms=or_null({"type": "number"}),
        output=ANYTHING,
        error=or_null(component("Failure")),
        sequence=or_null({"type": "integer"}),
        reused={"type": "boolean"},
    ),
    "Receipt": object_of(
        "*",
        run_id=TEXT,
        status=_STATUS,
        reason=TEXT,
        requested=_NULLABLE_TIME,
        stopped=_NULLABLE_TIME,
    ),
}

_IDEMPOTENCY: Final = Parameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    "The same key with the same query and body has one effect and one answer, for 24 hours.",
    where="header",
)
_LAST_EVENT_ID: Final = Parameter(
    "Last-Event-ID", _CURSOR, "The last sequence seen; browsers send it by themselves.", where="header"
)
_RUN_ID: Final = Parameter(
    "run_id",
    {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$"},
    "The id of the new run; default: a new one.",
)
_SOCKET: Final = {
    101: Answers("The connection becomes a WebSocket; its messages are in docs/api/runtime.md.", media_type=None)
}
_AGENT: Final = Parameter("agent", TEXT, "Which agent; default: the server's.")
_THREAD_ID: Final = Parameter(
    "thread_id",
    {"type": "string", "minLength": 1, "maxLength": 255},
    "The conversation that the run belongs to; one run of it at a time.",
)
_TIMEOUT: Final = Parameter(
    "timeout", number(1, 86_400), "Seconds of execution after which the run fails; waiting does not count."
)
_TIMEOUT_SEC: Final = Parameter("timeout_sec", number(1, 86_400), "The same; the least of both holds.")
_WEBHOOK_URL: Final = Parameter(
    "webhook_url",
    {"type": "string", "minLength": 1, "maxLength": 2048},
    "Where the events of this run are sent to as webhooks, signed with the setting webhook_secret.",
)
_CONTROLS: Final = (_IDEMPOTENCY, _RUN_ID, _THREAD_ID, _TIMEOUT, _TIMEOUT_SEC, _WEBHOOK_URL)
_FILTERS: Final = (
    Parameter("types", TEXT, "Which types of events, a list with commas; some are always sent."),
    Parameter("preset", one_of("minimal", "chat", "debug", "all"), "A named list of types, instead of `types`."),
)
_TOKEN: Final = Parameter("token", TEXT, "A stream token of this run, instead of a key.")

_QUESTION: Final = {"query": "explain quantum computing"}
_INPUT: Final = Body("AgentInput", _QUESTION)
_STARTED: Final = (400, 404, 409, 507)
_OUTPUT: Final = {
    "success": True,
    "output": {"answer": "Quan"},
    "metadata": {"agent": "tutor", "framework": "custom", "latency_seconds": 0.5},
}
_EVENTS: Final = (
    'retry: 2140\n\nid: 0\nevent: started\ndata: {"id":"evt_0","type":"started","run_id":"q-1","sequence":0,'
    '"timestamp":"2026-11-20T23:59:19.981204Z","agent_name":"tutor","thread_id":"q-1","attempt":1,'
    '"framework":"custom"}\n\n'
)
_ACCEPTED: Final = {
    "run_id": "q-2",
    "status": "accepted",
    "events_url": "/runs/q-2/events",
    "created_at": "2026-11-20T23:59:21.000412Z",
}
_LISTED: Final[dict[str, Any]] = {
    "run_id": "q-2",
    "number": 42,
    "status": "failed",
    "agent": "tutor",
    "thread_id": "q-2",
    "attempt": 1,
    "epoch": 0,
    "first_sequence": 0,
    "tail_sequence": 7,
    "created_at": "2026-11-20T23:59:21.000412Z",
    "completed_at": "2026-11-20T23:59:22.104000Z",
    "error": {"message": "ValueError: no such topic", "code": "AGENT_EXECUTION_ERROR", "details": {}},
    "cancel": None,
    "interrupts": [],
    "metadata": {"agent": "tutor", "framework": "custom"},
    "events_url": "/runs/q-2/events",
}
_INTERRUPT: Final = {
    "interrupt_id": "int_1",
    "kind": "question",
    "question": "Pay?",
    "choices": ["yes", "no"],
    "tool_calls": None,
    "status": "pending",
    "created_at": "2026-11-20T23:59:20.000000Z",
    "expires_at": "2026-11-23T23:59:20.000000Z",
    "default": "no",
    "answer": None,
    "by": None,
}
_RECEIPT: Final = {
    "run_id": "q-3",
    "status": "cancelled",
    "reason": "left",
    "requested": "2026-11-20T23:59:30.100000Z",
    "stopped": "2026-11-20T23:59:30.104000Z",
}
_CANCELLED: Final = {
    200: Answers("The run is cancelled.", "Receipt", _RECEIPT),
    202: Answers("It is still being cancelled.", "Receipt", _RECEIPT | {"status": "running", "stopped": None}),
}
_CANCEL_WAIT: Final = Parameter("wait", number(0, 10, 5), "Seconds to wait for the end of the run.")

_INVOKE: Final = Operation(
    parameters=_CONTROLS,
    body=_INPUT,
    answers={
        200: Answers(
            "The run is completed.",
            object_of("*", success={"const": True}, output=ANYTHING, metadata=OBJECT),
            _OUTPUT,
        ),
        202: Answers(
            "The run waits for an answer.",
            object_of(
                "*",
                success={"const": True},
                output={"type": "null"},
                status={"const": "waiting"},
                run_id=TEXT,
                interrupts=list_of(component("Interrupt")),
                events_url=TEXT,
            ),
            {
                "success": True,
                "output": None,
                "status": "waiting",
                "run_id": "q-1",
                "interrupts": [_INTERRUPT],
                "events_url": "/runs/q-1/events",
            },
        ),
    },
    refusals=(*_STARTED, 504),
)
_STREAM: Final = Operation(
    parameters=(*_CONTROLS, *_FILTERS, _LAST_EVENT_ID),
    body=_INPUT,
    answers={200: Answers("The events of the new run, as server-sent events.", STREAM_EVENT, _EVENTS, STREAM)},
    refusals=_STARTED,
)
_START: Final = Operation(
    parameters=_CONTROLS,
    body=_INPUT,
    answers={202: Answers("The run and its first event are durable.", "Accepted", _ACCEPTED)},
    refusals=_STARTED,
)
_LIST: Final = Operation(
    parameters=(
        Parameter("status", TEXT, "A list of statuses with commas."),
        Parameter("thread_id", TEXT, "Runs of this thread."),
        Parameter("created_after", TIME, "Exclusive."),
        Parameter("created_before", TIME, "Exclusive."),
        Parameter("limit", whole(1, 200, 50), "How many at the most."),
        Parameter("cursor", TEXT, "A `next_cursor`, as it came."),
    ),
    answers={
        200: Answers(
            "A page of runs, newest first.",
            object_of("*", runs=list_of(component("ListedRun")), next_cursor=_NULLABLE_TEXT),
            {"runs": [_LISTED], "next_cursor": None},
        )
    },
)
_SCHEMA: Final = Operation(
    answers={
        200: Answers(
            "The schemas.",
            object_of("*", success={"const": True}, agent=TEXT, input_schema=OBJECT, output_schema=OBJECT),
            {"success": True, "agent": "tutor", "input_schema": {"type": "object"}, "output_schema": {}},
        )
    },
    refusals=(404,),
)
_INFO: Final = Operation(
    answers={
        200: Answers(
            "What it is.",
            object_of(
                "*",
                success={"const": True},
                agent=OBJECT,
                auth_enabled={"type": "boolean"},
                version=TEXT,
                metadata=OBJECT,
            ),
            {
                "success": True,
                "agent": {
                    "name": "tutor",
                    "description": None,
                    "framework": "custom",
                    "mode": "handler",
                    "handler": "app.service:handle",
                },
                "auth_enabled": True,
                "version": "1.0.0",
                "metadata": {"tags": []},
            },
        )
    },
    refusals=(404,),
)


def _with(operation: Operation, *parameters: Parameter) -> Operation:
    return Operation(
        parameters=(*operation.parameters, *parameters),
        body=operation.body,
        answers=operation.answers,
        refusals=operation.refusals,
    )


def _page(text: str) -> Operation:
    return Operation(answers={200: Answers(text, TEXT, media_type="text/html")})


OPERATIONS: Final[Mapping[str, Operation]] = {
    "POST /invoke": _with(_INVOKE, _AGENT),
    "POST /agents/{name}/invoke": _INVOKE,
    "POST /invoke/stream": _with(_STREAM, _AGENT),
    "POST /agents/{name}/invoke/stream": _STREAM,
    "POST /runs": _with(_START, _AGENT),
    "POST /agents/{name}/runs": _START,
    "GET /runs": _with(_LIST, _AGENT),
    "GET /agents/{name}/runs": _LIST,
    "GET /runs/{run_id}": Operation(
        parameters=(
            Parameter("wait", number(0, 60), "Seconds to wait until the run waits for an answer or is finished."),
        ),
        answers={200: Answers("The run.", "Run", _LISTED | {"input": _QUESTION, "output": None})},
    ),
    "GET /runs/{run_id}/events": Operation(
        parameters=(
            Parameter("from_sequence", _CURSOR, "The first sequence wanted."),
            _LAST_EVENT_ID,
            Parameter("timeout", whole(1, 3600), "Seconds without an event after which the stream ends."),
            *_FILTERS,
            Parameter("view", one_of("compact"), "Rows of tokens that were stored before become one event each."),
            _TOKEN,
        ),
        answers={
            200: Answers("The run's events, as server-sent events.", STREAM_EVENT, _EVENTS, STREAM),
            204: Answers("Nothing is left to send.", media_type=None),
        },
    ),
    "GET /runs/{run_id}/ws": Operation(parameters=(_TOKEN,), answers=_SOCKET, refusals=(426,)),
    "GET /invoke/ws": Operation(parameters=(_AGENT,), answers=_SOCKET, refusals=(404, 426)),
    "GET /agents/{name}/invoke/ws": Operation(answers=_SOCKET, refusals=(426,)),
    "GET /runs/{run_id}/interrupts": Operation(
        parameters=(Parameter("status", one_of("pending", "all") | {"default": "pending"}, "Which of them."),),
        answers={
            200: Answers(
                "What the run asks.",
                object_of("*", interrupts=list_of(component("Interrupt"))),
                {"interrupts": [_INTERRUPT]},
            )
        },
    ),
    "GET /runs/{run_id}/steps": Operation(
        answers={
            200: Answers(
                "The run's steps, by start.",
                object_of("*", steps=list_of(component("Step"))),
                {
                    "steps": [
                        {
                            "key": "fetch",
                            "name": "fetch",
                            "status": "completed",
                            "attempts": 1,
                            "started_at": "2026-11-20T23:59:20.000000Z",
                            "completed_at": "2026-11-20T23:59:20.250000Z",
                            "duration_ms": 250.0,
                            "output": "the document",
                            "error": None,
                            "sequence": 2,
                            "reused": False,
                        }
                    ]
                },
            )
        },
    ),
    "GET /runs/{run_id}/export": Operation(
        answers={200: Answers("The stored journal byte for byte.", TEXT, media_type="application/x-ndjson")}
    ),
    "GET /runs/{run_id}/verify": Operation(
        answers={
            200: Answers(
                "Whether every byte is what was written.",
                object_of(
                    "run_id ok events segments hash",
                    run_id=TEXT,
                    ok={"type": "boolean"},
                    events={"type": "integer"},
                    segments={"type": "integer"},
                    hash=TEXT,
                    first_bad_sequence={"type": "integer"},
                ),
                {"run_id": "q-1", "ok": True, "events": 3, "segments": 2, "hash": "82c0…"},
            )
        },
    ),
    "POST /runs/{run_id}/interrupts/{interrupt_id}": Operation(
        parameters=(_IDEMPOTENCY,),
        body=Body(object_of("*", answer=ANYTHING) | {"additionalProperties": False}, {"answer": "yes"}),
        answers={
            200: Answers(
                "The answer is durable.",
                object_of(
                    "*",
                    interrupt_id=TEXT,
                    status=one_of("pending", "resolved", "expired"),
                    answer=ANYTHING,
                    by=_NULLABLE_TEXT,
                    sequence=or_null({"type": "integer"}),
                ),
                {"interrupt_id": "int_1", "status": "resolved", "answer": "yes", "by": "caller", "sequence": 5},
            )
        },
        refusals=(409, 507),
    ),
    "POST /runs/{run_id}/cancel": Operation(
        parameters=(_IDEMPOTENCY, _CANCEL_WAIT),
        body=Body(
            object_of(reason={"type": "string", "maxLength": 1000}) | {"additionalProperties": False},
            {"reason": "left"},
            is_required=False,
        ),
        answers=_CANCELLED,
        refusals=(409, 507),
    ),
    "DELETE /runs/{run_id}": Operation(
        parameters=(
            _IDEMPOTENCY,
            Parameter("reason", {"type": "string", "maxLength": 1000}, "Why, for people."),
            _CANCEL_WAIT,
        ),
        answers=_CANCELLED,
        refusals=(409, 507),
    ),
    "POST /runs/{run_id}/fork": Operation(
        parameters=_CONTROLS,
        body=Body(
            object_of(from_sequence={"type": "integer", "minimum": 0}, step=TEXT, input=ANYTHING)
            | {"additionalProperties": False, "oneOf": [{"required": ["from_sequence"]}, {"required": ["step"]}]},
            {"step": "fetch"},
        ),
        answers={202: Answers("The new run and its first event are durable.", "Accepted", _ACCEPTED)},
        refusals=(400, 409, 507),
    ),
    "POST /runs/{run_id}/stream-token": Operation(
        body=Body(
            object_of(expires_in=whole(10, 3600, 900), cookie={"type": "boolean", "default": False})
            | {"additionalProperties": False},
            {"expires_in": 900, "cookie": False},
            is_required=False,
        ),
        answers={
            201: Answers(
                "A token that opens the reading of this run.",
                object_of("*", token=TEXT, expires_at=TIME, events_url=TEXT),
                {
                    "token": "hst_…",
                    "expires_at": "2026-11-21T00:14:20.000000Z",
                    "events_url": "/runs/q-1/events?token=hst_…",
                },
            )
        },
    ),
    "GET /health": Operation(
        answers={
            200: Answers(
                "The process answers.",
                object_of(
                    "status service version timestamp agent framework",
                    status=TEXT,
                    service=TEXT,
                    version=TEXT,
                    timestamp=TIME,
                ),
                {
                    "status": "ok",
                    "service": "runtime:tutor",
                    "version": "1.0.0",
                    "timestamp": "2026-11-20T23:59:19.000000Z",
                    "agent": "tutor",
                    "framework": "custom",
                    "uptime_seconds": 12.5,
                    "subsystems": {"database": "ok", "llm_provider": "ok", "asset_directory": "ok", "sandbox": "ok"},
                },
            )
        }
    ),
    "GET /ready": Operation(
        answers={
            200: Answers(
                "The server takes runs.",
                object_of("*", success={"const": True}, status={"const": "ready"}, agent=_NULLABLE_TEXT),
                {"success": True, "status": "ready", "agent": "tutor"},
            )
        },
        refusals=(503,),
    ),
    "GET /agents": Operation(
        answers={
            200: Answers(
                "The agents of this server.",
                object_of("*", default=_NULLABLE_TEXT, agents=list_of(OBJECT)),
                {
                    "default": "tutor",
                    "agents": [{"name": "tutor", "description": None, "framework": "custom", "version": "1.0.0"}],
                },
            )
        }
    ),
    "GET /schema": _SCHEMA,
    "GET /agents/{name}/schema": _SCHEMA,
    "GET /info": _INFO,
    "GET /agents/{name}/info": _INFO,
    "GET /metrics": Operation(
        answers={200: Answers("Figures in Prometheus' text format.", TEXT, media_type="text/plain")}
    ),
    "GET /openapi.json": Operation(answers={200: Answers("This document.", OBJECT)}),
    "GET /docs": _page("The same for people."),
    "GET /redoc": Operation(answers={307: Answers("The page is at /docs.", media_type=None)}),
    "GET /": _page("A page that says where to go."),
}
