"""What each call of this API takes and answers, for the OpenAPI document. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from holdfast.api.http.operations import (
    ANYTHING,
    OBJECT,
    STREAM,
    STREAM_EVENT,
    TEXT,
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

_MOST: Final = 2**53 - 1
_KEY: Final = Parameter("Idempotency-Key", TEXT, "the same call again has one effect and one answer", "header")
_SINCE: Final = Parameter("since_seq", TEXT, "only what comes behind this state: `3` or `3@1`")
_ROW: Final = object_of("task_id run_id agent_id status seq", task_id=whole(1, _MOST), run_id=TEXT, agent_id=TEXT, status=TEXT, seq=whole(0, _MOST))  # fmt: skip
_FILE: Final[Schema] = {"type": "string", "format": "binary"}
_RESULT: Final = object_of(
    "call_id", call_id=TEXT, output=ANYTHING, errored=or_null({"type": "boolean"}), error_message=or_null(TEXT)
)

_FILTERS: Final[Mapping[str, Schema]] = {name: list_of(TEXT) for name in ("events", "agents", "environments")}
_ENDPOINT_FIELDS: Final = object_of("url", url=TEXT, **_FILTERS, description=TEXT, secret=TEXT)

SCHEMAS: Final[Mapping[str, Schema]] = {
    "WorkflowError": object_of("*", detail=object_of("code message", code=TEXT, message=TEXT)),
    "WorkflowRow": _ROW,
    "WebhookEndpoint": object_of(
        "id url enabled",
        id=TEXT,
        url=TEXT,
        **_FILTERS,
        description=TEXT,
        enabled={"type": "boolean"},
        disabled_reason=or_null(TEXT),
        created_at=TEXT,
        secret=TEXT,
    ),
    "WebhookDelivery": object_of(
        "id endpoint_id event_id type status attempts",
        id=TEXT,
        endpoint_id=TEXT,
        event_id=TEXT,
        type=TEXT,
        task_id=or_null(whole(1, _MOST)),
        seq=or_null(whole(0, _MOST)),
        status=TEXT,
        next_attempt_at=or_null(TEXT),
        attempts=list_of(OBJECT),
    ),
    "TaskStatus": object_of("*", completed={"type": "boolean"}, status=TEXT, seq=whole(0, _MOST), task_info=OBJECT),
}

OPERATIONS: Final[Mapping[str, Operation]] = {
    "POST /api/workflow/execute/{agent}": Operation(
        answers={200: Answers("the run is on disk", object_of("task_id status", task_id=whole(1, _MOST), status=TEXT))},
        parameters=(_KEY,),
        body=Body(
            object_of(
                inputs=object_of(strings=OBJECT, images=OBJECT),
                environment=one_of("playground", "test", "production"),
                metadata=OBJECT,
                thread_id=TEXT,
                webhook_url=TEXT,
                webhook_events=list_of(TEXT),
                webhook_secret=TEXT,
            ),
            {"inputs": {"strings": {"1": "What time is it?"}}, "environment": "playground"},
        ),
        refusals=(404, 409, 507),
    ),
    "GET /api/agent/{agent}/status/{task}": Operation(
        answers={200: Answers("the task status", "TaskStatus")},
        parameters=(Parameter("wait", whole(0, 60), "seconds to wait for a newer state"), _SINCE),
        refusals=(404, 422),
    ),
    "GET /api/agent/{agent}/status/{task}/events": Operation(
        answers={200: Answers("syncs", STREAM_EVENT, media_type=STREAM)},
        parameters=(_SINCE, Parameter("Last-Event-ID", TEXT, "the last state that was seen", "header")),
        refusals=(404, 422),
    ),
    "GET /api/workflow/run/{task}": Operation(
        answers={200: Answers("the row of the run, with its nodes", "WorkflowRow")}, refusals=(404, 422)
    ),
    "GET /api/agent/{agent}/runs": Operation(
        answers={200: Answers("rows, newest first", object_of("*", runs=list_of(OBJECT), next_before=ANYTHING))},
        parameters=(
            Parameter("limit", whole(1, 1000, 100), "how many"),
            Parameter("before", whole(1, _MOST), "only runs below this task_id"),
            Parameter("status", TEXT, "only runs of this status"),
        ),
        refusals=(404, 422),
    ),
    "GET /api/workflow/runs/by-parent/{task}": Operation(
        answers={200: Answers("rows, oldest first", list_of(OBJECT))},
        parameters=(Parameter("recursive", {"type": "boolean"}, "children of children too"),),
        refusals=(404, 422),
    ),
    "POST /api/agent/{agent}/{task}/tool_responses": Operation(
        answers={200: Answers("what became of each result", OBJECT)},
        parameters=(_KEY,),
        body=Body(
            object_of("*", results=list_of(_RESULT)),
            {"results": [{"call_id": "call_5b0e6c2f9a4d4e1f", "output": "2026-11-20T23:59:21+00:00"}]},
        ),
        refusals=(404, 409),
    ),
    "POST /api/agent/{agent}/{task}/tool_calls/claim": Operation(
        answers={
            200: Answers(
                "what was claimed, and what was not", object_of(claimed=list_of(OBJECT), refused=list_of(OBJECT))
            )
        },
        parameters=(_KEY,),
        body=Body(
            object_of("*", worker=TEXT, call_ids=list_of(TEXT), lease_seconds=whole(0, 3600, 60)),
            {"worker": "w-7f3a", "call_ids": ["call_5b0e6c2f9a4d4e1f"], "lease_seconds": 60},
        ),
        refusals=(404, 409),
    ),
    "POST /api/workflow/runs/{task}/schedule-cancel": Operation(
        answers={200: Answers("the status after it", object_of("*", success={"type": "boolean"}, status=TEXT))},
        parameters=(_KEY,),
        body=Body(object_of(reason=TEXT), {"reason": "no longer needed"}, is_required=False),
        refusals=(404, 409),
    ),
    "POST /api/workflow/execute/{agent}/with-files": Operation(
        answers={200: Answers("the run is on disk", object_of("*", task_id=whole(1, _MOST), status=TEXT))},
        parameters=(_KEY,),
        body=Body(
            object_of("*", inputs=TEXT, metadata=TEXT, environment=TEXT, file_1=_FILE, file_2=_FILE),
            media_type="multipart/form-data",
        ),
        refusals=(404, 409, 413, 415, 507),
    ),
    "POST /api/workflow/upload-run-input": Operation(
        answers={200: Answers("the reference, or one for each file", OBJECT)},
        parameters=(_KEY,),
        body=Body(object_of("*", file_1=_FILE, file_2=_FILE), media_type="multipart/form-data"),
        refusals=(409, 413, 415, 507),
    ),
    "POST /api/tools/register": Operation(
        answers={200: Answers("the tools with their ids", object_of("*", tools=list_of(OBJECT)))},
        parameters=(_KEY,),
        body=Body(
            object_of("*", tools=list_of(object_of("*", name=TEXT, namespace=TEXT, schema_data=OBJECT))),
            {
                "tools": [
                    {
                        "name": "find",
                        "namespace": "crm",
                        "description": "Finds a customer.",
                        "schema_data": {"type": "object", "properties": {"name": {"type": "string"}}},
                    }
                ]
            },
        ),
        refusals=(409, 422),
    ),
    "GET /api/tools": Operation(
        answers={200: Answers("the registered tools", object_of("*", schemas=list_of(OBJECT)))},
        parameters=(
            Parameter("limit", whole(1, 1000, 100), "how many"),
            Parameter("offset", whole(0, _MOST, 0), "how many to leave out before them"),
            Parameter("namespace", TEXT, "only tools of this namespace"),
            Parameter("status", one_of("active", "inactive"), "only tools of this status"),
        ),
        refusals=(422,),
    ),
    "DELETE /api/tools/{tool}": Operation(
        answers={200: Answers("the tool is inactive", object_of("*", success={"type": "boolean"}))},
        parameters=(_KEY,),
        refusals=(404, 409),
    ),
    "GET /api/workflow/list": Operation(
        answers={200: Answers("the agents that can be started", list_of(OBJECT))},
        parameters=(Parameter("tag", TEXT, "only agents with this tag"),),
        refusals=(422,),
    ),
    "GET /api/agents/execution/feedback": Operation(
        answers={200: Answers("feedback, newest runs first", object_of("*", items=list_of(OBJECT)))},
        parameters=(
            Parameter("agent_id", TEXT, "only runs of this agent, by UUID or name"),
            Parameter("limit", whole(1, 1000, 3), "how many"),
            Parameter("before_task_id", whole(1, _MOST), "only runs below this task_id"),
            Parameter("task_id", whole(0, _MOST), "only this run"),
            Parameter("nearest_runs_after_id_with_feedback", whole(0, _MOST), "only runs above it, the nearest first"),
        ),
        refusals=(404, 422),
    ),
    "GET /api/agents/execution/{task}/feedback": Operation(
        answers={200: Answers("the feedback on the run", OBJECT)},
        parameters=(Parameter("feedback_source", one_of("admin", "user"), "whose"),),
        refusals=(404, 422),
    ),
    "POST /api/agents/execution/{task}/feedback": Operation(
        answers={200: Answers("the feedback as it is kept", OBJECT)},
        parameters=(_KEY,),
        body=Body(
            object_of("*", feedback_data=object_of("*", feedback=OBJECT), feedback_source=one_of("admin", "user")),
            {
                "feedback_data": {"feedback": {"clock": {"rating": "high", "feedback": "right"}}},
                "feedback_source": "admin",
            },
        ),
        refusals=(404, 409),
    ),
    "GET /api/agents/execution/{task}/feedback/simple": Operation(
        answers={200: Answers("what each source said", object_of("*", items=list_of(OBJECT)))}, refusals=(404, 422)
    ),
    "POST /api/agents/execution/{task}/feedback/simple": Operation(
        answers={200: Answers("the feedback as it is kept", OBJECT)},
        parameters=(_KEY,),
        body=Body(
            object_of("*", passed={"type": "boolean"}, source=one_of("admin", "user")),
            {"passed": True, "source": "user"},
        ),
        refusals=(404, 409),
    ),
    "POST /webhooks": Operation(
        answers={200: Answers("the endpoint with its secret, which is shown only here", "WebhookEndpoint")},
        parameters=(_KEY,),
        body=Body(_ENDPOINT_FIELDS, {"url": "https://example.com/hooks", "events": ["run.completed"]}),
        refusals=(409,),
    ),
    "GET /webhooks": Operation(
        answers={200: Answers("all endpoints", object_of("*", endpoints=list_of(component("WebhookEndpoint"))))}
    ),
    "GET /webhooks/{id}": Operation(answers={200: Answers("the endpoint", "WebhookEndpoint")}, refusals=(404,)),
    "PATCH /webhooks/{id}": Operation(
        answers={200: Answers("the endpoint after it", "WebhookEndpoint")},
        parameters=(_KEY,),
        body=Body(
            object_of(**{**_FILTERS, "url": TEXT, "description": TEXT, "enabled": {"type": "boolean"}}),
            {"enabled": True},
        ),
        refusals=(404, 409),
    ),
    "DELETE /webhooks/{id}": Operation(
        answers={200: Answers("it is gone", object_of("*", success={"type": "boolean"}))},
        parameters=(_KEY,),
        refusals=(404, 409),
    ),
    "POST /webhooks/{id}/rotate": Operation(
        answers={200: Answers("the endpoint with its new secret", "WebhookEndpoint")},
        parameters=(_KEY,),
        body=Body(object_of(overlap_seconds=whole(0, 604_800, 86_400)), {"overlap_seconds": 86_400}, is_required=False),
        refusals=(404, 409),
    ),
    "POST /webhooks/{id}/test": Operation(
        answers={200: Answers("the delivery, after its one attempt", "WebhookDelivery")},
        parameters=(_KEY,),
        body=Body(object_of(), {}, is_required=False),
        refusals=(404, 409),
    ),
    "GET /webhooks/{id}/deliveries": Operation(
        answers={
            200: Answers(
                "deliveries, newest first",
                object_of("*", deliveries=list_of(component("WebhookDelivery")), next_before=or_null(TEXT)),
            )
        },
        parameters=(
            Parameter("status", TEXT, "pending, delivered, failed or held"),
            Parameter("task_id", whole(1, _MOST), "only those of this run"),
            Parameter("limit", whole(1, 1000, 100), "how many"),
            Parameter("before", TEXT, "the id of the delivery behind which to go on"),
        ),
        refusals=(404, 422),
    ),
    "POST /webhooks/{id}/replay": Operation(
        answers={200: Answers("how many are sent again", object_of("*", scheduled=whole(0, _MOST)))},
        parameters=(_KEY,),
        body=Body(object_of(event_ids=list_of(TEXT), status=TEXT, since=TEXT, until=TEXT), {"status": "held"}),
        refusals=(404, 409),
    ),
}
