"""Cancelling runs and answering what they ask."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.server import ServerProcess


def start(client: httpx.Client, agent: str, **input: Any) -> str:
    run_id = f"t-{uuid.uuid4().hex}"
    client.post(f"/agents/{agent}/runs?run_id={run_id}", json=input)
    return run_id


def asking(client: httpx.Client, **input: Any) -> tuple[str, str]:
    """A run that waits for an answer, and the path to answer at."""
    run_id = start(client, "ask", **input)
    client.get(f"/runs/{run_id}?wait=20")
    pending = client.get(f"/runs/{run_id}/interrupts").json()["interrupts"]
    return run_id, f"/runs/{run_id}/interrupts/{pending[0]['interrupt_id']}"


def test_a_cancel_is_final_and_its_receipt_stays(client: httpx.Client) -> None:
    run_id = start(client, "stuck")

    first = client.delete(f"/runs/{run_id}?reason=left")
    again = client.post(f"/runs/{run_id}/cancel")

    assert first.status_code == 200
    assert first.json().keys() == {"run_id", "status", "reason", "requested", "stopped"}
    assert (first.json()["status"], first.json()["reason"]) == ("cancelled", "left")
    assert again.json() == first.json()
    assert client.get(f"/runs/{run_id}").json()["cancel"]["reason"] == "left"


def test_a_finished_run_cannot_be_cancelled(client: httpx.Client) -> None:
    run_id = start(client, "tutor")
    client.get(f"/runs/{run_id}?wait=20")

    reply = client.delete(f"/runs/{run_id}")

    assert (reply.status_code, reply.json()["code"]) == (409, "RUN_FINISHED")


def test_an_invoke_of_a_run_that_is_cancelled_answers_409(server: ServerProcess, client: httpx.Client) -> None:
    run_id = f"t-{uuid.uuid4().hex}"
    with ThreadPoolExecutor(1) as pool, server.client() as other:
        waiting = pool.submit(other.post, f"/agents/stuck/invoke?run_id={run_id}", json={})
        while client.delete(f"/runs/{run_id}").status_code == 404:
            pass
        reply = waiting.result()

    assert (reply.status_code, reply.json()["code"]) == (409, "CANCELLED")


@pytest.mark.parametrize("body", [b"[]", b'{"reason":5}', b'{"other":1}', b"{", b'{"reason":"' + b"x" * 1001 + b'"}'])
def test_a_wrong_cancel_is_refused_and_changes_nothing(client: httpx.Client, body: bytes) -> None:
    run_id = start(client, "stuck")

    reply = client.post(f"/runs/{run_id}/cancel", content=body, headers={"Content-Type": "application/json"})

    assert reply.status_code == 422
    assert client.get(f"/runs/{run_id}").json()["cancel"] is None
    client.delete(f"/runs/{run_id}")


def test_an_answer_continues_the_run(client: httpx.Client) -> None:
    run_id, path = asking(client, choices=["yes", "no"])

    reply = client.post(path, json={"answer": "yes"})

    assert reply.status_code == 200
    body = reply.json()
    assert (body["status"], body["answer"], body["by"]) == ("resolved", "yes", "caller")
    assert client.get(f"/runs/{run_id}?wait=20").json()["output"] == {"answer": "yes"}
    assert client.get(f"/runs/{run_id}/interrupts").json() == {"interrupts": []}
    shown = client.get(f"/runs/{run_id}/interrupts?status=all").json()["interrupts"]
    assert shown[0]["answer"] == "yes"


def test_the_same_answer_again_is_a_success_and_another_is_told_the_winner(client: httpx.Client) -> None:
    _, path = asking(client)
    client.post(path, json={"answer": {"a": 1}})

    same = client.post(path, json={"answer": {"a": 1}})
    other = client.post(path, json={"answer": "no"})

    assert same.status_code == 200
    assert (other.status_code, other.json()["code"]) == (409, "INTERRUPT_RESOLVED")
    assert other.json()["answer"] == {"a": 1}
    assert other.json()["by"] == "caller"


def test_of_rival_answers_one_wins(server: ServerProcess, client: httpx.Client) -> None:
    _, path = asking(client)

    def answer(number: int) -> int:
        with server.client() as rival:
            return rival.post(path, json={"answer": number}).status_code

    with ThreadPoolExecutor(10) as pool:
        statuses = sorted(pool.map(answer, range(10)))

    assert statuses == [200, *[409] * 9]


@pytest.mark.parametrize("body", [{}, {"answer": "maybe"}, {"answer": "yes", "x": 1}, [], "yes"])
def test_a_wrong_answer_is_refused_and_the_interrupt_stays(client: httpx.Client, body: Any) -> None:
    run_id, path = asking(client, choices=["yes", "no"])

    reply = client.post(path, json=body)

    assert (reply.status_code, reply.json()["code"]) == (422, "VALIDATION_ERROR")
    assert len(client.get(f"/runs/{run_id}/interrupts").json()["interrupts"]) == 1


def test_an_unknown_interrupt_is_not_found(client: httpx.Client) -> None:
    run_id, _ = asking(client)

    assert client.post(f"/runs/{run_id}/interrupts/none", json={"answer": 1}).status_code == 404


def test_the_same_idempotency_key_gives_the_same_bytes(client: httpx.Client) -> None:
    _, path = asking(client)
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    first = client.post(path, json={"answer": "yes"}, headers=headers)

    again = client.post(path, json={"answer": "yes"}, headers=headers)
    other = client.post(path, json={"answer": "no"}, headers=headers)

    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["x-run-id"] == first.headers["x-run-id"]
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")


def test_a_refused_call_gives_its_idempotency_key_back(client: httpx.Client) -> None:
    _, path = asking(client, choices=["yes"])
    headers = {"Idempotency-Key": uuid.uuid4().hex}

    assert client.post(path, json={"answer": "maybe"}, headers=headers).status_code == 422
    assert client.post(path, json={"answer": "yes"}, headers=headers).status_code == 200


def test_every_answer_about_a_run_names_it(client: httpx.Client) -> None:
    """Refusals too: a proxy's log finds them by the header."""
    run_id, path = asking(client, choices=["yes"])
    replies = [
        client.post(path, json={"answer": "maybe"}),
        client.post(f"/runs/{run_id}/interrupts/none", json={"answer": 1}),
        client.post(f"/runs/{run_id}/fork", json={"step": "none"}),
        client.get(f"/runs/{run_id}/events?from_sequence=x"),
        client.get(f"/runs/{run_id}/steps"),
        client.delete(f"/runs/{run_id}"),
        client.post(path, json={"answer": "yes"}),
    ]

    assert [reply.status_code for reply in replies] == [422, 404, 422, 422, 200, 200, 409]
    assert {reply.headers["x-run-id"] for reply in replies} == {run_id}
