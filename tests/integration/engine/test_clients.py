"""
The clients that users have, against a real server with the offline assistant: ours in examples/engine, and the
documented ones unmodified, where they lie beside the checkout.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import runpy
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from tests.integration.engine.proxy import cutting
from tests.integration.engine.support import Engine, datas, text_of
from tests.support.server import KEY, ServerProcess, running_server, start_server

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples" / "engine"
DOCUMENTED = ROOT.parent / "shared" / "clients"

needs_documented = pytest.mark.skipif(not DOCUMENTED.is_dir(), reason="the documented clients are not here")


@pytest.fixture(scope="module")
def server(module_store: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The assistant with the offline model, a little slower than it has to be."""
    environment = {**module_store, "HOLDFAST_OFFLINE_WORD_DELAY_SECONDS": "0.002"}
    with running_server(tmp_path_factory.mktemp("clients"), agents=None, environment=environment) as process:
        yield process


def run(server: ServerProcess, script: Path, *arguments: str, input: str = "") -> str:
    """What a script prints; it has to end well."""
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        env={**os.environ, "ENGINE_URL": server.url, "ENGINE_KEY": KEY, "NO_PROXY": "*"},
        input=input,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def loaded(path: Path, **names: Any) -> ModuleType:
    """A file as a module, with these names already there."""
    module = ModuleType(path.stem)
    module.__dict__.update(names)
    exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
    return module


def quickstarts() -> list[Any]:
    ours = [EXAMPLES / "quickstart.py", EXAMPLES / "quickstart_async.py"]
    theirs = [DOCUMENTED / "engine_quickstart.py", DOCUMENTED / "engine_quickstart_async.py"]
    marked = [pytest.param(path, marks=needs_documented, id=f"documented {path.stem}") for path in theirs]
    return [*(pytest.param(path, id=path.stem) for path in ours), *marked]


@pytest.mark.slow
@pytest.mark.parametrize("script", quickstarts())
def test_a_quickstart_prints_the_answer_and_a_newline(server: ServerProcess, engine: Engine, script: Path) -> None:
    before = engine.replay()
    last = before[-1].data["timestamp"] if before else 0

    printed = run(server, script)

    answer = text_of(engine.replay(after=str(last)))
    assert printed == answer + "\n"
    assert answer.strip()


@pytest.mark.slow
def test_a_conversation_goes_on_where_it_was(server: ServerProcess) -> None:
    hello, bonjour = run(server, EXAMPLES / "conversation.py").splitlines()

    assert hello != bonjour
    assert "Bonjour" in bonjour


@pytest.mark.slow
def test_the_event_example_shows_tools_and_answers_questions(server: ServerProcess) -> None:
    tools = run(server, EXAMPLES / "events.py", "What is 2 + 3?")
    asked = run(server, EXAMPLES / "events.py", "Ask me which colour I like.", input="green\n")

    assert '[sum {"numbers": [2, 3]}]\n[sum: 5]' in tools
    assert tools.endswith("[completed]\n")
    assert "Which colour do you like?" in asked
    assert "You answered: green." in asked


@needs_documented
@pytest.mark.parametrize("message", ["What is 2 + 3, and what time is it?", "Ask me which colour I like.", "Hello"])
def test_the_documented_event_router_takes_every_frame(server: ServerProcess, engine: Engine, message: str) -> None:
    task_id = uuid.uuid4().hex
    printed = io.StringIO()
    with server.client() as client:
        with contextlib.closing(engine.client) as other:
            body = {"message": message, "task_id": task_id}
            with client.stream("POST", "/execute", json=body) as response:
                lines = _answering(response, Engine(other), task_id)
                shown = type("Shown", (), {"iter_lines": lambda _: lines})()
                with contextlib.redirect_stdout(printed):
                    loaded(DOCUMENTED / "engine_event_router.py", json=json, resp=shown)
        found = Engine(client).replay(task_id=task_id)

    text = printed.getvalue()
    assert text_of(found) in text.replace("\n[completed]\n", "")
    assert text.endswith("\n[completed]\n")
    assert text.count("[tool call: ") == sum(frame.event == "tool_call" for frame in found)


def _answering(response: httpx.Response, engine: Engine, task_id: str) -> Iterator[str]:
    for line in response.iter_lines():
        yield line
        if line == "event: hitl_request":
            assert engine.respond(task_id, "green").status_code == 200


# Resuming


def example(url: str) -> Any:
    """Our ResilientStream and EngineClient."""
    names = runpy.run_path(str(EXAMPLES / "resilient.py"))
    names["EngineClient"].replay.__globals__["RETRY_SECONDS"] = 0.01
    return names["ResilientStream"], names["EngineClient"](url, KEY)


def documented(url: str) -> Any:
    """The documented shape, its bodies filled by the calls of the specification."""
    _, ours = example(url)
    names = {"Iterator": Iterator, "Event": dict[str, Any], "ReadTimeout": httpx.ReadTimeout}
    shape = loaded(DOCUMENTED / "engine_client_shape.py", **names)

    class Filled(shape.EngineClient):  # type: ignore[name-defined, misc]  # it is loaded at run time
        def __init__(self, url: str, key: str) -> None:
            super().__init__(url, key)
            self.close = ours.close

        def execute(self, message: str, task_id: str) -> Iterator[Any]:
            yield from ours.execute(message, task_id)

        def replay(self, task_id: str, after: float = 0) -> Iterator[Any]:
            yield from ours.replay(task_id, after)

        def hitl_respond(self, task_id: str, answer: str) -> dict[str, Any]:
            return dict(ours.hitl_respond(task_id, answer))

        def health(self) -> dict[str, Any]:
            return dict(ours.health())

        def memory_search(self, store: str, query: str, limit: int = 20) -> list[Any]:
            return list(ours.memory_search(store, query, limit))

        def feedback(self, task_id: str, feedback_type: str, **fields: Any) -> dict[str, Any]:
            return dict(ours.feedback(task_id, feedback_type, **fields))

    return shape.ResilientStream, Filled(url, KEY)


CLIENTS = [example, pytest.param(documented, marks=needs_documented)]


@pytest.mark.slow
@pytest.mark.parametrize("client", CLIENTS)
def test_cut_after_any_frame_the_union_is_the_journal(server: ServerProcess, engine: Engine, client: Any) -> None:
    for frames in itertools.count():
        if not cut_after(frames, "Count to 12.", server, engine, client):  # every place had its turn
            break


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("client", CLIENTS)
def test_cut_after_each_of_two_hundred_frames_the_union_is_the_journal(
    server: ServerProcess, engine: Engine, client: Any
) -> None:
    with ThreadPoolExecutor(16) as pool:
        cuts = list(pool.map(lambda frames: cut_after(frames, "Count to 200.", server, engine, client), range(201)))

    assert all(cuts)


def cut_after(frames: int, message: str, server: ServerProcess, engine: Engine, client: Any) -> bool:
    """Read a turn that is cut there; whether there was so much of it that it was cut at all."""
    task_id = uuid.uuid4().hex
    with cutting(server.port, frames) as proxy:
        stream_class, engine_client = client(proxy.url)
        with contextlib.closing(engine_client):
            found = list(stream_class(engine_client, message, task_id))
    assert found == datas(engine.replay(task_id=task_id))
    assert found[-1]["phase"] == "completed"
    assert proxy.connections > 1 or frames >= len(found)
    return proxy.connections > 1


@pytest.mark.slow
@pytest.mark.parametrize("client", CLIENTS)
def test_killed_in_mid_answer_the_stream_goes_on_after_the_restart(
    own_store: dict[str, str], tmp_path: Path, client: Any
) -> None:
    environment = {**own_store, "HOLDFAST_OFFLINE_WORD_DELAY_SECONDS": "0.01"}
    first = start_server(tmp_path, agents=None, environment=environment)
    second = None
    stream_class, engine_client = client(first.url)
    try:
        found = []
        for event in stream_class(engine_client, "Count to 60.", "t"):
            found.append(event)
            if len(found) == 10:
                first.kill()
                second = start_server(
                    tmp_path, agents=None, environment={**environment, "HOLDFAST_PORT": str(first.port)}
                )
        assert second is not None
        with second.client() as http:
            whole = datas(Engine(http).replay(task_id="t"))
    finally:
        engine_client.close()
        first.kill()
        if second is not None:
            second.kill()

    assert [event for event in found if event["type"] != "heartbeat"] == whole
    assert "restarted" in [event["type"] for event in found]
    assert kept_text(found) == found[-1]["output"]


def kept_text(found: list[dict[str, Any]]) -> str:
    """The text without what `restarted` frames take back."""
    kept: dict[int, str] = {}
    for event in found:
        if event["type"] == "restarted":
            kept = {number: text for number, text in kept.items() if number < event["discard_from"]}
        elif event["type"] == "text_delta":
            kept[event["sequence"]] = event["text"]
    return "".join(kept.values())


def test_the_other_calls_of_our_client_work(server: ServerProcess) -> None:
    _, engine_client = example(server.url)

    asked = next(
        event
        for event in engine_client.execute("Ask me which colour I like.", "asks")
        if event["type"] == "hitl_request"
    )
    answered = engine_client.hitl_respond("asks", "blue")

    assert answered == {"status": "resumed", "request_id": asked["request_id"]}
    assert list(engine_client.replay("asks"))[-1]["phase"] == "completed"
    assert engine_client.health()["status"] == "ok"
    engine_client.close()
