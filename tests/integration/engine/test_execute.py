"""`POST /execute` against a real server: the stream, what starts a turn and what does not."""

from __future__ import annotations

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.engine.support import AGENTS, Engine, datas, text_of
from tests.support.server import ServerProcess, running_server
from tests.support.sse import events

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(16)).decode()


def test_a_turn_is_streamed_from_its_start_to_its_end(engine: Engine, task_id: str) -> None:
    found = engine.execute("Hello!", task_id)

    assert [frame.event for frame in found] == ["thread_lifecycle", "text_delta", "thread_lifecycle"]
    assert {frame.data["task_id"] for frame in found} == {task_id}
    started, text, completed = datas(found)
    assert (started["phase"], started["agent"], started["attempt"]) == ("started", "say", 1)
    assert text["text"] == "Hello!"
    assert (completed["phase"], completed["output"], completed["stop_reason"]) == ("completed", "Hello!", "end_turn")
    assert completed["usage"] == {"input_tokens": 0, "output_tokens": 0, "cache_hit_tokens": 0}


def test_the_body_begins_with_retry_and_the_headers_keep_proxies_away(engine: Engine, task_id: str) -> None:
    response = engine.post("/execute", {"message": "Hi", "task_id": task_id})

    first, second = response.text.split("\n", 2)[:2]
    assert 1000 <= int(first.removeprefix("retry: ")) <= 3000
    assert second == ""
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache, no-transform"
    assert response.headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in response.headers
    assert "\r" not in response.text


def test_text_of_every_kind_arrives_as_it_was_said(engine: Engine, task_id: str) -> None:
    texts = ["\x85", "\u2028\u2029", "\r\n\r\n", "\0", "🎣", '"\\', "a" * 70_000, ""]

    found = engine.execute(json.dumps(texts), task_id)

    assert [frame.data["text"] for frame in found if frame.event == "text_delta"] == texts
    assert found[-1].data["output"] == "".join(texts)


def test_every_kind_of_event_keeps_the_invariants(engine: Engine, task_id: str) -> None:
    found = engine.execute("go", task_id, agent="all_kinds")

    for frame in found:
        if frame.event == "tool_result":
            assert isinstance(frame.data["output"], str)
        if frame.event == "tool_call":
            assert isinstance(frame.data["input"], dict)
    assert found[-2].event == "custom.heartbeat"


def test_a_failed_turn_ends_with_an_error_and_its_lifecycle(engine: Engine, task_id: str) -> None:
    found = engine.execute("go", task_id, agent="fail")

    assert [frame.event for frame in found] == ["thread_lifecycle", "text_delta", "error", "thread_lifecycle"]
    error, lifecycle = found[2].data, found[3].data
    assert error["error"] == lifecycle["error"] == "AGENT_EXECUTION_ERROR"
    assert error["message"] == "ValueError: no such topic"
    assert lifecycle["reason"] == "failed"


def test_an_agent_gets_message_and_media_and_its_metadata(engine: Engine, task_id: str) -> None:
    media = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
    ]

    found = engine.execute("look", task_id, agent="echo", media=media, metadata={"ticket": 7})

    output = found[-1].data["output"]
    assert output["input"] == {"message": "look", "media": media}
    assert output["metadata"] == {"ticket": 7}


def test_what_an_agent_returns_is_held_to_the_schema_of_its_caller(engine: Engine, task_id: str) -> None:
    fits = engine.execute("x", task_id, agent="echo", response_schema={"type": "object", "required": ["history"]})
    misses = engine.execute("x", task_id, agent="echo", response_schema={"type": "object", "required": ["sum"]})
    without = engine.execute("x", task_id, agent="echo")

    assert (fits[-1].data["phase"], without[-1].data["phase"]) == ("completed", "completed")
    assert (misses[-1].data["phase"], misses[-1].data["error"]) == ("errored", "OUTPUT_INVALID")
    assert "'sum' is a required property" in misses[-2].data["message"]


def test_media_alone_is_a_message(engine: Engine, task_id: str) -> None:
    media = [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}]

    found = engine.execute(None, task_id, agent="echo", media=media)

    assert found[-1].data["output"]["input"] == {"message": "", "media": media}


def test_null_fields_count_as_left_out(engine: Engine, task_id: str) -> None:
    names = ["media", "edit_message_id", "retry_message_id", "direct", "super_thinking", "effort", "agent", "metadata"]

    found = engine.execute("Hi", task_id, **dict.fromkeys([*names, "response_schema"]))

    assert found[-1].data["phase"] == "completed"


@pytest.mark.parametrize("hint", [{"direct": True}, {"super_thinking": True}, {"effort": "high"}, {"effort": "none"}])
def test_hints_are_taken(engine: Engine, task_id: str, hint: dict[str, Any]) -> None:
    assert engine.execute("Hi", task_id, **hint)[-1].data["phase"] == "completed"


def test_the_agent_is_the_named_one_then_that_of_the_last_turn_then_the_default(engine: Engine, task_id: str) -> None:
    agents = [
        engine.execute("Hi", task_id)[0].data["agent"],
        engine.execute("Hi", task_id, agent="echo")[0].data["agent"],
        engine.execute("Hi", task_id)[0].data["agent"],
    ]

    assert agents == ["say", "echo", "echo"]


def test_the_next_turn_of_a_task_knows_the_one_before(engine: Engine, task_id: str) -> None:
    engine.execute("first", task_id)

    found = engine.execute("second", task_id, agent="echo")

    assert found[-1].data["output"]["history"] == [["user", "first"], ["assistant", "first"]]


def test_tasks_of_one_name_up_to_normalisation_are_different(engine: Engine, task_id: str) -> None:
    composed, decomposed = f"{task_id}\u00e9", f"{task_id}e\u0301"
    engine.execute("one", composed)

    found = engine.execute("two", decomposed, agent="echo")

    assert found[-1].data["output"]["history"] == []


def test_free_text_loses_nul_and_half_surrogate_pairs(engine: Engine, task_id: str) -> None:
    body = f'{{"message":"a\\u0000b\\ud83c","task_id":{json.dumps(task_id)}}}'

    response = engine.client.post("/execute", content=body, headers={"Content-Type": "application/json"})

    assert text_of(events(response)) == "ab\ufffd"


# Busy


def test_a_task_runs_one_turn_at_a_time(engine: Engine, task_id: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    turn_id = engine.begin(str(gate), task_id, agent="gated")

    refused = engine.post("/execute", {"message": "more", "task_id": task_id})
    other = engine.execute("Hi", f"{task_id} other")

    assert refused.status_code == 409
    assert refused.json()["error"] == "TASK_BUSY"
    assert refused.json()["details"] == {"turn_id": turn_id}
    assert other[-1].data["phase"] == "completed"
    gate.touch()
    assert engine.replay(task_id=task_id)[-1].data["output"] == "beforeafter"
    assert engine.execute("again", task_id, agent="say")[-1].data["phase"] == "completed"


def test_a_task_that_waits_for_a_person_says_so(engine: Engine, task_id: str) -> None:
    turn_id = engine.begin("{}", task_id, agent="ask")
    request_id = engine.client.get("/hitl/pending", params={"task_id": task_id}).json()["pending"][0]["request_id"]

    refused = engine.post("/execute", {"message": "more", "task_id": task_id})

    assert refused.status_code == 409
    assert refused.json()["error"] == "HITL_REQUIRED"
    assert refused.json()["details"] == {"turn_id": turn_id, "request_ids": [request_id]}
    engine.cancel(task_id)


def test_leaving_the_stream_does_not_stop_the_turn(engine: Engine, task_id: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    engine.begin(str(gate), task_id, agent="gated")

    gate.touch()

    assert engine.replay(task_id=task_id)[-1].data["phase"] == "completed"


# Idempotency


def test_a_known_key_gives_the_stream_of_the_same_turn(engine: Engine, task_id: str) -> None:
    headers = {"Idempotency-Key": f"key-{task_id.encode().hex()}"}
    first = engine.execute("Hi", task_id, headers=headers)

    again = engine.execute("Hi", task_id, headers=headers)
    behind = engine.client.post(
        "/execute", json={"task_id": task_id, "message": "Hi"}, headers={**headers, "Last-Event-ID": "1"}
    )

    assert again == first
    assert list(events(behind)) == first[2:]
    assert behind.headers["Idempotency-Replayed"] == "true"


def test_a_known_key_comes_before_the_busy_check_and_is_followed_live(
    engine: Engine, server: ServerProcess, task_id: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    headers = {"Idempotency-Key": f"key-{task_id.encode().hex()}"}
    body = {"message": str(gate), "task_id": task_id, "agent": "gated"}
    with engine.client.stream("POST", "/execute", json=body, headers=headers) as first:
        next(events(first))
        with server.client() as other, other.stream("POST", "/execute", json=body, headers=headers) as second:
            assert second.status_code == 200
            frames = events(second)
            begin = [next(frames), next(frames)]
            gate.touch()
            found = [*begin, *frames]

    assert [frame.event for frame in found] == ["thread_lifecycle", "text_delta", "text_delta", "thread_lifecycle"]


def test_a_key_of_another_body_is_refused(engine: Engine, task_id: str) -> None:
    headers = {"Idempotency-Key": f"key-{task_id.encode().hex()}"}
    engine.execute("Hi", task_id, headers=headers)

    refused = engine.post("/execute", {"message": "Ho", "task_id": task_id}, **headers)

    assert (refused.status_code, refused.json()["error"]) == (422, "IDEMPOTENCY_KEY_REUSED")


@pytest.mark.slow
def test_many_equal_calls_at_once_are_one_turn(server: ServerProcess, task_id: str) -> None:
    barrier = threading.Barrier(100)

    def call(_: int) -> str:
        barrier.wait()
        response = client.post(
            "/execute", json={"message": "Hi", "task_id": task_id}, headers={"Idempotency-Key": "many"}
        )
        assert response.status_code == 200
        return response.text.split("\n", 1)[1]  # behind the random retry line

    with ThreadPoolExecutor(100) as pool, server.client() as client:  # a connection for each of them
        texts = set(pool.map(call, range(100)))

    assert len(texts) == 1


# Editing and retrying


def message_ids(engine: Engine, task_id: str, **query: Any) -> list[tuple[str, str]]:
    response = engine.client.get("/tasks/" + quoted(task_id) + "/messages", params=query)
    return [(item["message_id"], item["content"]) for item in response.json()["messages"]]


def quoted(task_id: str) -> str:
    return str(httpx.URL("http://x/").copy_with(params={"t": task_id})).partition("t=")[2].replace("+", "%20")


def test_an_edited_message_takes_the_place_of_all_that_followed(engine: Engine, task_id: str) -> None:
    first = engine.execute("one", task_id)
    second = engine.execute("two", task_id)
    third = engine.execute("three", task_id)
    message_id = message_ids(engine, task_id)[2][0]

    found = engine.execute("TWO", task_id, agent="echo", edit_message_id=message_id)

    assert found[0].data["supersedes"] == [second[0].data["turn_id"], third[0].data["turn_id"]]
    assert found[-1].data["output"]["history"] == [["user", "one"], ["assistant", "one"]]
    assert [content for _, content in message_ids(engine, task_id)][:3] == ["one", "one", "TWO"]
    assert len(message_ids(engine, task_id, superseded=1)) == 8
    assert {frame.data["turn_id"] for frame in engine.replay(task_id=task_id)} >= {
        first[0].data["turn_id"],
        third[0].data["turn_id"],
    }
    again = engine.post("/execute", {"message": "x", "task_id": task_id, "edit_message_id": message_id})
    assert (again.status_code, again.json()["error"]) == (404, "MESSAGE_NOT_FOUND")


@pytest.mark.parametrize("which", [2, 3])
def test_a_retried_message_is_run_again_as_it_was(engine: Engine, task_id: str, which: int) -> None:
    """The assistant's message (3) stands for the user's before it (2)."""
    engine.execute("one", task_id)
    second = engine.execute("two", task_id)
    message_id = message_ids(engine, task_id)[which][0]

    found = engine.execute(None, task_id, agent="echo", retry_message_id=message_id)

    assert found[0].data["supersedes"] == [second[0].data["turn_id"]]
    assert found[-1].data["output"]["input"]["message"] == "two"
    assert found[-1].data["output"]["history"] == [["user", "one"], ["assistant", "one"]]


def test_a_repeated_edit_with_a_key_is_the_same_turn(engine: Engine, task_id: str) -> None:
    engine.execute("one", task_id)
    message_id = message_ids(engine, task_id)[0][0]
    headers = {"Idempotency-Key": f"edit-{task_id.encode().hex()}"}

    first = engine.execute("ONE", task_id, edit_message_id=message_id, headers=headers)
    again = engine.execute("ONE", task_id, edit_message_id=message_id, headers=headers)

    assert again == first


@pytest.mark.parametrize("name", ["edit_message_id", "retry_message_id"])
def test_messages_of_other_tasks_are_unknown(engine: Engine, task_id: str, name: str) -> None:
    engine.execute("one", f"{task_id} other")
    foreign = message_ids(engine, f"{task_id} other")[0][0]
    engine.execute("one", task_id)

    for message_id in (foreign, "msg_unknown"):
        response = engine.post("/execute", {"message": "one", "task_id": task_id, name: message_id})
        assert (response.status_code, response.json()["error"]) == (404, "MESSAGE_NOT_FOUND")
    assert len(message_ids(engine, task_id)) == 2


# Stopping


@pytest.mark.slow
def test_at_a_stop_a_post_stream_breaks_and_a_get_stream_ends(own_store: dict[str, str], tmp_path: Path) -> None:
    """A client that only looks for the end of the body must not take half an answer for a whole one."""
    environment = {**own_store, "HOLDFAST_DRAIN_SECONDS": "0.2"}
    body = {"message": "x", "task_id": "t", "agent": "stuck"}
    with (
        running_server(tmp_path, agents=AGENTS, environment=environment) as server,
        server.client() as client,
        server.client() as other,
    ):
        with client.stream("POST", "/execute", json=body) as post:
            frames = events(post)
            assert [next(frames).event, next(frames).event] == ["thread_lifecycle", "text_delta"]
            with other.stream("GET", "/execute/replay", params={"task_id": "t"}) as get:
                replayed = events(get)
                assert [next(replayed).event, next(replayed).event] == ["thread_lifecycle", "text_delta"]
                server.terminate()
                with pytest.raises(httpx.RemoteProtocolError):
                    list(frames)
                assert list(replayed) == []
        assert server.wait() == 0
    with running_server(tmp_path, agents=AGENTS, environment=own_store) as server, server.client() as client:
        engine = Engine(client)
        assert engine.cancel("t").status_code == 202
        found = engine.replay(task_id="t")
        # On Postgres the cancel may come before the run is taken up.
        told = [frame.event for frame in found if frame.event not in ("text_delta", "restarted")]
        assert told == ["thread_lifecycle", "thread_lifecycle"]
        assert found[-1].data["reason"] == "cancelled"


@pytest.mark.slow
def test_a_silent_stream_has_heartbeats_that_repeat_the_cursor(tmp_path: Path) -> None:
    environment = {"HOLDFAST_HEARTBEAT_SECONDS": "0.1"}
    with running_server(tmp_path, agents=AGENTS, environment=environment) as server, server.client() as client:
        with client.stream("POST", "/execute", json={"message": "x", "task_id": "t", "agent": "stuck"}) as response:
            frames = events(response)
            _, text, beat = next(frames), next(frames), next(frames)
        after = str(text.data["timestamp"] + 1)
        with client.stream("GET", "/execute/replay", params={"task_id": "t", "after": after}) as response:
            early = next(events(response))

    assert beat.event == "heartbeat"
    assert beat.id is None
    assert beat.comments == []
    common = ("task_id", "turn_id", "sequence", "timestamp")
    assert beat.data == {"type": "heartbeat", **{name: text.data[name] for name in common}}
    assert early.data == {
        "type": "heartbeat",
        "task_id": "t",
        "turn_id": None,
        "sequence": None,
        "timestamp": float(after),
    }
