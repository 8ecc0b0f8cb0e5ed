"""Clients as users of the Runtime API have them, with their habits of parsing: each reads a whole stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import sseclient

from tests.support.server import KEY, ServerProcess

TERMINAL = ("complete", "error", "cancelled")


@pytest.fixture
def call(server: ServerProcess) -> dict[str, Any]:
    """The arguments of a streaming call, but for the URL."""
    return {"headers": {"X-API-Key": KEY}, "json": {"n": 1000}, "stream": True, "timeout": 20}


def test_lines_of_requests(server: ServerProcess, call: dict[str, Any]) -> None:
    found = []
    with requests.post(f"{server.url}/agents/count/invoke/stream", **call) as response:
        for line in response.iter_lines():
            if line and line.decode("utf-8").startswith("data: "):
                event = json.loads(line.decode("utf-8")[6:])
                found.append(event)
                if event["type"] in TERMINAL:
                    break

    assert "".join(event.get("content", "") for event in found) == "".join(f"{n} " for n in range(1000))
    assert found[-1]["output"] == {"n": 1000}


def test_the_sse_library_of_python(server: ServerProcess, call: dict[str, Any]) -> None:
    with requests.post(f"{server.url}/agents/count/invoke/stream", **call) as response:
        found = [(event.event, json.loads(event.data)) for event in _sse_events(response)]

    assert all(name == data["type"] for name, data in found)
    assert [data["sequence"] for _, data in found] == list(range(1002))


def test_a_buffer_that_is_split_at_line_ends(server: ServerProcess, call: dict[str, Any]) -> None:
    """The habit of pages that read with fetch: decode, split, keep the last, unfinished line."""
    buffer, last = "", None
    with requests.post(f"{server.url}/agents/count/invoke/stream", **call) as response:
        for piece in response.iter_content(700):
            *lines, buffer = (buffer + piece.decode("utf-8")).split("\n")
            for line in lines:
                if line.startswith("data: "):
                    last = json.loads(line[6:])

    assert last is not None
    assert last["type"] == "complete"


def test_a_stream_that_is_cut_anywhere_goes_on_with_a_second_call(server: ServerProcess, call: dict[str, Any]) -> None:
    """Every event once, whichever cursor the client kept."""
    url = f"{server.url}/runs/cut-{{}}/events"
    for place in (0, 1, 500, 999):
        run_id = f"cut-{place}"
        seen = []
        with requests.post(f"{server.url}/agents/count/invoke/stream?run_id={run_id}", **call) as response:
            for line in response.iter_lines():
                if line.startswith(b"data: "):
                    seen.append(json.loads(line[6:])["sequence"])
                    if len(seen) > place:
                        break
        headers = {"X-API-Key": KEY, "Last-Event-ID": str(seen[-1])}
        with requests.get(url.format(place), headers=headers, stream=True, timeout=20) as response:
            seen += [json.loads(line[6:])["sequence"] for line in response.iter_lines() if line.startswith(b"data: ")]
        assert seen == list(range(1002))


def _sse_events(response: requests.Response) -> Iterator[Any]:
    # Its stubs ask for an iterator of bytes; its documentation passes the response, as users do.
    client = sseclient.SSEClient(response)  # type: ignore[arg-type]
    return iter(client.events())
