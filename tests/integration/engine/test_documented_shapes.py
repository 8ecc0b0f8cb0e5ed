"""
What the documented clients rely on beyond the quickstart: the event router over tools that fail and permissions, the
six calls of the client's shape, and readers of lines that cut wherever they think a line ends (checks 2, 4, 13).
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import requests
import urllib3

from tests.integration.engine.support import Engine
from tests.integration.engine.test_clients import DOCUMENTED, documented, example, loaded, needs_documented
from tests.support.server import ServerProcess
from tests.support.sse import frames

pytestmark = pytest.mark.one_store("what clients make of frames does not depend on the store")

# The same habits as the documented router's, so that the suite is complete without it.
ROUTER = """
def handle_event(event_type, data):
    if event_type == "text_delta":
        print(data.get("text", ""), end="")
    elif event_type == "tool_call":
        print(f"[tool call: {data['tool']}]")
    elif event_type == "tool_result":
        print(f"[tool result: {data.get('output', '')[:60]}...]")
    elif event_type == "hitl_request":
        print(f"[engine asks: {data['question']}]")
    elif event_type == "thread_lifecycle":
        print(f"[{data['phase']}]")

event_type = None
for line in resp.iter_lines():
    if line.startswith("event:"):
        event_type = line[len("event:"):].strip()
    elif line.startswith("data:"):
        data = json.loads(line[len("data:"):].strip())
        handle_event(event_type, data)
        event_type = None
"""


def ours(tmp_path: Path, **names: Any) -> ModuleType:
    file = tmp_path / "router.py"
    file.write_text(ROUTER)
    return loaded(file, **names)


def theirs(_: Path, **names: Any) -> ModuleType:
    return loaded(DOCUMENTED / "engine_event_router.py", **names)


ROUTERS = [ours, pytest.param(theirs, marks=needs_documented)]


@pytest.mark.parametrize("router", ROUTERS)
def test_the_event_router_takes_failed_tools_results_that_are_no_texts_and_permissions(
    server: ServerProcess, engine: Engine, task_id: str, tmp_path: Path, router: Callable[..., ModuleType]
) -> None:
    printed = io.StringIO()
    turns = [{"message": "x", "agent": "all_kinds"}, {"message": '["yes", "no"]', "agent": "permit"}]
    with server.client() as client, contextlib.redirect_stdout(printed):
        for body in turns:
            with client.stream("POST", "/execute", json={"task_id": task_id, **body}) as response:
                router(tmp_path, json=json, resp=Permitting(response, engine, task_id))

    told = re.findall(r"\[(started|completed|tool call|engine asks|tool result: .*?\.\.\.)", printed.getvalue())
    results = [line.removeprefix("tool result: ").removesuffix("...") for line in told if "result" in line]
    assert results == ["text", '{"n":1}', "null", "5", "[1,2]", ""]  # the last one failed, and has no output
    assert told[0] == "started"
    assert told.count("tool call") == 5
    assert told[-3:] == ["started", "engine asks", "completed"]


class Permitting:
    """A response whose reader has somebody who permits what is asked."""

    def __init__(self, response: httpx.Response, engine: Engine, task_id: str) -> None:
        self._response, self._engine, self._task_id = response, engine, task_id

    def iter_lines(self) -> Iterator[str]:
        for line in self._response.iter_lines():
            yield line
            if line == "event: hitl_request":
                assert self._engine.respond(self._task_id, "yes").status_code == 200


@pytest.mark.parametrize("make", [example, pytest.param(documented, marks=needs_documented)])
def test_each_call_of_the_clients_shape_gives_what_it_declares(
    server: ServerProcess, task_id: str, make: Callable[[str], Any]
) -> None:
    _, client = make(server.url)
    with contextlib.closing(client):
        given = {
            "execute": client.execute("{}", task_id),
            "health": client.health(),
            "memory_search": client.memory_search("knowledge", "anything", limit=3),
        }
        given["replay"] = client.replay(task_id)
        events = [*given["execute"], *given["replay"]]
        given["feedback"] = client.feedback(task_id, "rating", score=4)
        with server.client() as http:
            Engine(http).begin("{}", f"{task_id} waits", agent="ask")
        given["hitl_respond"] = client.hitl_respond(f"{task_id} waits", "yes")

    assert all(isinstance(event, dict) for event in events)
    assert events[: len(events) // 2] == events[len(events) // 2 :]
    for name, value in given.items():
        declared = typing.get_type_hints(getattr(type(client), name))["return"]
        assert isinstance(value, typing.get_origin(declared) or declared), (name, declared)


# Readers of lines


def by_httpx(body: bytes, size: int) -> Iterator[str]:
    pieces = (body[start : start + size] for start in range(0, len(body), size))
    return httpx.Response(
        200, headers={"content-type": "text/event-stream; charset=utf-8"}, content=pieces
    ).iter_lines()


def by_requests(body: bytes, size: int) -> Iterator[str]:
    response = requests.Response()
    response.status_code, response.encoding = 200, "utf-8"
    response.raw = urllib3.HTTPResponse(io.BytesIO(body), preload_content=False)
    return map(str, response.iter_lines(chunk_size=size, decode_unicode=True))


@pytest.mark.parametrize("read", [by_httpx, by_requests])
def test_text_of_every_kind_passes_readers_of_lines_wherever_the_network_splits_it(
    server: ServerProcess, task_id: str, read: Callable[[bytes, int], Iterator[str]]
) -> None:
    texts = ["\x85", "\u2028\u2029", "a\r\nb\rc", "🎣é", "\x1c\x1d\x1e\v\f", "\0"]
    with server.client() as client:
        body = client.post("/execute", json={"task_id": task_id, "message": json.dumps(texts)}).content

    for size in (1, 2, 3, 5, 7, 64, 512, len(body)):
        found = [frame for frame in frames(read(body, size)) if frame.event == "text_delta"]
        assert [frame.data["text"] for frame in found] == texts
