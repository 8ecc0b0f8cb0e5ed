"""What a server says of itself: pages, the OpenAPI document, metrics; and that the document is true."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.support.server import KEY, ServerProcess, running_server

AGENTS: Final = Path(__file__).with_name("describing_agents.py")
# `_holdfast` writes files where it is told to; the sockets' handshake is no call of HTTP.
_LEFT_OUT: Final = "^/_holdfast|/ws$"


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose agents end by themselves, with one run that can be asked about."""
    environment = {"HOLDFAST_HEARTBEAT_SECONDS": "1", "HOLDFAST_CATALOG": str(tmp_path_factory.mktemp("catalog"))}
    with running_server(tmp_path_factory.mktemp("data"), agents=AGENTS, environment=environment) as process:
        with process.client() as client:
            client.post("/invoke?run_id=q-1", json={}).raise_for_status()
        yield process


def test_the_pages_are_html_that_may_be_kept(described: ServerProcess) -> None:
    with described.client(key=None) as client:
        for path in ("/", "/docs"):
            page = client.get(path)

            assert page.headers["content-type"] == "text/html; charset=utf-8"
            assert page.headers["cache-control"] == "no-cache"


def test_redoc_is_a_redirect_to_the_reference(described: ServerProcess) -> None:
    with described.client(key=None) as client:
        answer = client.get("/redoc")

    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")


def test_the_document_has_the_schemas_of_the_agents(described: ServerProcess) -> None:
    with described.client(key=None) as client:
        document = client.get("/openapi.json").json()

    assert document["openapi"] == "3.1.0"
    assert document["components"]["schemas"]["quick.input"] == {"type": "object"}
    assert document["paths"]["/invoke"]["post"]["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/AgentInput"
    }


def test_metrics_count_calls_events_and_tokens(described: ServerProcess) -> None:
    with described.client() as client:
        before = _figures(client)
        client.post("/invoke", json={}).raise_for_status()
        after = _figures(client)

    grown = {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name, 0)}
    assert grown['holdfast_requests_total{agent="quick",endpoint="/invoke",status="200"}'] == 1
    assert grown["holdfast_events_total"] == 4
    assert grown['holdfast_tokens_total{agent="quick",kind="input"}'] == 7
    assert grown['holdfast_request_latency_seconds_count{endpoint="/invoke"}'] == 1


def test_paths_that_no_route_has_are_one_endpoint_of_the_metrics(described: ServerProcess) -> None:
    with described.client() as client:
        client.get("/no/such/path")
        shown = client.get("/metrics").text

    assert "/no/such" not in shown
    assert 'holdfast_requests_total{agent="",endpoint="none",status="404"}' in shown


def test_open_streams_are_counted_while_they_are_open(described: ServerProcess) -> None:
    with described.client() as client:
        client.post("/agents/asking/runs?run_id=open-1", json={}).raise_for_status()
        with client.stream("GET", "/runs/open-1/events") as stream:
            pieces = stream.iter_raw()  # held: an iterator that is dropped closes its stream
            next(pieces)
            during = _figures(client)["holdfast_subscribers"]
        client.post("/runs/open-1/cancel").raise_for_status()

    assert during == 1


@pytest.mark.slow
def test_a_stranger_who_follows_the_document_meets_no_failure_and_no_undocumented_status(
    described: ServerProcess, tmp_path: Path
) -> None:
    _schemathesis(described, tmp_path, examples=1)


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_many_strangers_meet_none_either(described: ServerProcess, tmp_path: Path) -> None:
    _schemathesis(described, tmp_path, examples=100)


def _figures(client: httpx.Client) -> dict[str, float]:
    lines = client.get("/metrics").raise_for_status().text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def _schemathesis(server: ServerProcess, directory: Path, *, examples: int) -> None:
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        *("run", f"{server.url}/openapi.json", "--header", f"X-API-Key: {KEY}", "--no-color"),
        *(
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        ),
        *("--mode", "all", "--phases", "examples,coverage,fuzzing", "--max-examples", str(examples)),
        *("--request-timeout", "30", "--exclude-path-regex", _LEFT_OUT),
    ]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)

    cases = re.search(r"([\d,]+) generated, ([\d,]+) passed", done.stdout)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert cases is not None
    assert cases[1] == cases[2]
