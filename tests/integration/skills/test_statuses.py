"""Statuses that only a real server with real neighbours gives: what is upstream, what a key may ask for in a minute (24, 25)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest

from tests.support.server import ServerProcess, running_server

SKILL = """
id: up.{name}
version: 1.0.0
name: Asks upstream
description: Asks another server.
inputs: {{}}
outputs: {{text: {{type: string}}}}
steps: [{{id: ask, uses: up.{name}, output: {{text: outputs.text}}}}]
"""
CAPABILITY = """
id: up.{name}
version: 1.0.0
description: Asks another server.
inputs: {{}}
outputs: {{text: {{type: string}}}}
bind: {{http: {{url: "http://127.0.0.1:{port}/{name}"}}}}
"""
STATUSES = {"late": 504, "down": 503, "gone": 404}


class Upstream(BaseHTTPRequestHandler):
    """Answers with the status that its path names."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(STATUSES[self.path.strip("/")])
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def server(upstream: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("root")
    for name in STATUSES:
        for path, text in ((f"skills/up.{name}.skill.yaml", SKILL), (f"capabilities/up.{name}.yaml", CAPABILITY)):
            (root / path).parent.mkdir(exist_ok=True)
            (root / path).write_text(text.format(name=name, port=upstream))
    settings = {
        "HOLDFAST_SKILLS_ROOTS": str(root),
        "HOLDFAST_SKILLS_RATE_LIMIT": "600",
        "HOLDFAST_KEYS": "test-key,other",
    }
    with running_server(tmp_path_factory.mktemp("data"), environment=settings, key=None) as process:
        yield process


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [("late", 504, "upstream_timeout"), ("down", 502, "upstream_failure"), ("gone", 502, "upstream_failure")],
)
def test_what_an_upstream_answers_has_its_status(server: ServerProcess, name: str, status: int, code: str) -> None:
    with server.client() as client:
        reply = client.post(f"/v1/skills/up.{name}/execute", json={}, headers={"x-trace-id": "t-1"})

    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["status"]) == (status, code, status)
    assert reply.json()["trace_id"] == reply.headers["x-trace-id"] == "t-1"


def test_the_601st_call_of_a_key_in_a_minute_is_refused_and_another_key_is_free(server: ServerProcess) -> None:
    with server.client("other") as client:
        allowed = [client.get("/v1/skills/list?limit=1") for _ in range(600)]
        refused = client.get("/v1/skills/list?limit=1")
        health = client.get("/v1/health")
    with server.client() as client:
        free = client.get("/v1/skills/list?limit=1")

    assert {reply.status_code for reply in allowed} == {200}
    assert [allowed[0].headers["x-ratelimit-remaining"], allowed[-1].headers["x-ratelimit-remaining"]] == ["599", "0"]
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limited")
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert health.status_code == 200
    assert "x-ratelimit-limit" not in health.headers
    assert free.status_code == 200


def test_unknown_paths_and_methods_have_the_shape_of_all_errors(server: ServerProcess) -> None:
    with server.client() as client:
        replies = [
            client.get("/v1/nowhere"),
            client.delete("/v1/skills/list"),
            httpx.get(f"{server.url}/v1/skills/list"),
        ]

    codes = [(reply.status_code, reply.json()["error"]["code"], "trace_id" in reply.json()) for reply in replies]
    assert codes == [(404, "not_found", True), (405, "method_not_allowed", True), (401, "unauthorized", True)]
