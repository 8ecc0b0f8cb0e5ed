"""Whatever is wrong with a call is told precisely, in this API's shape, and nothing was written."""

from __future__ import annotations

import base64
import http.client
import json
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from holdfast.api import engine as engine_api
from tests.integration.engine.support import AGENTS, Engine
from tests.support.server import KEY, ServerProcess, running_server

PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)
KEPT = (
    "runs",
    "segments",
    "messages",
    "threads",
    "interrupts",
    "interrupt_parts",
    "idempotency",
    "inbox",
    "files",
    "steps",
    "memory_items",
    "memory_souls",
    "working_memory",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bad")


@pytest.fixture(scope="module")
def server(data: Path) -> Iterator[ServerProcess]:
    """A server with a task that is over and one that waits."""
    with running_server(data, agents=AGENTS) as process:
        with process.client() as client:
            engine = Engine(client)
            engine.execute("x", "done")
            engine.begin("{}", "asks", agent="ask")
        wait_until_still(data)
        yield process


def wait_until_still(data: Path) -> None:
    """A turn that waits is let go a little later; the store changes by itself until then."""
    deadline = time.monotonic() + 20
    with sqlite3.connect(f"file:{data / 'holdfast.db'}?mode=ro", uri=True) as connection:
        while connection.execute("SELECT count(*) FROM heads WHERE lease_owner IS NOT NULL").fetchone()[0]:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def contents(data: Path) -> list[Any]:
    """All that the store keeps, but for leases and what upkeep writes."""
    with sqlite3.connect(f"file:{data / 'holdfast.db'}?mode=ro", uri=True) as connection:
        return [connection.execute(f"SELECT * FROM {table}").fetchall() for table in KEPT]


@pytest.fixture
def engine(server: ServerProcess, data: Path) -> Iterator[Engine]:
    """Calls that must leave the store as it is."""
    before = contents(data)
    with server.client() as client:
        yield Engine(client)
    assert contents(data) == before


def check(response: httpx.Response, status: int, code: str, field: str | None = None) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["error"]) == (status, code), body
    assert set(body) <= {"error", "message", "details"}
    assert body["message"]
    if field is not None:
        assert body["details"]["field"] == field, body
    return body


def image(**source: Any) -> dict[str, Any]:
    good = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG).decode()}
    return {"type": "image", "source": {**good, **source}}


URL = {"type": "url", "url": "https://example.com/x.png"}
EXECUTE = {"message": "x", "task_id": "new"}
BODIES: list[tuple[str, dict[str, Any], str]] = [
    # of what is right, changed by this, the first bad field
    ("/execute", {"message": 5}, "message"),
    ("/execute", {"message": ""}, "message"),
    ("/execute", {"message": "\0"}, "message"),
    ("/execute", {"message": None}, "message"),
    ("/execute", {"message": "x" * 1_000_001}, "message"),
    ("/execute", {"task_id": None}, "task_id"),
    ("/execute", {"task_id": ""}, "task_id"),
    ("/execute", {"task_id": 7}, "task_id"),
    ("/execute", {"task_id": "x" * 256}, "task_id"),
    ("/execute", {"task_id": "a\nb"}, "task_id"),
    ("/execute", {"task_id": "a\u0085b"}, "task_id"),
    ("/execute", {"task_id": "a\u2028b"}, "task_id"),
    ("/execute", {"unknown": 1}, "unknown"),
    ("/execute", {"unknown": None}, "unknown"),
    ("/execute", {"media": {}}, "media"),
    ("/execute", {"media": [image()] * 21}, "media"),
    ("/execute", {"media": [None]}, "media[0]"),
    ("/execute", {"media": [image(), "x"]}, "media[1]"),
    ("/execute", {"media": [{"type": "picture", "source": URL}]}, "media[0].type"),
    ("/execute", {"media": [{"type": "image"}]}, "media[0].source"),
    ("/execute", {"media": [{**image(), "alt": "x"}]}, "media[0].alt"),
    ("/execute", {"media": [image(type="file")]}, "media[0].source.type"),
    ("/execute", {"media": [image(media_type="image/tiff")]}, "media[0].source.media_type"),
    ("/execute", {"media": [image(media_type="image/gif")]}, "media[0].source.data"),
    ("/execute", {"media": [image(data="!!")]}, "media[0].source.data"),
    ("/execute", {"media": [image(data=5)]}, "media[0].source.data"),
    ("/execute", {"media": [image(data=base64.b64encode(PNG + bytes(5 << 20)).decode())]}, "media[0].source.data"),
    ("/execute", {"media": [{"type": "image", "source": {**URL, "url": "ftp://x/y"}}]}, "media[0].source.url"),
    ("/execute", {"media": [{"type": "image", "source": {**URL, "url": "https://"}}]}, "media[0].source.url"),
    ("/execute", {"media": [{"type": "image", "source": {**URL, "url": "http://[x/"}}]}, "media[0].source.url"),
    ("/execute", {"media": [{"type": "image", "source": {**URL, "url": "https://x/ y"}}]}, "media[0].source.url"),
    ("/execute", {"media": [{"type": "image", "source": {"type": "url"}}]}, "media[0].source.url"),
    ("/execute", {"media": [{"type": "image", "source": {**URL, "data": "x"}}]}, "media[0].source.data"),
    ("/execute", {"direct": 1}, "direct"),
    ("/execute", {"super_thinking": "yes"}, "super_thinking"),
    ("/execute", {"effort": "max"}, "effort"),
    ("/execute", {"agent": ["x"]}, "agent"),
    ("/execute", {"metadata": []}, "metadata"),
    ("/execute", {"metadata": {"x": "y" * 16_384}}, "metadata"),
    ("/execute", {"response_schema": {"type": "thing"}}, "response_schema"),
    ("/execute", {"response_schema": {"$ref": "https://example.com/schema"}}, "response_schema"),
    ("/execute", {"response_schema": {"title": "x" * (64 << 10)}}, "response_schema"),
    ("/execute", {"response_schema": True}, "response_schema"),
    ("/execute", {"edit_message_id": "m", "retry_message_id": "m"}, "retry_message_id"),
    ("/execute", {"edit_message_id": 5}, "edit_message_id"),
    ("/execute", {"retry_message_id": "m", "media": [image()]}, "media"),
    ("/execute/cancel", {"task_id": None}, "task_id"),
    ("/execute/cancel", {"turn_id": {}}, "turn_id"),
    ("/execute/cancel", {"reason": "x"}, "reason"),
    ("/hitl/respond", {"task_id": None}, "task_id"),
    ("/hitl/respond", {"answer": None}, "answer"),
    ("/hitl/respond", {"answer": True}, "answer"),
    ("/hitl/respond", {"feedback": 1}, "feedback"),
    ("/hitl/respond", {"request_id": ""}, "request_id"),
    ("/hitl/respond", {"input_hash": 1}, "input_hash"),
    ("/hitl/respond", {"content_blocks": "x"}, "content_blocks"),
    ("/hitl/respond", {"content_blocks": [{"type": "text"}]}, "content_blocks[0].text"),
    ("/hitl/respond", {"content_blocks": [{"type": "image", "source": {}}]}, "content_blocks[0].source.type"),
    ("/hitl/respond", {"x": 1}, "x"),
]  # fmt: skip
RIGHT: dict[str, dict[str, Any]] = {
    "/execute": EXECUTE,
    "/execute/cancel": {"task_id": "asks"},
    "/hitl/respond": {"task_id": "asks", "answer": "x"},
    "/memory/knowledge": {"content": "x"},
    "/memory/knowledge/search": {"query": "x"},
    "/memory/import": {"format": "holdfast-memory", "version": 1},
    "/feedback": {"task_id": "done", "feedback_type": "positive"},
    "/assets/connect": {"server_name": "x"},
    "/assets/callback": {"code": "x", "state": "x"},
}


@pytest.mark.parametrize(("path", "change", "field"), BODIES, ids=[f"{path} {field}" for path, _, field in BODIES])
def test_a_bad_field_is_named(engine: Engine, path: str, change: dict[str, Any], field: str) -> None:
    check(engine.post(path, {**RIGHT[path], **change}), 422, "INVALID_REQUEST", field)


def test_the_first_bad_field_is_named(engine: Engine) -> None:
    check(engine.post("/execute", {"zzz": 1, "message": 5}), 422, "INVALID_REQUEST", "zzz")
    check(engine.post("/execute", {"message": 5, "zzz": 1}), 422, "INVALID_REQUEST", "message")


@pytest.mark.parametrize("path", RIGHT)
@pytest.mark.parametrize("body", [[], "x", 5, None, True])
def test_a_body_that_is_no_object(engine: Engine, path: str, body: Any) -> None:
    response = engine.client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})

    check(response, 422, "INVALID_REQUEST", "body")


@pytest.mark.parametrize("path", RIGHT)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b'{"message":',
        b'{"message":"x",}',
        b"{'message':'x'}",
        b'{"message":"\xff","task_id":"t"}',
        b'\xef\xbb\xbf{"task_id":"t"}',
        b'{"task_id":"t","task_id":"t"}',
        b'{"metadata":{"a":NaN}}',
        b'{"metadata":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"metadata":{"a":' + b"9" * 5000 + b"}}",
        b'{"a":1}{"b":2}',
    ],
    ids=range(12),
)
def test_what_is_no_json(engine: Engine, path: str, content: bytes) -> None:
    response = engine.client.post(path, content=content, headers={"Content-Type": "application/json"})

    check(response, 400, "MALFORMED_JSON")


@pytest.mark.parametrize("path", RIGHT)
@pytest.mark.parametrize(
    "media_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1"]
)
def test_another_media_type(engine: Engine, path: str, media_type: str | None) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}

    response = engine.client.post(path, content=json.dumps(RIGHT[path]).encode(), headers=headers)

    check(response, 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("path", [path for path in RIGHT if path != "/memory/import"])  # that one takes 256 MiB
def test_a_body_that_is_too_long(engine: Engine, server: ServerProcess, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.putrequest("POST", path)
    for name, value in {"X-API-Key": KEY, "Content-Type": "application/json", "Content-Length": str(64 << 20)}.items():
        connection.putheader(name, value)
    connection.endheaders()

    answer = connection.getresponse()

    assert (answer.status, json.load(answer)["error"]) == (413, "BODY_TOO_LARGE")
    connection.close()


@pytest.mark.parametrize("path", RIGHT)
def test_an_unknown_query_parameter(engine: Engine, path: str) -> None:
    check(engine.client.post(path, params={"wait": "1"}, json=RIGHT[path]), 422, "INVALID_REQUEST", "wait")


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "é"])
def test_an_idempotency_key_that_is_none(engine: Engine, key: str) -> None:
    response = engine.client.post("/execute", json=EXECUTE, headers=[(b"Idempotency-Key", key.encode())])

    check(response, 422, "INVALID_REQUEST", "Idempotency-Key")


def test_an_unknown_agent(engine: Engine) -> None:
    check(engine.post("/execute", {**EXECUTE, "agent": "nobody"}), 404, "AGENT_NOT_FOUND")


def test_a_retry_with_another_text(engine: Engine) -> None:
    message_id = engine.client.get("/tasks/done/messages").json()["messages"][0]["message_id"]
    body = {"message": "y", "task_id": "done", "retry_message_id": message_id}

    check(engine.post("/execute", body), 422, "INVALID_REQUEST", "message")


def test_an_edit_of_the_assistants_message(engine: Engine) -> None:
    message_id = engine.client.get("/tasks/done/messages").json()["messages"][1]["message_id"]
    body = {"message": "y", "task_id": "done", "edit_message_id": message_id}

    check(engine.post("/execute", body), 422, "INVALID_REQUEST", "edit_message_id")


CALLS = [
    ("POST", "/execute"),
    ("GET", "/execute/replay"),
    ("POST", "/execute/cancel"),
    ("POST", "/hitl/respond"),
    ("GET", "/hitl/pending"),
    ("GET", "/tasks"),
    ("GET", "/tasks/done"),
    ("GET", "/tasks/done/messages"),
    ("DELETE", "/tasks/done"),
]


@pytest.mark.parametrize(("method", "path"), [*CALLS, ("GET", "/execute/nothing"), ("PUT", "/tasks")])
def test_the_key_comes_before_everything(engine: Engine, server: ServerProcess, method: str, path: str) -> None:
    with server.client(None) as client:
        content = b"{" if method == "POST" else None
        for headers in ({}, {"X-API-Key": "wrong"}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}):
            response = client.request(method, path + "?bad=1", content=content, headers=headers)
            check(response, 401, "INVALID_KEY")


@pytest.mark.parametrize("right", ["X-Engine-Key", "X-API-Key", "Authorization"])
def test_the_first_key_header_decides(engine: Engine, server: ServerProcess, right: str) -> None:
    value = "Bearer test-key" if right == "Authorization" else "test-key"
    with server.client(None) as client:
        assert client.get("/tasks", headers={right: value}).status_code == 200
        wrong = client.get("/tasks", headers={"X-Engine-Key": "wrong", right: value})
        assert (wrong.status_code == 401) == (right != "X-Engine-Key")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/execute", 405, "METHOD_NOT_ALLOWED"),
        ("PUT", "/execute/replay", 405, "METHOD_NOT_ALLOWED"),
        ("PATCH", "/tasks/x", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/execute/nothing", 404, "NOT_FOUND"),
        ("GET", "/hitl", 404, "NOT_FOUND"),
        ("GET", "/tasks//messages", 404, "NOT_FOUND"),
        ("GET", "/memory/feelings", 404, "NOT_FOUND"),
    ],
)
def test_paths_and_methods_that_do_not_exist(engine: Engine, method: str, path: str, status: int, code: str) -> None:
    response = engine.client.request(method, path)

    check(response, status, code)
    assert (status == 405) == ("allow" in response.headers)


# Random rubbish, the same in each run


def endpoints(*methods: str) -> list[tuple[str, str, str]]:
    """Method, path with an id in each place, and the path as it is declared."""
    found = []
    for handler in engine_api.api().handlers:
        for declared in (re.sub(r":\w+}", "}", path) for path in handler.paths):
            filled = re.sub(r"{\w+}", "none", declared.replace("{store}", "knowledge"))
            found += [(str(method), filled, declared) for method in handler.http_methods if str(method) in methods]
    return sorted(found)


def rubbish(random: Random, depth: int = 2) -> Any:
    """A JSON value of any kind."""
    leaves: list[Any] = [None, True, -1, 10**15, 1.5, "", "x", "\u2028\0", "9" * 300, "%00../", "2026-13-45T99:99Z"]
    if depth and random.random() < 0.4:
        return [rubbish(random, depth - 1) for _ in range(random.randint(0, 3))]
    if depth and random.random() < 0.4:
        return {random.choice(["type", "source", "", "é", "id"]): rubbish(random, depth - 1) for _ in range(2)}
    return random.choice(leaves)


@pytest.mark.parametrize(("method", "path", "declared"), endpoints("POST", "PUT"))
def test_random_bodies_are_refused_with_a_field(engine: Engine, method: str, path: str, declared: str) -> None:
    """Each is wrong for certain, by a field that nothing has; others of its fields may be wrong before that."""
    operation = engine_api.api().operations[f"{method} {declared}"]
    assert operation.body is not None
    schema = operation.body.schema
    names = list(schema.get("properties", {})) if isinstance(schema, Mapping) else []
    random = Random(f"{method} {path}")

    for _ in range(25):
        body = {name: rubbish(random) for name in names if random.random() < 0.5} | {
            "nothing has this": rubbish(random)
        }
        answer = engine.client.request(method, path, json=body)
        assert check(answer, 422, "INVALID_REQUEST")["details"]["field"], (body, answer.text)


@pytest.mark.parametrize(("method", "path", "declared"), endpoints("GET", "DELETE"))
def test_random_queries_are_no_failure(engine: Engine, method: str, path: str, declared: str) -> None:
    """What happens to fit is answered; what does not names its parameter."""
    operation = engine_api.api().operations[f"{method} {declared}"]
    names = [one.name for one in operation.parameters if one.where == "query"]
    random = Random(f"{method} {path}")

    for _ in range(25):
        query = {name: str(rubbish(random, 0)) for name in names if random.random() < 0.7}
        if "follow" in names:
            query["follow"] = random.choice(["0", "2", "x"])
        answer = engine.client.request(method, path, params=query)
        assert answer.status_code < 500, (query, answer.text)
        if answer.status_code == 422:
            assert answer.json()["details"]["field"] in names, (query, answer.text)
