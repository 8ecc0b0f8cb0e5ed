"""
The clients that users have: ours in examples/runtime, and the documented ones unmodified but for address and key,
where they lie beside the checkout. Each reads a whole run; each is cut and goes on; none loses or repeats an event.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests

from tests.integration.engine.proxy import CuttingProxy, cutting
from tests.support.server import KEY, ServerProcess, running_server

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples" / "runtime"
DOCUMENTED = ROOT.parent / "shared" / "clients"
AGENTS = Path(__file__).with_name("client_agents.py")
LONG = 10_000
SHORT = 2  # a run of four events

needs_documented = pytest.mark.skipif(not DOCUMENTED.is_dir(), reason="the documented clients are not here")


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose runs have 10,000 tokens."""
    with running_server(
        tmp_path_factory.mktemp("long"), agents=AGENTS, environment={"EXPLAIN_TOKENS": str(LONG)}
    ) as process:
        yield process


@pytest.fixture(scope="module")
def gates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gates") / "gates"


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory, gates: Path) -> Iterator[ServerProcess]:
    """A server whose runs have four events, and wait for gates once there is a directory of them."""
    environment = {"EXPLAIN_TOKENS": str(SHORT), "EXPLAIN_GATES": str(gates)}
    with running_server(tmp_path_factory.mktemp("short"), agents=AGENTS, environment=environment) as process:
        yield process


def documented(name: str, url: str) -> str:
    """A documented client for this server: only address and key are another."""
    text = (DOCUMENTED / name).read_text()
    assert "http://localhost:8080" in text
    return text.replace("http://localhost:8080", url).replace("your-key", KEY)


def environment(url: str) -> dict[str, str]:
    return {**os.environ, "HOLDFAST_URL": url, "HOLDFAST_KEY": KEY, "NO_PROXY": "*"}


def run(*command: str, url: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A program to its end; it has to end well, unless the test cuts its connection."""
    done = subprocess.run(command, env=environment(url), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 or not check, done.stderr
    return done


def sequences(text: str) -> list[int]:
    """The numbers of the events in a stream, or in JSON lines."""
    return [int(found) for found in re.findall(r'"id":"evt_(\d+)"', text)]


def journal(server: ServerProcess, run_id: str) -> list[dict[str, Any]]:
    with server.client() as client:
        lines = client.get(f"/runs/{run_id}/events").text.splitlines()
    return [json.loads(line[6:]) for line in lines if line.startswith("data: ")]


def assert_whole(found: list[dict[str, Any]], tokens: int) -> None:
    """Every event once, in order, with its text and its output."""
    assert [event["sequence"] for event in found] == list(range(tokens + 2))
    assert "".join(event.get("content", "") for event in found) == "".join(f"{number} " for number in range(tokens))
    assert found[-1]["output"] == {"tokens": tokens}
    assert found[-1]["latency_seconds"] >= 0


# Ours: each goes on by itself, whatever the network does

OURS = [
    pytest.param(["sh", str(EXAMPLES / "follow.sh")], id="curl", marks=needs("curl", "jq", "awk")),
    pytest.param([sys.executable, str(EXAMPLES / "stream_requests.py")], id="requests"),
    pytest.param([sys.executable, str(EXAMPLES / "stream_sseclient.py")], id="sseclient"),
    pytest.param(["node", str(EXAMPLES / "stream_fetch.mjs")], id="fetch", marks=needs("node")),
]


@pytest.mark.slow
@pytest.mark.parametrize("command", OURS)
def test_our_client_that_is_cut_again_and_again_prints_every_event_once(
    long: ServerProcess, command: list[str]
) -> None:
    with cutting(long.port, 3000) as proxy:
        printed = run(*command, url=proxy.url).stdout
        connections = proxy.connections
    texts = re.findall(r'"content": ?"(\d+) "|\'content\': \'(\d+) \'|^\[token\] (\d+) $', printed, re.MULTILINE)

    assert [int("".join(text)) for text in texts] == list(range(LONG))
    assert len(re.findall(r"^\[complete\]|\"type\":\"complete\"", printed, re.MULTILINE)) == 1
    assert connections >= 4


# Theirs: the documented call is cut, a second documented call goes on


def python_client(name: str, url: str, on_event: Callable[[dict[str, Any]], None]) -> None:
    """Run a documented Python client; `on_event` is called with every event in the moment that it prints it."""
    names: dict[str, Any] = {"json": json}

    def show(text: str) -> None:
        event = names["data"] if "sseclient" in name else names["event"]
        assert text.startswith(f"[{event['type']}]")
        on_event(event)

    exec(compile(documented(name, url), name, "exec"), {"print": show}, names)


PYTHON = ["runtime_stream_requests.py", "runtime_stream_sseclient.py"]


@needs_documented
@pytest.mark.parametrize("name", PYTHON)
def test_the_documented_python_client_gets_every_event_once(long: ServerProcess, name: str) -> None:
    found: list[dict[str, Any]] = []

    python_client(name, long.url, found.append)

    assert_whole(found, LONG)


@needs_documented
def test_each_token_is_printed_before_the_agent_emits_the_next(short: ServerProcess, gates: Path) -> None:
    """The agent goes on only when the token before was printed."""
    gates.mkdir()
    printed: list[str] = []

    def open_gate(event: dict[str, Any]) -> None:
        printed.append(event["type"])
        if event["type"] == "token":
            (gates / event["content"].strip()).touch()
            (gates / str(int(event["content"]) + 1)).touch()

    try:
        python_client(PYTHON[0], short.url, open_gate)
    finally:
        shutil.rmtree(gates)

    assert printed == ["started", "token", "token", "complete"]


@needs_documented
@needs("curl")
@pytest.mark.parametrize("cut", [3, 5000, LONG])
@pytest.mark.parametrize("name", PYTHON)
def test_a_documented_python_client_that_was_cut_goes_on_with_the_documented_call(
    long: ServerProcess, name: str, cut: int
) -> None:
    found: list[dict[str, Any]] = []
    with cutting(long.port, cut) as proxy, contextlib.suppress(requests.RequestException):
        python_client(name, proxy.url, found.append)
    run_id = found[-1]["run_id"]

    rest = continued(long, run_id, len(found))

    assert 0 < len(found) <= LONG + 1
    assert_whole(found + rest, LONG)
    assert [without_request(event) for event in found] + rest == journal(long, run_id)


def without_request(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name != "request_id"}


def continued(server: ServerProcess, run_id: str, sequence: int) -> list[dict[str, Any]]:
    """`curl -N …/events?from_sequence=…` and, by the header, what a browser would send: both go on alike."""
    commands = curl_commands(server.url)
    call = commands[4].replace("$RUN_ID", run_id)
    assert "from_sequence=5" in call
    by_query = run("sh", "-c", call.replace("from_sequence=5", f"from_sequence={sequence}"), url=server.url).stdout
    with server.client() as client:
        by_header = client.get(f"/runs/{run_id}/events", headers={"Last-Event-ID": str(sequence - 1)}).text
    found = [line[6:] for line in by_query.splitlines() if line.startswith("data: ")]
    assert found == [line[6:] for line in by_header.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in found]


def curl_commands(url: str) -> list[str]:
    """The documented commands: start and stream, start, follow, read, follow from 5 on."""
    text = re.sub(r"^#.*\n", "", documented("runtime.sh", url), flags=re.MULTILINE)
    commands = [block for block in text.split("\n\n") if block.strip()]
    assert len(commands) == 5
    return commands


@needs_documented
@needs("curl")
def test_the_documented_curl_streams_a_run(long: ServerProcess) -> None:
    printed = run("sh", "-c", curl_commands(long.url)[0], url=long.url).stdout

    assert_whole([json.loads(line[6:]) for line in printed.splitlines() if line.startswith("data: ")], LONG)


@needs_documented
@needs("curl")
def test_a_documented_curl_that_was_cut_goes_on(long: ServerProcess) -> None:
    with cutting(long.port, 4000) as proxy:
        printed = run("sh", "-c", curl_commands(proxy.url)[0], url=proxy.url, check=False).stdout
    found = [json.loads(line[6:]) for line in printed.splitlines() if line.startswith("data: ")]

    assert len(found) == 4000
    assert_whole(found + continued(long, found[0]["run_id"], len(found)), LONG)


@needs_documented
@needs("curl", "jq")
def test_the_documented_commands_follow_a_run_that_is_over_and_from_five_on(
    long: ServerProcess, short: ServerProcess
) -> None:
    """Of a long run the events from 5 on; of one with four events nothing, and that is no error."""
    for server, tokens in ((long, LONG), (short, SHORT)):
        _, start, follow, read, follow_from = curl_commands(server.url)
        run_id = run("sh", "-c", f'{start}\nprintf %s "$RUN_ID"', url=server.url).stdout
        with server.client() as client:
            assert client.get(f"/runs/{run_id}?wait=30").json()["status"] == "completed"
        whole, row, part = (
            run("sh", "-c", f"RUN_ID={run_id}\n{command}", url=server.url).stdout
            for command in (follow, read, follow_from)
        )

        assert_whole([json.loads(line[6:]) for line in whole.splitlines() if line.startswith("data: ")], tokens)
        assert json.loads(row)["output"] == {"tokens": tokens}
        assert sequences(part) == list(range(5, tokens + 2))
        if tokens == SHORT:
            assert part == ""


def node_client(url: str, directory: Path) -> str:
    """What the documented fetch client prints, with the run id and the number of every event."""
    script = directory / "client.js"
    script.write_text(documented("runtime_stream_fetch.js", url))
    return subprocess.run(
        ["node", str(script)], env=environment(url), capture_output=True, text=True, timeout=60
    ).stdout


@needs_documented
@needs("node", "curl")
@pytest.mark.parametrize("cut", [None, 3, 6000])
def test_the_documented_fetch_client(long: ServerProcess, tmp_path: Path, cut: int | None) -> None:
    """Whole, and cut: then the documented call goes on."""
    with cutting(long.port, LONG + 10 if cut is None else cut) as proxy:
        printed = node_client(proxy.url, tmp_path)
    seen = [int(found) for found in re.findall(r"^  sequence: (\d+),$", printed, re.MULTILINE)]
    run_id = re.search(r"run_id: '([^']+)'", printed)
    assert run_id is not None
    whole = journal(long, run_id[1])

    if cut is None:
        assert seen == list(range(LONG + 2))
        assert re.search(r"^complete \{", printed, re.MULTILINE)
    else:
        # A cut connection may take with it what had arrived and was not read yet.
        assert seen == list(range(len(seen)))
        assert 0 < len(seen) <= cut
        assert whole[: len(seen)] + continued(long, run_id[1], len(seen)) == whole
    assert_whole(whole, LONG)


# A page's EventSource, by the standard


class EventSource:
    """What a browser does: reconnect after the end of the body with Last-Event-ID, until a status other than 200."""

    def __init__(self, client: httpx.Client, url: str) -> None:
        self._client, self._url = client, url
        self.statuses: list[int] = []
        self.events: list[dict[str, Any]] = []

    def run(self) -> None:
        last = ""
        while True:
            headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
            with self._client.stream("GET", self._url, headers=headers) as response:
                self.statuses.append(response.status_code)
                if response.status_code != 200:
                    return  # the connection has failed, says the standard, and is not tried again
                with contextlib.suppress(httpx.TransportError):
                    for line in response.iter_lines():
                        if line.startswith("id: "):
                            last = line[4:]
                        elif line.startswith("data: "):
                            self.events.append(json.loads(line[6:]))


def test_an_event_source_that_nobody_closes_asks_once_more_and_is_silent(long: ServerProcess) -> None:
    with long.client() as client:
        run_id = client.post("/runs", json={}).json()["run_id"]
        source = EventSource(client, f"/runs/{run_id}/events")
        source.run()

    assert source.statuses == [200, 204]
    assert_whole(source.events, LONG)


def test_an_event_source_that_is_cut_gets_every_event_once(long: ServerProcess) -> None:
    with long.client() as client:
        run_id = client.post("/runs", json={}).json()["run_id"]
    with cutting(long.port, 2500) as proxy, proxied(proxy) as client:
        source = EventSource(client, f"/runs/{run_id}/events")
        source.run()

    assert source.statuses == [200] * (LONG // 2500 + 1) + [204]
    assert_whole(source.events, LONG)


@contextlib.contextmanager
def proxied(proxy: CuttingProxy) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=proxy.url, headers={"X-API-Key": KEY}, timeout=20, trust_env=False) as client:
        yield client
