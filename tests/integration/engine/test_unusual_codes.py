"""Codes that take a crash, a stop or a missing setting; the usual ones are provoked where their calls are tested."""

from __future__ import annotations

import base64
import json
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.engine.support import AGENTS, Engine
from tests.support.server import ServerProcess, running_server

SECONDS = 60.0


def environment(directory: Path) -> dict[str, str]:
    """A server that takes a call and never answers, and one that asks for a consent nobody could come back from."""
    directory.mkdir(exist_ok=True)
    oauth = {"authorization_url": "https://x.example", "token_url": "https://x.example", "client_id": "x"}
    servers = {
        # It ends with its standard input, so with the server that started it.
        "silent": {"transport": "stdio", "command": "sh", "args": ["-c", f"touch {directory}/called; exec cat >&2"]},
        "consent": {"transport": "sse", "url": "https://x.example", "auth_method": "oauth", "oauth": oauth},
    }
    (directory / "mcp_servers.json").write_text(json.dumps({"mcpServers": servers}))
    return {"HOLDFAST_CATALOG": str(directory), "HOLDFAST_ASSET_KEY": base64.urlsafe_b64encode(bytes(32)).decode()}


def wait_until(holds: Any) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def connect(server: ServerProcess, name: str, key: str) -> httpx.Response:
    with server.client(timeout=SECONDS) as client:
        return client.post("/assets/connect", json={"server_name": name}, headers={"Idempotency-Key": key})


def test_what_a_crash_a_missing_setting_and_a_stop_answer(tmp_path: Path) -> None:
    settings = environment(tmp_path / "catalog")
    with running_server(tmp_path / "data", agents=AGENTS, environment=settings) as server:

        def lose() -> None:
            with pytest.raises(httpx.TransportError):
                connect(server, "silent", "k1")

        caller = threading.Thread(target=lose)
        caller.start()
        wait_until((tmp_path / "catalog" / "called").exists)
        server.kill()
        caller.join(SECONDS)

    with running_server(tmp_path / "data", agents=AGENTS, environment=settings) as server, server.client() as client:
        unknown = connect(server, "silent", "k1")
        reused = connect(server, "consent", "k1")
        missing = connect(server, "consent", "k2")
        Engine(client).begin(str(tmp_path / "gate"), "slow", agent="gated")
        server.terminate()
        wait_until(lambda: client.get("/health").json()["status"] == "draining")
        draining = client.post("/execute", json={"task_id": "late", "message": "x"})
        (tmp_path / "gate").touch()
        status = server.wait()

    assert (unknown.status_code, unknown.json()["error"]) == (409, "IDEMPOTENCY_IN_PROGRESS")
    assert "outcome" in unknown.json()["message"]
    assert (reused.status_code, reused.json()["error"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert (missing.status_code, missing.json()["error"]) == (503, "NOT_CONFIGURED")
    assert missing.json()["details"] == {"setting": "HOLDFAST_PUBLIC_URL"}
    assert (draining.status_code, draining.json()["error"]) == (503, "DRAINING")
    assert draining.headers["retry-after"] == str(draining.json()["details"]["retry_after"])
    assert status == 0
