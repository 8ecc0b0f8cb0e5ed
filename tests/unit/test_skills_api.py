"""What the Skills API decides without a server: errors, search, forks, the words for a run."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from holdfast.agents.skill.forking import ForkConflict, kept_steps, taken_over, with_descendants
from holdfast.agents.skill.model import Definition, Skill
from holdfast.api.http import errors as http
from holdfast.api.http.routing import Refusal
from holdfast.api.skills.catalog import pagination, search
from holdfast.api.skills.outcome import error_detail, record_of, status_of
from holdfast.api.skills.refusals import SkillsRefusal, error_shown, render, wrong, wrong_inputs
from holdfast.api.skills.webhook_body import names_of
from holdfast.errors import (
    Forbidden,
    IdempotencyKeyReused,
    InterruptResolved,
    QueueFull,
    RateLimited,
    RunFinished,
    RunNotFound,
    Stopping,
    StoreUnavailable,
    Unauthenticated,
)
from holdfast.model import Failure, Run, Status, Step
from tests.support.skills import capability, skill

RUN = Run(
    number=1,
    run_id="r1",
    agent="skill:a",
    agent_id="x",
    status=Status.RUNNING,
    input=b"{}",
    created_at=1_774_440_000_000_000,
    tail_sequence=0,
)


def run(status: Status, **changes: Any) -> Run:
    return msgspec.structs.replace(RUN, status=status, **changes)


# Errors


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (http.MalformedBody("no JSON"), 400, "invalid_request"),
        (wrong("options", "an object"), 400, "invalid_request"),
        (http.InvalidQuery("no number", field="n"), 400, "invalid_request"),
        (Unauthenticated("no key"), 401, "unauthorized"),
        (Forbidden("no"), 403, "forbidden"),
        (RunNotFound("no"), 404, "not_found"),
        (http.PathNotFound("no"), 404, "not_found"),
        (http.MethodNotAllowed("no", "GET"), 405, "method_not_allowed"),
        (InterruptResolved("no"), 409, "already_answered"),
        (RunFinished("no"), 409, "already_finished"),
        (http.BodyTooLarge("no"), 413, "payload_too_large"),
        (wrong_inputs([("text", "required")]), 422, "invalid_request"),
        (IdempotencyKeyReused("no"), 422, "invalid_request"),
        (RateLimited("no", retry_after=7), 429, "rate_limited"),
        (ValueError("secret"), 500, "internal_error"),
        (Stopping("no"), 503, "shutting_down"),
        (QueueFull("no"), 503, "overloaded"),
        (StoreUnavailable("no"), 503, "overloaded"),
    ],
)
def test_an_error_has_its_status_and_code(error: Exception, status: int, code: str) -> None:
    shown = error_shown(error)

    assert (shown["status"], shown["code"]) == (status, code)
    assert "secret" not in shown["message"]


def body_of(error: Exception, **facts: Any) -> tuple[int, dict[str, Any]]:
    reply = render(error, Refusal("req", "/v1/x", facts))
    body: dict[str, Any] = msgspec.json.decode(reply.body)
    return reply.status, body


def test_an_error_is_shown_with_the_trace_of_its_call_and_the_run_that_it_is_about() -> None:
    error = wrong_inputs([("text", "required"), ("count", "must be an integer")])

    status, body = body_of(error, trace_id="t3", run_id="r1")

    assert status == 422
    assert body == {
        "error": {
            "code": "invalid_request",
            "message": "Input 'text' is required.",
            "type": "InvalidInputError",
            "status": 422,
            "field": "text",
            "fields": [
                {"field": "text", "message": "required"},
                {"field": "count", "message": "must be an integer"},
            ],
        },
        "trace_id": "t3",
        "run_id": "r1",
    }


def test_what_never_became_a_request_has_a_trace_of_its_own() -> None:
    status, body = body_of(http.UriTooLong("too long"))

    assert status == 414
    assert len(body["trace_id"]) == 32


def test_a_message_has_at_most_240_characters() -> None:
    _, body = body_of(SkillsRefusal("not_found", "x" * 500))

    assert len(body["error"]["message"]) == 240


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SkillsRefusal("not_found", "no"), 200),
        (SkillsRefusal("safety_denied", "no"), 200),
        (SkillsRefusal("step_timeout", "no"), 200),
        (wrong_inputs([("text", "required")]), 200),
        (wrong("options", "an object"), 400),
        (Forbidden("no"), 403),
        (RateLimited("no"), 429),
        (Stopping("no"), 503),
    ],
)
def test_clients_of_old_get_most_errors_with_200(error: Exception, status: int) -> None:
    assert body_of(error, is_legacy=True)[0] == status


def test_who_is_to_come_back_is_told_when() -> None:
    reply = render(RateLimited("no", retry_after=7), Refusal("req", "/v1/x", {"trace_id": "t"}))

    assert (b"retry-after", b"7") in reply.headers


# Runs in this API's words


def asked(kind: str) -> dict[str, Any]:
    return {"type": "interrupt", "interrupt_id": "i1", "kind": kind}


def test_a_waiting_run_says_what_for() -> None:
    waiting = run(Status.WAITING)

    assert status_of(waiting, [asked("approval")]) == "waiting_for_human"
    assert status_of(waiting, [asked("tool"), asked("approval")]) == "waiting_for_human"
    assert status_of(waiting, [asked("tool")]) == "waiting_for_signal"
    assert status_of(run(Status.QUEUED), []) == status_of(run(Status.RUNNING), [asked("approval")]) == "running"


def test_a_cancelled_run_failed_and_says_that_it_was_cancelled() -> None:
    record = record_of(run(Status.CANCELLED, ended_at=1_774_440_001_000_000), [], "1.0.0")

    assert (record["status"], record["state"], record["skill_version"]) == ("failed", "cancelled", "1.0.0")
    assert record["error_detail"]["code"] == "cancelled"
    assert record["finished_at"] == "2026-03-25T12:00:01.000000Z"


def test_the_error_of_a_run_is_the_one_of_its_step() -> None:
    failure = Failure("Step 'a': over 60 s.", "step_timeout", {"type": "StepTimeoutError", "status": 504})

    assert error_detail(run(Status.FAILED, error=failure)) == {
        "code": "step_timeout",
        "message": "Step 'a': over 60 s.",
        "type": "StepTimeoutError",
        "status": 504,
    }


@pytest.mark.parametrize(
    ("agent", "event", "names"),
    [
        ("skill:a", {"type": "started"}, ["skill.started"]),
        ("skill:a", {"type": "complete"}, ["skill.completed", "run.completed"]),
        ("skill:a", {"type": "cancelled"}, ["skill.failed", "run.failed"]),
        ("skill:a", {"type": "interrupt", "kind": "approval"}, ["run.waiting"]),
        ("skill:a", {"type": "interrupt", "kind": "timer"}, []),
        ("skill:a", {"type": "interrupt_resolved", "kind": "approval"}, []),
        ("capability:a", {"type": "started"}, []),
        ("capability:a", {"type": "complete"}, ["run.completed"]),
    ],
)
def test_webhooks_name_an_event_for_the_skill_and_for_its_run(
    agent: str, event: dict[str, Any], names: list[str]
) -> None:
    assert names_of(msgspec.structs.replace(RUN, agent=agent), event) == names


# Lists and search


def view(id: str, name: str = "", description: str = "", tags: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"id": id, "name": name, "description": description, "tags": list(tags)}


def test_a_word_counts_most_in_a_name_and_once() -> None:
    views = [
        view("a", description="Shortens news"),
        view("b", tags=("news", "press")),
        view("c", "News", "news about news", tags=("news",)),
        view("d", "Weather"),
    ]

    found = search("a NEWS it news", views)

    assert [(item["id"], item["score"]) for item in found] == [("c", 1.0), ("b", 0.6667), ("a", 0.3333)]
    assert found[0]["reason"] == "'news' in the name"


def test_short_words_find_nothing() -> None:
    assert search("a to b", [view("a.to.b", "a to b")]) == []


def test_a_page_says_where_the_next_one_begins() -> None:
    assert pagination(0, 2, 5) == {"offset": 0, "limit": 2, "total": 5, "has_more": True, "next_offset": 2}
    assert pagination(4, 2, 5) == {"offset": 4, "limit": 2, "total": 5, "has_more": False}


# Forks: a → b → d, and c beside them, e behind c and d

A_SKILL = skill(
    "s",
    {"id": "a", "uses": "work"},
    {"id": "b", "uses": "work"},
    {"id": "c", "uses": "work", "depends_on": ()},
    {"id": "d", "uses": "work", "depends_on": ("b",)},
    {"id": "e", "uses": "work", "depends_on": ("c", "d")},
)


def definition(of: Skill = A_SKILL, **facts: Any) -> Definition:
    return Definition(target="skill:s", skills={"s": of}, capabilities={"work": capability("work", **facts)})


def rows(**statuses: str) -> list[Step]:
    return [Step(number=1, key=key, name=key, status=status, started_at=1) for key, status in statuses.items()]


def test_what_depends_on_a_step_runs_with_it() -> None:
    assert with_descendants(A_SKILL, "b") == {"b", "d", "e"}
    assert with_descendants(A_SKILL, "c") == {"c", "e"}


def test_a_fork_keeps_what_does_not_depend_on_its_step() -> None:
    ended = rows(a="completed", b="failed", c="skipped")

    assert kept_steps("b", definition(), definition(), ended) == ["a", "c"]


def test_a_fork_needs_the_results_that_it_keeps() -> None:
    with pytest.raises(ForkConflict) as refused:
        kept_steps("b", definition(), definition(), rows(a="completed", b="failed", c="running"))

    assert error_shown(refused.value)["step_id"] == "c"
    assert error_shown(refused.value)["code"] == "fork_conflict"


def test_a_fork_takes_over_what_is_inside_of_kept_steps_too() -> None:
    inside = [*rows(a="completed", b="failed", ab="completed"), *rows(**{"a/item:1": "failed", "a/item:2": "running"})]

    assert [(row.key, row.reused, row.sequence) for row in taken_over(["a"], inside)] == [
        ("a", True, 0),
        ("a/item:1", True, 0),
    ]


def test_a_result_of_another_definition_is_not_kept() -> None:
    ended = rows(a="completed", c="completed")
    first = msgspec.structs.replace(A_SKILL.steps[0], input={"x": 1})
    changed_step = msgspec.structs.replace(A_SKILL, steps=(first, *A_SKILL.steps[1:]))

    for changed in (definition(changed_step), definition(side_effects=False)):
        with pytest.raises(ForkConflict) as refused:
            kept_steps("b", definition(), changed, ended)
        assert refused.value.details["step_id"] == "a"

    last = msgspec.structs.replace(A_SKILL.steps[4], input={"x": 1})
    changed_later = msgspec.structs.replace(A_SKILL, steps=(*A_SKILL.steps[:4], last))
    assert kept_steps("b", definition(), definition(changed_later), ended) == ["a", "c"]
