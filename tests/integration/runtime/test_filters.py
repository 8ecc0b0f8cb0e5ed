"""What a reader does not want to see, or may not: filters, presets and the setting `events_allowed`."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.server import ServerProcess, running_server, start_server
from tests.support.sse import Frame, events, frames, read_all

ALWAYS = {"started", "complete"}
# A run with one event of many types; the sequence of each is its place.
EVENTS = [
    "started",
    "token",
    "thinking",
    "progress",
    "checkpoint",
    "step_started",
    "step",
    "score",
    "token",
    "other",
    "heartbeat",
    "complete",
]
DO = [
    ("tokens", ["a"]),
    ("thinking", "b"),
    ("progress", 0.5),
    ("checkpoint", "c"),
    ("step", "d"),
    ("emit", "score"),
    ("tokens", ["e"]),
    ("emit", "other"),
    ("emit", "heartbeat"),
]


def made(client: httpx.Client) -> str:
    """A finished run with all of EVENTS."""
    run_id = f"f-{uuid.uuid4().hex}"
    assert client.post(f"/agents/script/invoke?run_id={run_id}", json={"do": DO}).status_code == 200
    return run_id


@pytest.fixture
def run_id(client: httpx.Client) -> str:
    return made(client)


def opening(client: httpx.Client, url: str, **arguments: Any) -> list[str]:
    """The comments of the opening block."""
    with client.stream(arguments.pop("method", "GET"), url, **arguments) as response:
        assert response.status_code == 200
        lines = response.iter_lines()
        assert next(lines).startswith("retry: ")
        return next(frames(lines)).comments


def types_of(found: list[Frame]) -> list[str]:
    return [frame.event or "" for frame in found]


def shown(*names: str) -> list[str]:
    """What is left of EVENTS with these types selected."""
    return [name for name in EVENTS if name in ALWAYS or name in names]


def test_the_run_that_is_filtered_has_all_these_events(client: httpx.Client, run_id: str) -> None:
    found = read_all(client, "GET", f"/runs/{run_id}/events")

    assert types_of(found) == EVENTS


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ("progress", shown("progress")),
        ("token,step", shown("token", "step")),
        ("step_started", shown("step_started")),
        ("custom", shown("score", "other")),
        ("custom:other", shown("other")),
        ("custom:score,custom:none,thinking", shown("score", "thinking")),
        ("heartbeat", shown("heartbeat")),
        ("started", shown()),
        ("token,token", shown("token")),
    ],
)
def test_a_list_of_types_leaves_holes_in_the_numbers(
    client: httpx.Client, run_id: str, types: str, expected: list[str]
) -> None:
    whole = read_all(client, "GET", f"/runs/{run_id}/events")

    found = read_all(client, "GET", f"/runs/{run_id}/events?types={types}")

    assert types_of(found) == expected
    assert found == [frame for frame in whole if frame.event in expected]


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("minimal", shown()),
        ("chat", shown("token")),
        ("debug", [name for name in EVENTS if name not in ("score", "other")]),
        ("all", EVENTS),
    ],
)
def test_a_preset_is_a_list(client: httpx.Client, run_id: str, preset: str, expected: list[str]) -> None:
    assert types_of(read_all(client, "GET", f"/runs/{run_id}/events?preset={preset}")) == expected


@pytest.mark.parametrize(
    ("query", "comments"),
    [
        ("", []),
        ("types=token,step", ["filter token,step"]),
        ("types=custom:score,progress", ["filter custom:score,progress"]),
        ("preset=minimal", ["filter"]),
        ("preset=chat&view=compact", ["filter token", "view compact"]),
        ("view=compact", ["view compact"]),
    ],
)
def test_the_opening_block_names_what_is_sent(
    client: httpx.Client, run_id: str, query: str, comments: list[str]
) -> None:
    with client.stream("GET", f"/runs/{run_id}/events?{query}") as response:
        lines = list(response.iter_lines())

    assert lines[1 : 1 + len(comments)] == [f": {comment}" for comment in comments]
    assert lines[1 + len(comments)] == ""
    assert lines[2 + len(comments)] == "id: 0"


@pytest.mark.parametrize(
    "query",
    [
        "types=typo",
        "types=token,",
        "types=,",
        "types=Token",
        "types=token, step",
        "types=step_completed",
        "types=custom:",
        "types=custom:a-b",
        "types=custom:token",
        "types=*",
        "types=gap",
        "preset=typo",
        "preset=chat,debug",
        "types=token&preset=chat",
        "types=token&types=step",
        "view=full",
    ],
)
def test_what_there_is_not_is_refused(client: httpx.Client, run_id: str, query: str) -> None:
    refused = f"f-{uuid.uuid4().hex}"
    for method, url in (("GET", f"/runs/{run_id}/events"), ("POST", f"/agents/script/invoke/stream?run_id={refused}")):
        joined = f"{url}{'&' if '?' in url else '?'}{query}"
        reply = client.request(method, joined, json={"do": []} if method == "POST" else None)
        assert reply.status_code == 422, joined
        assert reply.json()["code"] == "VALIDATION_ERROR"
    assert client.get(f"/runs/{refused}").status_code == 404


def test_an_empty_list_is_absent(client: httpx.Client, run_id: str) -> None:
    assert types_of(read_all(client, "GET", f"/runs/{run_id}/events?types=&preset=&view=")) == EVENTS


def test_every_cursor_is_good_for_every_filter(client: httpx.Client, run_id: str) -> None:
    whole = read_all(client, "GET", f"/runs/{run_id}/events?types=token,custom")

    for start in range(len(EVENTS)):
        found = read_all(client, "GET", f"/runs/{run_id}/events?types=token,custom&from_sequence={start}")
        assert found == [frame for frame in whole if int(frame.id or "") >= start]


def test_the_filter_holds_from_stored_to_live_events(client: httpx.Client, tmp_path: Path) -> None:
    run_id, gate = f"f-{uuid.uuid4().hex}", tmp_path / "gate"
    do = [("tokens", ["a"]), ("progress", 0.1), ("gate", str(gate)), ("tokens", ["b"]), ("progress", 0.2)]
    client.post(f"/agents/script/runs?run_id={run_id}", json={"do": do})
    with client.stream("GET", f"/runs/{run_id}/events?types=progress") as response:
        found = events(response)
        first = [next(found), next(found)]
        gate.touch()
        rest = list(found)

    assert types_of(first) == ["started", "progress"]
    assert types_of(rest) == ["progress", "complete"]
    assert [frame.id for frame in rest] == ["4", "5"]


def test_a_started_run_is_filtered_too(client: httpx.Client) -> None:
    url = "/agents/script/invoke/stream?types=token,custom:other"

    found = read_all(client, "POST", url, json={"do": DO})

    assert types_of(found) == shown("token", "other")
    assert {"request_id"} <= set(found[1].data)
    assert opening(client, url, method="POST", json={"do": []}) == ["filter token,custom:other"]


def test_what_a_run_asks_is_always_sent(client: httpx.Client) -> None:
    run_id = f"f-{uuid.uuid4().hex}"
    interrupts = client.post(f"/agents/ask/invoke?run_id={run_id}", json={}).json()["interrupts"]
    client.post(f"/runs/{run_id}/interrupts/{interrupts[0]['interrupt_id']}", json={"answer": "yes"})
    client.get(f"/runs/{run_id}?wait=20")

    found = read_all(client, "GET", f"/runs/{run_id}/events?preset=minimal")

    assert types_of(found) == ["started", "interrupt", "interrupt_resolved", "complete"]


def test_a_failure_and_a_cancellation_are_always_sent(client: httpx.Client) -> None:
    failed, cancelled = (f"f-{uuid.uuid4().hex}" for _ in range(2))
    client.post(f"/agents/fail/invoke?run_id={failed}", json={})
    client.post(f"/agents/stuck/runs?run_id={cancelled}", json={})
    client.delete(f"/runs/{cancelled}")

    for run_id, last in ((failed, "error"), (cancelled, "cancelled")):
        assert types_of(read_all(client, "GET", f"/runs/{run_id}/events?types=progress")) == ["started", last]


# The setting


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose readers may see little."""
    settings = {"HOLDFAST_EVENTS_ALLOWED": "token, step,custom:score"}
    with running_server(tmp_path_factory.mktemp("narrow"), environment=settings) as process:
        yield process


@pytest.mark.parametrize(
    ("query", "expected", "comment"),
    [
        ("", shown("token", "step", "score"), "filter token,step,custom:score"),
        ("types=token,progress", shown("token"), "filter token"),
        ("types=custom", shown("score"), "filter custom:score"),
        ("types=custom:score,custom:other", shown("score"), "filter custom:score"),
        ("types=progress", shown(), "filter"),
        ("preset=minimal", shown(), "filter"),
        ("preset=chat", shown("token"), "filter token"),
        ("preset=debug", shown("token", "step"), "filter token,step"),
        ("preset=all", shown("token", "step", "score"), "filter token,step,custom:score"),
    ],
)
def test_a_call_only_narrows_what_the_server_allows(
    narrow: ServerProcess, query: str, expected: list[str], comment: str
) -> None:
    with narrow.client() as client:
        run_id = made(client)
        assert types_of(read_all(client, "GET", f"/runs/{run_id}/events?{query}")) == expected
        assert opening(client, f"/runs/{run_id}/events?{query}") == [comment]


def test_a_wrong_list_of_allowed_events_refuses_the_start(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="there is no type 'typo'"):
        start_server(tmp_path, environment={"HOLDFAST_EVENTS_ALLOWED": "token,typo"})
