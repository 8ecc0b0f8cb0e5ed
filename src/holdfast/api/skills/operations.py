"""What the calls of the Skills API take and answer, for the OpenAPI document. No I/O."""

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
from holdfast.api.skills.catalog import STATES
from holdfast.api.skills.outcome import STATUSES
from holdfast.api.skills.webhook_body import ALL, EVENTS
from holdfast.api.skills.wishes import AUDIT_MODES, PROFILES, WAIT_SECONDS, WAIT_SECONDS_MAX, WORKERS_MAX
from holdfast.settings import TRUST_LEVELS

_MOST: Final = 2**53 - 1
_TRUE: Final[Schema] = {"type": "boolean"}
_CHECKS: Final = object_of("status checks", status=TEXT, checks=OBJECT)
_KEY: Final = Parameter("Idempotency-Key", TEXT, "the same key and body: the same answer, one effect", "header")
_TRACE: Final = Parameter("x-trace-id", TEXT, "the trace of the call, 1 to 128 printable ASCII characters", "header")
_SINCE: Final = Parameter("Last-Event-ID", TEXT, "the id of the last frame that the reader has", "header")
_OFFSET: Final = Parameter("offset", whole(0, _MOST, 0), "how many to leave out before the page")

_OPTIONS: Final = object_of(
    fail_fast={"type": "boolean", "default": True},
    max_workers=whole(1, WORKERS_MAX, 8),
    trust_level=one_of(*TRUST_LEVELS),
    confirmed_capabilities=list_of(TEXT),
    wait_seconds=number(0, WAIT_SECONDS_MAX, WAIT_SECONDS),
)
_WISH: Final[dict[str, Schema]] = {
    "inputs": OBJECT,
    "trace_id": TEXT,
    "include_trace": _TRUE,
    "on_confirmation": one_of("wait", "fail"),
    "frame": OBJECT,
    "required_conformance_profile": one_of(*PROFILES),
    "audit_mode": one_of(*AUDIT_MODES),
    "options": _OPTIONS,
}
_EXAMPLE: Final = {"inputs": {"text": "Hello world"}}

SCHEMAS: Final[Mapping[str, Schema]] = {
    "SkillsError": object_of(
        "error trace_id",
        error=object_of(
            "code message type status",
            code=TEXT,
            message=TEXT,
            type=TEXT,
            status=whole(400, 599),
            field=TEXT,
            fields=list_of(object_of("*", field=TEXT, message=TEXT)),
            problems=list_of(component("SkillProblem")),
        ),
        trace_id=TEXT,
        run_id=TEXT,
    ),
    "SkillProblem": object_of(
        "*",
        file=TEXT,
        line=whole(1, _MOST),
        column=whole(1, _MOST),
        skill_id=or_null(TEXT),
        step_id=or_null(TEXT),
        severity=one_of("error", "warning"),
        code=TEXT,
        message=TEXT,
    ),
    "Skill": object_of(
        "*",
        id=TEXT,
        name=TEXT,
        description=TEXT,
        domain=TEXT,
        channel=TEXT,
        status=TEXT,
        role=ANYTHING,
        invocation=ANYTHING,
        effect_mode=ANYTHING,
        tags=list_of(ANYTHING),
    ),
    "SkillInterrupt": object_of(
        "interrupt_id kind reason question step_id choices input expires_at default",
        interrupt_id=TEXT,
        kind=TEXT,
        reason=or_null(TEXT),
        question=or_null(TEXT),
        step_id=or_null(TEXT),
        choices=ANYTHING,
        input=ANYTHING,
        expires_at=or_null(TIME),
        default=ANYTHING,
    ),
    "SkillAnswer": object_of(
        "skill_id status outputs trace_id run_id",
        skill_id=TEXT,
        status=one_of(*STATUSES),
        outputs=ANYTHING,
        trace_id=TEXT,
        run_id=TEXT,
        interrupt=component("SkillInterrupt"),
        events=list_of(OBJECT),
    ),
    "SkillAccepted": object_of(
        "run_id skill_id status trace_id",
        run_id=TEXT,
        skill_id=TEXT,
        status=TEXT,
        trace_id=TEXT,
        source_run_id=TEXT,
        reused=list_of(TEXT),
    ),
    "CapabilityAnswer": object_of(
        "capability_id outputs meta trace_id run_id",
        capability_id=TEXT,
        outputs=ANYTHING,
        meta=OBJECT,
        status=TEXT,
        trace_id=TEXT,
        run_id=TEXT,
        interrupt=component("SkillInterrupt"),
    ),
    "AttachAnswer": object_of(
        "*",
        skill_id=TEXT,
        target_type=TEXT,
        target_ref=TEXT,
        execution=component("SkillAnswer"),
        attached_at=TIME,
        attach_context=OBJECT,
        trace_id=TEXT,
        run_id=TEXT,
    ),
    "SkillRun": object_of(
        "*",
        run_id=TEXT,
        skill_id=TEXT,
        skill_version=or_null(TEXT),
        status=one_of(*STATUSES),
        state=TEXT,
        trace_id=TEXT,
        created_at=TIME,
        finished_at=or_null(TIME),
        result=or_null(component("SkillAnswer")),
        error=or_null(TEXT),
        error_detail=or_null(OBJECT),
        interrupts=list_of(component("SkillInterrupt")),
        metadata=OBJECT,
    ),
    "SkillPagination": object_of(
        "offset limit total has_more",
        offset=whole(0, _MOST),
        limit=whole(1, 1000),
        total=whole(0, _MOST),
        has_more=_TRUE,
        next_offset=whole(0, _MOST),
    ),
    "SkillWebhook": object_of(
        "id url events active",
        id=TEXT,
        url=TEXT,
        events=list_of(one_of(*EVENTS, ALL)),
        active=_TRUE,
        secret=TEXT,
        trace_id=TEXT,
    ),
    "SkillDecision": object_of(
        "*",
        run_id=TEXT,
        interrupt_id=TEXT,
        answer=one_of("approve", "deny"),
        approver=TEXT,
        status=one_of(*STATUSES),
        trace_id=TEXT,
    ),
}

_ENDS: Final = (404, 409, 412, 428, 500, 502, 504)
_DECISION: Final = Operation(
    answers={200: Answers("the decision is durable", "SkillDecision")},
    parameters=(_TRACE, _KEY),
    body=Body(
        object_of(interrupt_id=TEXT, approver=TEXT, notes=TEXT, output=ANYTHING),
        {"approver": "jane@example.com", "notes": "checked"},
        is_required=False,
    ),
    refusals=(404, 409),
)


def _listed(*names: str) -> tuple[Parameter, ...]:
    return tuple(Parameter(name, TEXT, f"only skills with this {name}") for name in names)


def _execution(answers: Mapping[int, Answers], **more: Any) -> Operation:
    return Operation(
        answers=answers,
        parameters=(_TRACE, _KEY),
        body=Body(object_of(**_WISH, **more), _EXAMPLE, is_required=False),
        refusals=_ENDS,
    )


OPERATIONS: Final[Mapping[str, Operation]] = {
    "GET /v1/health": Operation(
        answers={200: Answers("the process answers", OBJECT)},
        parameters=(Parameter("deep", _TRUE, "look at what it needs too"),),
    ),
    "GET /v1/health/live": Operation(answers={200: Answers("the process answers", object_of("*", status=TEXT))}),
    "GET /v1/health/ready": Operation(
        answers={200: Answers("runs are taken", _CHECKS), 503: Answers("runs are not taken", _CHECKS)}
    ),
    "GET /v1/skills/list": Operation(
        answers={
            200: Answers(
                "a page of skills",
                object_of(
                    "*",
                    skills=list_of(component("Skill")),
                    pagination=component("SkillPagination"),
                    trace_id=TEXT,
                ),
            )
        },
        parameters=(
            *_listed("domain", "role", "status", "invocation"),
            _OFFSET,
            Parameter("limit", whole(1, 100, 20), "how many"),
        ),
    ),
    "GET /v1/skills/{id}/describe": Operation(
        answers={
            200: Answers(
                "the skill",
                object_of(
                    "*",
                    id=TEXT,
                    version=TEXT,
                    name=TEXT,
                    description=TEXT,
                    inputs=OBJECT,
                    outputs=OBJECT,
                    steps=list_of(OBJECT),
                    trace_id=TEXT,
                ),
            )
        },
        refusals=(409,),
    ),
    "POST /v1/skills/discover": Operation(
        answers={
            200: Answers("skills, the best first", object_of("*", intent=TEXT, results=list_of(OBJECT), trace_id=TEXT))
        },
        body=Body(
            object_of("intent", intent=TEXT, domain=TEXT, role=TEXT, limit=whole(1, 100, 10)),
            {"intent": "shorten news articles"},
        ),
    ),
    "GET /v1/skills/diagnostics": Operation(
        answers={
            200: Answers(
                "what is wrong with which file",
                object_of(
                    "*", gateway=OBJECT, skills=OBJECT, problems=list_of(component("SkillProblem")), trace_id=TEXT
                ),
            )
        }
    ),
    "GET /v1/skills/governance": Operation(
        answers={
            200: Answers(
                "states of skills, and how their runs went",
                object_of(
                    "*",
                    source=TEXT,
                    summary=OBJECT,
                    skills=list_of(OBJECT),
                    min_state=or_null(TEXT),
                    limit=whole(1, 1000),
                    trace_id=TEXT,
                ),
            )
        },
        parameters=(
            Parameter("min_state", one_of(*STATES), "only skills that have come so far"),
            Parameter("limit", whole(1, 1000, 100), "how many"),
        ),
    ),
    "POST /v1/skills/{id}/execute": _execution(
        {
            200: Answers("the outputs", "SkillAnswer"),
            202: Answers("it waits for the outside, or takes longer", "SkillAnswer"),
        }
    ),
    "POST /v1/skills/{id}/execute/stream": _execution(
        {200: Answers("the frames of the run, up to done", STREAM_EVENT, media_type=STREAM)}
    ),
    "POST /v1/skills/{id}/execute/async": _execution({202: Answers("the run is on disk", "SkillAccepted")}),
    "POST /v1/skills/{id}/attach": _execution(
        {
            200: Answers("the outputs, and on what the skill was executed", "AttachAnswer"),
            202: Answers("it waits for the outside, or takes longer", "AttachAnswer"),
        },
        target_type=TEXT,
        target_ref=TEXT,
    ),
    "POST /v1/capabilities/{id}/execute": _execution(
        {
            200: Answers("the outputs", "CapabilityAnswer"),
            202: Answers("it waits for the outside, or takes longer", "CapabilityAnswer"),
        }
    ),
    "POST /v1/capabilities/{id}/explain": Operation(
        answers={
            200: Answers(
                "the binding",
                object_of(
                    "*",
                    capability_id=TEXT,
                    selection_source=TEXT,
                    primary_binding_id=TEXT,
                    selected_binding=TEXT,
                    chain=list_of(OBJECT),
                    trace_id=TEXT,
                ),
            )
        },
        body=Body(object_of(), {}, is_required=False),
        refusals=(409,),
    ),
    "GET /v1/runs": Operation(
        answers={
            200: Answers(
                "records, newest first",
                object_of(
                    "*", runs=list_of(component("SkillRun")), pagination=component("SkillPagination"), trace_id=TEXT
                ),
            )
        },
        parameters=(
            Parameter("status", one_of(*STATUSES), "only runs of this status"),
            Parameter("skill_id", TEXT, "only runs of this skill"),
            _OFFSET,
            Parameter("limit", whole(1, 1000, 100), "how many"),
        ),
    ),
    "GET /v1/runs/{run_id}": Operation(answers={200: Answers("the record", "SkillRun")}),
    "GET /v1/runs/{run_id}/stream": Operation(
        answers={
            200: Answers("the frames from there on, up to done", STREAM_EVENT, media_type=STREAM),
            204: Answers("the run is over and nothing is left", media_type=None),
        },
        parameters=(Parameter("from_sequence", TEXT, "the first sequence that is wanted"), _SINCE),
    ),
    "POST /v1/runs/{run_id}/cancel": Operation(
        answers={200: Answers("the record after it", "SkillRun")},
        parameters=(_TRACE, _KEY),
        body=Body(object_of(reason=TEXT), {"reason": "no longer needed"}, is_required=False),
        refusals=(409,),
    ),
    "POST /v1/runs/{run_id}/approve": _DECISION,
    "POST /v1/runs/{run_id}/deny": _DECISION,
    "POST /v1/runs/{run_id}/replay": Operation(
        answers={202: Answers("the new run is on disk", "SkillAccepted")},
        parameters=(_TRACE, _KEY),
        body=Body(object_of(), {}, is_required=False),
        refusals=(409,),
    ),
    "POST /v1/runs/{run_id}/fork": Operation(
        answers={202: Answers("the new run is on disk", "SkillAccepted")},
        parameters=(_TRACE, _KEY),
        body=Body(
            object_of("from_step", from_step=TEXT, inputs=OBJECT, definition=one_of("pinned", "current")),
            {"from_step": "write"},
        ),
        refusals=(409,),
    ),
    "POST /v1/webhooks": Operation(
        answers={201: Answers("the subscription, with its secret if that was made here", "SkillWebhook")},
        parameters=(_TRACE, _KEY),
        body=Body(
            object_of("url events", url=TEXT, events=list_of(one_of(*EVENTS, ALL)), secret=TEXT),
            {"url": "https://example.com/hooks", "events": ["run.waiting", "skill.failed"]},
        ),
        refusals=(409,),
    ),
    "GET /v1/webhooks": Operation(
        answers={
            200: Answers(
                "all subscriptions", object_of("*", subscriptions=list_of(component("SkillWebhook")), trace_id=TEXT)
            )
        }
    ),
    "DELETE /v1/webhooks/{id}": Operation(
        answers={200: Answers("it is gone", object_of("*", deleted=_TRUE, trace_id=TEXT))}
    ),
    "GET /v1/metrics": Operation(
        answers={
            200: Answers(
                "figures of this process, and of the tenant's runs",
                object_of("*", uptime_seconds=number(0, _MOST), counters=OBJECT, histograms=OBJECT, trace_id=TEXT),
            )
        }
    ),
    "GET /v1/metrics/prometheus": Operation(
        answers={200: Answers("the same for Prometheus", TEXT, media_type="text/plain")}
    ),
}
