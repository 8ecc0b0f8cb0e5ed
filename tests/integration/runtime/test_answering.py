"""Answers of every shape: what each kind of interrupt takes, who wins, and what a repeat gets."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.server import ServerProcess


def asking(client: httpx.Client, agent: str, **input: Any) -> tuple[str, dict[str, Any], str]:
    """A run that waits, its interrupt, and the path to answer at."""
    run_id = f"t-{uuid.uuid4().hex}"
    reply = client.post(f"/agents/{agent}/invoke?run_id={run_id}", json=input)
    assert reply.status_code == 202, reply.text
    (interrupt,) = client.get(f"/runs/{run_id}/interrupts").json()["interrupts"]
    assert reply.json()["interrupts"] == [interrupt]
    return run_id, interrupt, f"/runs/{run_id}/interrupts/{interrupt['interrupt_id']}"


def output(client: httpx.Client, run_id: str) -> Any:
    return client.get(f"/runs/{run_id}?wait=20").json()["output"]


@pytest.mark.parametrize("answer", ["yes", "", 5, 1.5, None, True, [1, {"a": None}], {"deep": ["x"]}])
def test_a_question_takes_any_json(client: httpx.Client, answer: Any) -> None:
    run_id, interrupt, path = asking(client, "ask")
    assert interrupt.keys() == {
        *("interrupt_id", "kind", "question", "choices", "tool_calls", "status"),
        *("created_at", "expires_at", "default", "answer", "by"),
    }

    reply = client.post(path, json={"answer": answer})

    assert reply.json() == {
        "interrupt_id": interrupt["interrupt_id"],
        "status": "resolved",
        "answer": answer,
        "by": "caller",
        "sequence": 2,
    }
    assert output(client, run_id) == {"answer": answer}
    assert client.post(path, json={"answer": answer}).json() == reply.json()


@pytest.mark.parametrize(
    ("answer", "approved", "note"),
    [
        (True, True, None),
        (False, False, None),
        ({"approved": True, "note": "once"}, True, "once"),
        ({"approved": False}, False, None),
    ],
)
def test_an_approval_takes_true_false_or_both_with_a_note(
    client: httpx.Client, answer: Any, approved: bool, note: str | None
) -> None:
    run_id, interrupt, path = asking(client, "approve")

    reply = client.post(path, json={"answer": answer})

    assert interrupt["kind"] == "approval"
    assert (reply.status_code, reply.json()["answer"]) == (200, approved)
    assert output(client, run_id) == {"approved": approved, "note": note, "by": "caller"}
    assert client.post(path, json={"answer": {"approved": approved, "note": note}}).json() == reply.json()
    other = client.post(path, json={"answer": not approved}).json()
    assert (other["code"], other["answer"], other["interrupt_status"]) == ("INTERRUPT_RESOLVED", approved, "resolved")
    assert "run_status" not in other


@pytest.mark.parametrize(
    "answer", ["yes", 1, None, [], {}, {"approved": "yes"}, {"approved": True, "x": 1}, {"approved": True, "note": 1}]
)
def test_an_approval_takes_nothing_else(client: httpx.Client, answer: Any) -> None:
    run_id, _, path = asking(client, "approve")

    assert client.post(path, json={"answer": answer}).status_code == 422

    assert client.get(f"/runs/{run_id}").json()["status"] == "waiting"


def test_tool_calls_are_answered_with_outputs_and_errors(client: httpx.Client) -> None:
    run_id, interrupt, path = asking(client, "tools")
    first, second = interrupt["tool_calls"]
    assert (first["tool"], first["input"]) == ("files.read", {"path": "a"})
    answer = [
        {"tool_call_id": second["tool_call_id"], "error": "no such file"},
        {"tool_call_id": first["tool_call_id"], "output": {"lines": 3}},
    ]

    reply = client.post(path, json={"answer": answer})

    assert reply.json()["status"] == "resolved"
    assert [item["tool_call_id"] for item in reply.json()["answer"]] == [
        first["tool_call_id"],
        second["tool_call_id"],
    ]
    assert output(client, run_id) == {"results": ['{"lines":3}', "no such file"]}
    assert client.post(path, json={"answer": answer[::-1]}).json() == reply.json()
    other = [answer[0], {**answer[1], "output": "else"}]
    assert client.post(path, json={"answer": other}).json()["code"] == "INTERRUPT_RESOLVED"
    steps = client.get(f"/runs/{run_id}/steps").json()["steps"]
    assert [(step["status"], step["output"]) for step in steps] == [("completed", '{"lines":3}'), ("failed", None)]


def test_tool_calls_take_nothing_else(client: httpx.Client) -> None:
    run_id, interrupt, path = asking(client, "tools")
    first, second = (call["tool_call_id"] for call in interrupt["tool_calls"])
    whole = {"tool_call_id": second, "output": 1}
    wrong: list[Any] = [
        "x",
        {"tool_call_id": first, "output": 1},
        [],
        [whole],
        [whole, {"tool_call_id": first}],
        [whole, {"tool_call_id": first, "output": 1, "error": "x"}],
        [whole, {"tool_call_id": first, "error": 5}],
        [whole, {"tool_call_id": 5, "output": 1}],
        [whole, whole, {"tool_call_id": first, "output": 1}],
        [whole, {"tool_call_id": first, "output": 1}, {"tool_call_id": "other", "output": 1}],
    ]

    replies = [client.post(path, json={"answer": answer}) for answer in wrong]

    assert [reply.status_code for reply in replies] == [422] * len(wrong)
    (still,) = client.get(f"/runs/{run_id}/interrupts").json()["interrupts"]
    assert (still["status"], still["answer"]) == ("pending", None)


def test_a_timer_takes_no_answer(client: httpx.Client) -> None:
    run_id, interrupt, path = asking(client, "sleeper")

    assert interrupt["kind"] == "timer"
    assert interrupt["expires_at"] == "2100-01-01T00:00:00.000000Z"
    assert client.post(path, json={"answer": None}).status_code == 422
    client.delete(f"/runs/{run_id}")


def test_an_expired_interrupt_is_resolved_by_expiry_whatever_the_answer(client: httpx.Client) -> None:
    """The same answer that its default gave is refused as well: nobody gave it."""
    run_id = f"t-{uuid.uuid4().hex}"
    client.post(f"/agents/approve/runs?run_id={run_id}", json={"expires_in": 0.05, "default": False})
    client.get(f"/runs/{run_id}/events")  # to the end
    assert output(client, run_id) == {"approved": False, "note": None, "by": "expiry"}
    (interrupt,) = client.get(f"/runs/{run_id}/interrupts?status=all").json()["interrupts"]
    assert (interrupt["status"], interrupt["answer"], interrupt["by"]) == ("expired", False, "expiry")

    for answer in (True, False):
        reply = client.post(f"/runs/{run_id}/interrupts/{interrupt['interrupt_id']}", json={"answer": answer})
        assert (reply.status_code, reply.json()["code"]) == (409, "INTERRUPT_RESOLVED")
        assert (reply.json()["answer"], reply.json()["by"]) == (False, "expiry")


def test_an_open_interrupt_of_a_finished_run_takes_no_answer(client: httpx.Client) -> None:
    run_id, _, path = asking(client, "ask")
    client.delete(f"/runs/{run_id}")

    reply = client.post(path, json={"answer": "yes"})

    assert (reply.status_code, reply.json()["code"], reply.json()["run_status"]) == (409, "RUN_FINISHED", "cancelled")


def test_of_20_rival_answers_one_wins_and_only_its_repeat_is_a_success(
    server: ServerProcess, client: httpx.Client
) -> None:
    run_id, _, path = asking(client, "ask")

    def answer(number: int) -> tuple[int, Any]:
        with server.client() as rival:
            reply = rival.post(path, json={"answer": number})
            return reply.status_code, reply.json()["answer"]

    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(answer, range(20)))

    assert sorted(status for status, _ in replies) == [200, *[409] * 19]
    (winner,) = {told for _, told in replies}
    assert client.post(path, json={"answer": winner}).status_code == 200
    assert client.post(path, json={"answer": (winner + 1) % 20}).status_code == 409
    assert output(client, run_id) == {"answer": winner}
    types = [line for line in client.get(f"/runs/{run_id}/events").text.splitlines() if line.startswith("event: ")]
    assert types.count("event: interrupt_resolved") == 1


def test_of_rival_answers_to_tool_calls_one_wins_all_of_them(server: ServerProcess, client: httpx.Client) -> None:
    run_id, interrupt, path = asking(client, "tools")
    calls = [call["tool_call_id"] for call in interrupt["tool_calls"]]

    def answer(number: int) -> int:
        order = calls if number % 2 else calls[::-1]
        with server.client() as rival:
            outputs = [{"tool_call_id": call, "output": f"by {number}"} for call in order]
            return rival.post(path, json={"answer": outputs}).status_code

    with ThreadPoolExecutor(10) as pool:
        statuses = sorted(pool.map(answer, range(10)))

    assert statuses == [200, *[409] * 9]
    results = output(client, run_id)["results"]
    assert results[0] == results[1]
