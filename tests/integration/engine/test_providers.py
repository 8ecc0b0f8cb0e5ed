"""
The assistant on real provider protocols: the SDKs of pydantic-ai talk to providers on this machine, which count what
they are asked.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.engine.support import Engine, text_of
from tests.support.providers import PROTOCOLS, Fault, Provider, Reply, overflow, provider
from tests.support.server import ServerProcess, running_server, start_server
from tests.support.sse import Frame

pytestmark = pytest.mark.one_store("what a provider says does not depend on the store")


@pytest.fixture(scope="module", params=PROTOCOLS)
def model(request: pytest.FixtureRequest) -> Iterator[Provider]:
    with provider(request.param) as made:
        yield made


@pytest.fixture(scope="module")
def assistant(model: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    data = tmp_path_factory.mktemp("provider") / "data"
    with running_server(data, agents=None, environment={**model.settings, "HOLDFAST_LEARNING": "false"}) as process:
        yield process


@pytest.fixture
def talk(assistant: ServerProcess) -> Iterator[Engine]:
    with assistant.client(timeout=60) as client:
        yield Engine(client)


def last(found: list[Frame]) -> dict[str, Any]:
    data: dict[str, Any] = found[-1].data
    return data


def named(found: list[Frame], name: str) -> list[dict[str, Any]]:
    return [frame.data for frame in found if frame.event == name]


def test_text_arrives_in_pieces_and_usage_is_told(model: Provider, talk: Engine, task_id: str) -> None:
    model.reset(Reply("Hello there, you."))

    found = talk.execute("Say hello.", task_id)

    assert len(named(found, "text_delta")) > 1
    assert text_of(found) == last(found)["output"] == "Hello there, you."
    assert last(found)["stop_reason"] == "end_turn"
    assert 4096 in [
        model.requests[0].get(name) for name in ("max_tokens", "max_completion_tokens", "max_output_tokens")
    ]
    assert last(found)["usage"] == {"input_tokens": 812, "output_tokens": 3, "cache_hit_tokens": 640}
    assert len(model.requests) == 1


def test_thinking_is_told_apart_from_the_answer(model: Provider, talk: Engine, task_id: str) -> None:
    model.reset(Reply("Four.", thinking="Two and two make four."))

    found = talk.execute("What is two and two?", task_id)

    thought = "".join(item["text"] for item in named(found, "thinking_delta"))
    assert thought == "Two and two make four."
    assert last(found)["output"] == "Four."


def test_calls_of_one_response_run_together_and_go_back(model: Provider, talk: Engine, task_id: str) -> None:
    calls = [("call_a", "sum", {"numbers": [1, 2]}), ("call_b", "sum", {"numbers": [3, 4]})]
    model.reset(Reply("I add.", calls=calls), Reply("Three and seven."))

    found = talk.execute("Add these.", task_id)

    assert [(item["tool"], item["tool_call_id"], item["input"]) for item in named(found, "tool_call")] == [
        ("sum", call_id, arguments) for call_id, _, arguments in calls
    ]
    assert {item["tool_call_id"]: item["output"] for item in named(found, "tool_result")} == {
        "call_a": "3",
        "call_b": "7",
    }
    assert len(model.requests) == 2
    assert last(found)["output"] == "I add.\n\nThree and seven."
    assert "call_a" in str(model.requests[1])


def test_the_next_turn_holds_what_was_said(model: Provider, talk: Engine, task_id: str) -> None:
    model.reset(Reply("Noted: blue."), Reply("Blue."))
    talk.execute("My colour is blue.", task_id)
    talk.execute("Which colour?", task_id)

    second = str(model.requests[1])
    assert all(text in second for text in ("My colour is blue.", "Noted: blue.", "Which colour?"))


def test_a_rate_limit_is_waited_for(model: Provider, talk: Engine, task_id: str) -> None:
    model.reset(Fault(429, "rate_limit_error", "slow down", retry_after="1"), Reply("Here."))

    found = talk.execute("Hello.", task_id)

    (waited,) = named(found, "provider_retry")
    assert waited["data"]["code"] == "llm_rate_limited"
    assert waited["data"]["wait_seconds"] == 1
    assert last(found)["output"] == "Here."
    assert len(model.requests) == 2


def test_an_overloaded_provider_is_tried_again(model: Provider, talk: Engine, task_id: str) -> None:
    model.reset(Fault(529 if model.protocol == "anthropic" else 503, "overloaded_error", "Overloaded"), Reply("Here."))

    found = talk.execute("Hello.", task_id)

    assert len(named(found, "provider_retry")) == 1
    assert last(found)["output"] == "Here."


def test_a_stream_that_breaks_off_is_asked_for_again_and_what_was_said_is_void(
    model: Provider, talk: Engine, task_id: str
) -> None:
    model.reset(Reply("Half of an answer", cut=True), Reply("The whole answer."))

    found = talk.execute("Hello.", task_id)

    (restarted,) = named(found, "restarted")
    void = range(restarted["discard_from"], restarted["sequence"])
    kept = "".join(frame.data["text"] for frame in found if "text" in frame.data and frame.data["sequence"] not in void)
    assert restarted["reason"] == "provider"
    assert kept == last(found)["output"] == "The whole answer."
    assert len(model.requests) == 2


def test_a_refused_request_is_not_tried_again(model: Provider, talk: Engine, task_id: str) -> None:
    model.reset(Fault(400, "invalid_request_error", "there is no such model"))

    found = talk.execute("Hello.", task_id)

    assert (last(found)["phase"], last(found)["error"]) == ("errored", "LLM_PROVIDER_ERROR")
    assert len(model.requests) == 1


def test_health_tells_of_the_last_call_and_stays_ok(model: Provider, talk: Engine, task_id: str) -> None:
    """Check 31: a provider that is down."""
    model.reset(Fault(401, "authentication_error", "no such key"), Reply("Here again."))

    talk.execute("Hello.", task_id)
    down, ready = talk.client.get("/health").json(), talk.client.get("/ready")
    talk.execute("Hello.", task_id)
    up = talk.client.get("/health").json()

    assert (down["status"], down["subsystems"]["llm_provider"], ready.status_code) == ("ok", "error", 200)
    assert up["subsystems"] | {"llm_provider": "ok", "asset_directory": "not_configured"} == up["subsystems"]


CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


def test_an_answer_is_held_to_a_schema(model: Provider, talk: Engine, task_id: str) -> None:
    """Check 22, `response_schema`: what does not fit goes back to the model, and the object is the output."""
    model.reset(Reply("It is Ulm."), Reply('{"city": "Ulm"}'))

    found = talk.execute("Which city?", task_id, response_schema=CITY)

    first, second = map(str, model.requests)
    assert last(found)["output"] == {"city": "Ulm"}
    assert "JSON Schema" in first
    assert "It is Ulm." in second
    assert "it is no JSON" in second
    if model.protocol != "anthropic":  # the name of the model there is none that can be held to one
        assert "json_schema" in first
    said = talk.client.get(f"/tasks/{quote(task_id, safe='')}/messages").json()["messages"]
    assert said[-1]["content"] == '{"city": "Ulm"}'


def test_a_schema_that_the_provider_refuses_is_left_to_us(model: Provider, talk: Engine, task_id: str) -> None:
    if model.protocol == "anthropic":
        pytest.skip("this model is not asked with a schema")
    model.reset(Fault(400, "invalid_request_error", "this schema is not supported"), Reply('{"city": "Ulm"}'))

    found = talk.execute("Which city?", task_id, response_schema=CITY)

    assert last(found)["output"] == {"city": "Ulm"}
    assert ["'json_schema'" in str(request) for request in model.requests] == [True, False]


def test_a_conversation_that_is_too_long_is_shortened(model: Provider, talk: Engine, task_id: str) -> None:
    turns = [Reply(f"answer {number}") for number in range(3)]
    model.reset(*turns, overflow(model.protocol), Reply("They counted."), Reply("Four."), Reply("Five."))
    for number in range(3):
        talk.execute(f"question {number}", task_id)

    found = talk.execute("And now?", task_id)
    talk.execute("And then?", task_id)

    (told,) = named(found, "compaction_event")
    summary, again, later = map(str, model.requests[4:])
    assert told["messages_collapsed"] == 2
    assert (text_of(found), last(found)["output"]) == ("Four.", "Four.")
    assert "question 0" in summary
    assert [text in again for text in ("They counted.", "question 0", "question 2")] == [True, False, True]
    assert [text in later for text in ("They counted.", "question 0", "And now?", "And then?")] == [
        True,
        False,
        True,
        True,
    ]
    assert len(model.requests) == 7


def test_a_message_that_is_too_long_in_itself_fails(model: Provider, talk: Engine, task_id: str) -> None:
    model.reset(*[overflow(model.protocol)] * 9)

    found = talk.execute("A very long message.", task_id)

    assert last(found)["error"] == "CONTEXT_OVERFLOW"
    assert len(model.requests) == 1
    assert named(found, "compaction_event") == []


PNG = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()}
CLIP = {"type": "base64", "media_type": "video/webm", "data": base64.b64encode(b"\x1a\x45\xdf\xa3").decode()}
# Nobody answers there. What is fetched from it in this process would fail the turn.
AWAY = {"type": "url", "url": "http://192.0.2.1/picture.png"}


def test_media_that_the_model_cannot_take_start_no_turn(model: Provider, talk: Engine, task_id: str) -> None:
    """Check 22, the last kind: the task is as if nothing had been sent."""
    model.reset(Reply("Hello."), Reply("Hello again."))
    talk.execute("Hello.", task_id)
    media = [{"type": "image", "source": PNG}, {"type": "video", "source": CLIP}]

    refused = talk.post("/execute", {"task_id": task_id, "message": "Look.", "media": media})

    assert refused.status_code == 422
    assert (refused.json()["error"], refused.json()["details"]) == ("MEDIA_UNSUPPORTED", {"field": "media[1].type"})
    assert len(talk.client.get("/tasks/" + quote(task_id, safe="")).json()["turns"]) == 1
    assert last(talk.execute("Again.", task_id))["output"] == "Hello again."


def test_a_url_goes_to_the_provider_as_it_is_or_not_at_all(model: Provider, talk: Engine, task_id: str) -> None:
    model.reset(Reply("A picture."))

    found = talk.execute("Look.", task_id, media=[{"type": "image", "source": AWAY}])
    sound = {"type": "audio", "source": {**AWAY, "url": "http://192.0.2.1/sound.wav"}}
    refused = talk.post("/execute", {"task_id": task_id, "message": "Listen.", "media": [sound]})

    assert last(found)["output"] == "A picture."
    assert AWAY["url"] in str(model.requests)
    assert refused.json()["error"] == "MEDIA_UNSUPPORTED"


def test_media_over_which_a_turn_failed_are_not_sent_again(model: Provider, talk: Engine, task_id: str) -> None:
    model.reset(Fault(400, "invalid_request_error", "this image cannot be read"), Reply("I saw nothing."))

    failed = talk.execute("Look.", task_id, media=[{"type": "image", "source": PNG}])
    found = talk.execute("What was it?", task_id)

    assert last(failed)["error"] == "LLM_PROVIDER_ERROR"
    assert last(found)["output"] == "I saw nothing."
    assert PNG["data"] in str(model.requests[0])
    assert PNG["data"] not in str(model.requests[1])
    assert "Look." in str(model.requests[1])


def test_keys_of_providers_are_in_no_frame_and_no_log(
    model: Provider, assistant: ServerProcess, talk: Engine, task_id: str
) -> None:
    model.reset(Fault(401, "authentication_error", "bad key provider-key"))

    found = talk.execute("Hello.", task_id)

    assert last(found)["phase"] == "errored"
    assert "provider-key" not in assistant.log()


PHASES = ["in the answer", "after a call"]


@pytest.mark.parametrize("phase", PHASES)
def test_after_a_kill_no_finished_request_is_paid_again(tmp_path: Path, phase: str) -> None:
    with provider(PROTOCOLS[0]) as model:
        die_and_go_on(tmp_path, model, phase)


@pytest.mark.faults
@pytest.mark.parametrize("protocol", PROTOCOLS[1:])
@pytest.mark.parametrize("phase", PHASES)
def test_nor_with_another_protocol(tmp_path: Path, protocol: str, phase: str) -> None:
    with provider(protocol) as model:
        die_and_go_on(tmp_path, model, phase)


@pytest.mark.faults
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nor_is_a_summary_that_was_made(tmp_path: Path, protocol: str) -> None:
    """Killed in the summary, and again in the answer behind it: the summary is paid once more, the rest is not."""
    servers: list[ServerProcess] = []

    def die() -> None:
        servers[-1].kill()

    with provider(protocol) as model:
        data, environment = tmp_path / "data", {**model.settings, "HOLDFAST_LEARNING": "false"}
        in_summary = Reply("They gr", before_end=die, cut=True)
        in_answer = Reply("Good", before_end=die, cut=True)
        script: list[Reply | Fault] = [
            overflow(protocol),
            in_summary,
            Reply("They greeted."),
            in_answer,
            Reply("Good bye."),
        ]
        model.reset(Reply("Hello."), *script)
        servers.append(start_server(data, agents=None, environment=environment))
        with servers[0].client() as client:
            Engine(client).execute("Hello there.", "t")
            started = client.post("/agents/assistant/runs", params={"thread_id": "t"}, json={"message": "Bye."}).json()
            servers[0].wait(60)
        servers.append(start_server(data, agents=None, environment=environment))
        servers[1].wait(60)
        with running_server(data, agents=None, environment=environment) as third, third.client(timeout=60) as client:
            run = client.get(f"/runs/{started['run_id']}?wait=30").json()
            found = Engine(client).replay(task_id="t")

    assert (run["status"], run["output"]) == ("completed", "Good bye.")
    assert len(model.requests) == 1 + len(script)
    assert len(named(found, "compaction_event")) == 1


def die_and_go_on(tmp_path: Path, model: Provider, phase: str) -> None:
    """The provider itself tells when: all but the end of the response was sent."""
    servers: list[ServerProcess] = []

    def die() -> None:
        servers[0].kill()

    call = Reply(calls=[("call_a", "sum", {"numbers": [1, 2]})])
    dying = Reply("Three, I", before_end=die, cut=True)
    script = [dying] if phase == "in the answer" else [call, dying]
    model.reset(*script, Reply("Three, I think."))
    data, environment = tmp_path / "data", {**model.settings, "HOLDFAST_LEARNING": "false"}
    servers.append(start_server(data, agents=None, environment=environment))
    with servers[0].client() as client:
        started = client.post("/agents/assistant/runs", params={"thread_id": "t"}, json={"message": "Add."}).json()
        servers[0].wait(60)
    with running_server(data, agents=None, environment=environment) as second, second.client(timeout=60) as client:
        run = client.get(f"/runs/{started['run_id']}?wait=30").json()
        found = Engine(client).replay(task_id="t")

    assert (run["status"], run["output"]) == ("completed", "Three, I think.")
    assert len(model.requests) == len(script) + 1
    results = named(found, "tool_result")
    assert [item["output"] for item in results] == ([] if phase == "in the answer" else ["3"])
