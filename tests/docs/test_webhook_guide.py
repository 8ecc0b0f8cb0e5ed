"""The receivers of the guide to webhooks do their work as they stand there, each in its framework."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import re
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import uvicorn
from werkzeug.serving import make_server

from tests.support.server import KEY, ServerProcess, running_server
from tests.support.tasks import start

ROOT: Final = Path(__file__).parents[2]
GUIDE: Final = (ROOT / "docs/guides/webhooks.md").read_text()
SNIPPETS: Final = dict(re.findall(r"^```python\n# (receiver_\w+)\.py\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE))
SECONDS: Final = 20.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(
        tmp_path_factory.mktemp("guide") / "data",
        agents=ROOT / "tests/support/workflow_agents.py",
        environment={"HOLDFAST_WEBHOOK_ALLOW": "127.0.0.1"},
    ) as process:
        yield process


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with server.client() as made:
        yield made


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Where the receiver will listen: the endpoint has to be known before its secret is."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.fixture
def endpoint(client: httpx.Client, listener: socket.socket) -> Iterator[dict[str, Any]]:
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/hooks"
    made = client.post("/webhooks", json={"url": url}).json()
    yield made
    client.delete(f"/webhooks/{made['id']}")


def executed(
    name: str, server: ServerProcess, secret: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """The names of a snippet, imported from a directory of its own."""
    monkeypatch.chdir(directory)
    for variable, value in (("SERVER_URL", server.url), ("API_KEY", KEY), ("WEBHOOK_SECRET", secret)):
        monkeypatch.setenv(variable, value)
    file = directory / f"{name}.py"
    file.write_text(SNIPPETS[name])
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return vars(module)


@contextlib.contextmanager
def served(app: Any, listener: socket.socket) -> Iterator[None]:
    """An ASGI application on this socket, in a thread."""
    config = uvicorn.Config(app, log_config=None, lifespan="on")
    serving = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(serving.serve(sockets=[listener])), daemon=True)
    thread.start()
    try:
        yield
    finally:
        serving.should_exit = True
        thread.join(SECONDS)
        assert not thread.is_alive()


def test_the_guide_has_a_receiver_for_each_framework() -> None:
    assert set(SNIPPETS) == {"receiver_litestar", "receiver_fastapi", "receiver_flask"}


@pytest.mark.parametrize("name", ["receiver_litestar", "receiver_fastapi"])
def test_an_asgi_receiver_executes_the_calls_and_hears_of_the_end(
    name: str,
    server: ServerProcess,
    client: httpx.Client,
    listener: socket.socket,
    endpoint: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = executed(name, server, endpoint["secret"], tmp_path, monkeypatch)
    heard = threading.Event()
    said: list[str] = []

    def hear(*words: object) -> None:
        said.append(" ".join(map(str, words)))
        heard.set()

    names["print"] = hear

    with served(names["app"], listener):
        row = start(client, "clock").ended()
        assert heard.wait(SECONDS)
        forged = httpx.post(endpoint["url"], content=b"{}", headers={"webhook-id": "msg_1"}, trust_env=False)

    assert row["result"] == "It is 12:00."
    assert said == ["completed: It is 12:00."]
    assert forged.status_code == 401


def test_the_receiver_in_flask_takes_each_event_once_and_no_forged_one(
    server: ServerProcess,
    client: httpx.Client,
    listener: socket.socket,
    endpoint: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = executed("receiver_flask", server, endpoint["secret"], tmp_path, monkeypatch)
    port = listener.getsockname()[1]
    serving = make_server("127.0.0.1", port, names["app"], threaded=True, fd=listener.fileno())
    thread = threading.Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    try:
        start(client, "say", "hello").ended()
        events = [names["work"].get(timeout=SECONDS) for _ in range(2)]
        client.post(f"/webhooks/{endpoint['id']}/replay", json={"event_ids": [events[0]["event_id"]]})
        start(client, "say", "again").ended()
        events += [names["work"].get(timeout=SECONDS) for _ in range(2)]
        forged = httpx.post(endpoint["url"], content=b"{}", trust_env=False)
    finally:
        serving.shutdown()
        thread.join(SECONDS)
        serving.server_close()

    assert len({event["event_id"] for event in events}) == 4
    assert [event["result"] for event in events if event["type"] == "run.completed"] == ["hello", "again"]
    assert forged.status_code == 401
