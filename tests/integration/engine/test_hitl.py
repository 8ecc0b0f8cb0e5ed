"""People in the loop, against a real server: what is asked, who may answer, and that one answer wins."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.engine.support import AGENTS, Engine
from tests.support.server import running_server


def pending(engine: Engine, task_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = engine.client.get("/hitl/pending", params={"task_id": task_id}).json()["pending"]
    return found


def ask(engine: Engine, task_id: str, **wanted: Any) -> dict[str, Any]:
    """Start a turn that asks; the request."""
    engine.begin(json.dumps(wanted), task_id, agent="ask")
    (request,) = pending(engine, task_id)
    return request


def permit(engine: Engine, task_id: str, choices: tuple[str, ...] = ("yes", "no", "always")) -> dict[str, Any]:
    engine.begin(json.dumps(choices), task_id, agent="permit")
    (request,) = pending(engine, task_id)
    return request


def error(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]


def output(engine: Engine, task_id: str) -> Any:
    return engine.replay(task_id=task_id)[-1].data["output"]


def test_an_answer_resumes_the_turn(engine: Engine, task_id: str) -> None:
    request = ask(engine, task_id, question="Which?", choices=["a", "b"])

    response = engine.respond(task_id, "a", request_id=request["request_id"], feedback="because")

    assert (response.status_code, response.json()) == (200, {"status": "resumed", "request_id": request["request_id"]})
    found = engine.replay(task_id=task_id)
    resolved = next(frame.data for frame in found if frame.event == "hitl_resolved")
    assert {name: resolved[name] for name in ("request_id", "kind", "answer", "by", "feedback")} == {
        "request_id": request["request_id"],
        "kind": "question",
        "answer": "a",
        "by": "caller",
        "feedback": "because",
    }
    assert found[-1].data["output"] == "a"


def test_a_pending_request_has_the_fields_of_its_frame(engine: Engine, task_id: str) -> None:
    for request in (ask(engine, task_id, choices=["a"], default="a", expires_in=60), permit(engine, f"{task_id} 2")):
        frames = engine.replay(task_id=request["task_id"], follow=0)
        assert request == next(frame.data for frame in frames if frame.event == "hitl_request")
        engine.cancel(request["task_id"])


def test_the_list_of_pending_requests_has_pages(engine: Engine, task_id: str) -> None:
    tasks = [f"{task_id} {number}" for number in range(5)]
    for task in tasks:
        ask(engine, task)

    found, cursor, sizes = [], None, []
    while True:
        query = {"limit": 2, **({} if cursor is None else {"cursor": cursor})}
        page = engine.client.get("/hitl/pending", params=query).json()
        found += page["pending"]
        sizes.append(len(page["pending"]))
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert [item["task_id"] for item in found if item["task_id"] in tasks] == tasks
    assert max(sizes) == 2
    assert [item["timestamp"] for item in found] == sorted(item["timestamp"] for item in found)
    for task in tasks:
        engine.cancel(task)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("yes", {"approved": True, "remember": False, "note": None}),
        (" No\n", {"approved": False, "remember": False, "note": None}),
        ("ALWAYS", {"approved": True, "remember": True, "note": None}),
    ],
)
def test_a_permission_takes_its_words_in_any_case(engine: Engine, task_id: str, answer: str, expected: Any) -> None:
    permit(engine, task_id)

    assert engine.respond(task_id, answer).status_code == 200

    assert output(engine, task_id) == expected


def test_an_answer_that_is_no_choice_is_refused_and_the_request_stays(engine: Engine, task_id: str) -> None:
    ask(engine, task_id, choices=["a", "b"])
    permit(engine, f"{task_id} 2", ("yes", "no"))

    for task, answer, choices in ((task_id, "A", ["a", "b"]), (f"{task_id} 2", "always", ["yes", "no"])):
        response = engine.respond(task, answer)
        assert error(response) == (422, "INVALID_ANSWER")
        assert response.json()["details"] == {"choices": choices}
        assert len(pending(engine, task)) == 1
        engine.cancel(task)


def test_another_answer_is_a_conflict_and_the_same_a_success(engine: Engine, task_id: str) -> None:
    request_id = ask(engine, task_id)["request_id"]
    engine.respond(task_id, "first")
    engine.replay(task_id=task_id)

    same = engine.respond(task_id, "first", request_id=request_id)
    same_without_id = engine.respond(task_id, "first")
    other = engine.respond(task_id, "second", request_id=request_id)
    other_content = engine.respond(task_id, "first", request_id=request_id, feedback="and a note")
    other_without_id = engine.respond(task_id, "second")

    assert (same.status_code, same_without_id.status_code) == (200, 200)
    assert same_without_id.json()["request_id"] == request_id
    for response in (other, other_content):
        assert error(response) == (409, "HITL_ALREADY_ANSWERED")
        assert response.json()["details"] == {"answer": "first", "by": "caller"}
    assert error(other_without_id) == (404, "HITL_NOT_FOUND")


def test_a_conflict_about_a_permission_is_told_in_words(engine: Engine, task_id: str) -> None:
    request_id = permit(engine, task_id)["request_id"]
    engine.respond(task_id, "no")

    response = engine.respond(task_id, "yes", request_id=request_id)

    assert response.json()["details"] == {"answer": "no", "by": "caller"}


@pytest.mark.slow
def test_of_many_different_answers_at_once_one_wins(engine: Engine, task_id: str) -> None:
    request_id = ask(engine, task_id)["request_id"]
    barrier = threading.Barrier(50)

    def give(number: int) -> int:
        barrier.wait()
        return engine.respond(task_id, f"answer {number}", request_id=request_id).status_code

    with ThreadPoolExecutor(50) as pool:  # each of them has a connection of its own
        statuses = sorted(pool.map(give, range(50)))

    assert statuses == [200] + [409] * 49


def test_several_pending_requests_have_to_be_named(engine: Engine, task_id: str) -> None:
    engine.begin("x", task_id, agent="ask_both")
    first, second = pending(engine, task_id)

    ambiguous = engine.respond(task_id, "1")
    engine.respond(task_id, "2", request_id=second["request_id"])
    engine.respond(task_id, "1")

    assert error(ambiguous) == (409, "AMBIGUOUS_HITL")
    assert ambiguous.json()["details"] == {"request_ids": [first["request_id"], second["request_id"]]}
    assert output(engine, task_id) == ["1", "2"]


def test_an_answer_to_another_input_than_was_seen_is_refused(engine: Engine, task_id: str) -> None:
    permit(engine, task_id)

    assert error(engine.respond(task_id, "yes", input_hash="bb2b")) == (409, "HITL_INPUT_CHANGED")
    assert engine.respond(task_id, "yes", input_hash="aa1a").status_code == 200


def test_unknown_requests(engine: Engine, task_id: str) -> None:
    engine.execute("x", task_id)
    foreign = ask(engine, f"{task_id} other")["request_id"]

    assert error(engine.respond("nope", "yes")) == (404, "TASK_NOT_FOUND")
    assert error(engine.respond(task_id, "yes")) == (404, "HITL_NOT_FOUND")
    assert error(engine.respond(task_id, "yes", request_id="int_nope")) == (404, "HITL_NOT_FOUND")
    assert error(engine.respond(task_id, "yes", request_id=foreign)) == (404, "HITL_NOT_FOUND")
    engine.cancel(f"{task_id} other")


def test_a_request_of_a_cancelled_turn_was_answered_by_cancelling(engine: Engine, task_id: str) -> None:
    request_id = ask(engine, task_id)["request_id"]
    engine.cancel(task_id)
    found = engine.replay(task_id=task_id)

    response = engine.respond(task_id, "late", request_id=request_id)

    assert error(response) == (409, "HITL_ALREADY_ANSWERED")
    assert response.json()["details"] == {"answer": None, "by": "cancelled"}
    assert [frame.event for frame in found[-2:]] == ["interrupt_resolved", "thread_lifecycle"]
    assert error(engine.respond(task_id, "late")) == (404, "HITL_NOT_FOUND")


def test_blocks_are_part_of_an_answer(engine: Engine, task_id: str) -> None:
    request_id = ask(engine, task_id)["request_id"]
    blocks = [{"type": "text", "text": "see"}, {"type": "image", "source": {"type": "url", "url": "http://x.y/z.png"}}]

    assert engine.respond(task_id, "a", content_blocks=blocks, request_id=request_id).status_code == 200
    assert engine.respond(task_id, "a", content_blocks=blocks, request_id=request_id).status_code == 200
    assert error(engine.respond(task_id, "a", request_id=request_id)) == (409, "HITL_ALREADY_ANSWERED")


@pytest.mark.slow
@pytest.mark.parametrize(("default", "expected"), [({"default": "b"}, "b"), ({}, "nobody answered")])
def test_an_expired_question_is_answered_by_its_default_or_not_at_all(
    engine: Engine, task_id: str, default: Any, expected: str
) -> None:
    engine.begin(json.dumps({"expires_in": 0.3, "choices": ["a", "b"], **default}), task_id, agent="ask")

    found = engine.replay(task_id=task_id)

    resolved = next(frame.data for frame in found if frame.event == "hitl_resolved")
    assert (resolved["by"], resolved["answer"]) == ("expiry", default.get("default"))
    assert found[-1].data["output"] == expected


def test_a_key_that_repeats_an_answer_gets_the_first_reply(engine: Engine, task_id: str) -> None:
    ask(engine, task_id)
    body = {"task_id": task_id, "answer": "a"}
    headers = {"Idempotency-Key": f"answer-{task_id.encode().hex()}"}

    first = engine.post("/hitl/respond", body, **headers)
    again = engine.post("/hitl/respond", body, **headers)
    other = engine.post("/hitl/respond", {**body, "answer": "b"}, **headers)

    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert error(other) == (422, "IDEMPOTENCY_KEY_REUSED")


@pytest.mark.slow
def test_after_a_kill_answers_resume_turns_and_tasks_become_free(own_store: dict[str, str], tmp_path: Path) -> None:
    """Checks 7, 8 and 23: one turn waits and one runs; neither is stale, and a repeated call is not a second turn."""
    gate, headers = tmp_path / "gate", {"Idempotency-Key": "busy"}
    busy: dict[str, Any] = {"message": str(gate), "agent": "gated", "headers": headers}
    with running_server(tmp_path, agents=AGENTS, environment=own_store) as server, server.client() as client:
        engine = Engine(client)
        request = ask(engine, "asks", question="Still there?")
        begun = engine.begin(task_id="busy", **busy)
        refused = [error(engine.post("/execute", {"task_id": task, "message": "x"})) for task in ("asks", "busy")]
        server.kill()
    with running_server(tmp_path, agents=AGENTS, environment=own_store) as server, server.client() as client:
        engine = Engine(client)
        assert pending(engine, "asks") == [request]
        assert engine.respond("asks", "yes").status_code == 200
        found = engine.replay(task_id="asks")
        gate.touch()
        repeated = engine.execute(task_id="busy", **busy)
        again = [engine.execute("x", task, agent="say") for task in ("asks", "busy")]
        turns = client.get("/tasks/busy").json()["turns"]

    assert refused == [(409, "HITL_REQUIRED"), (409, "TASK_BUSY")]
    assert [frame.data["sequence"] for frame in found] == list(range(len(found)))
    assert found[-1].data["output"] == "yes"
    assert {frame.data["turn_id"] for frame in repeated} == {begun}
    assert repeated[-1].data["output"] == "beforeafter"
    assert "restarted" in [frame.event for frame in repeated]
    assert [frames[-1].data["phase"] for frames in again] == ["completed"] * 2
    assert len(turns) == 2
