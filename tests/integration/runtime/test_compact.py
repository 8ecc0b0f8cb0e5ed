"""`view=compact` over the wire: the same text in a fraction of the bytes, from every cursor."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.sse import Frame, events, read_all

TOKENS = 50_000


def text_of(found: list[Frame]) -> str:
    return "".join(frame.data["content"] for frame in found if frame.event == "token")


def script(client: httpx.Client, do: list[tuple[str, Any]], *, waits: bool = True) -> str:
    run_id = f"c-{uuid.uuid4().hex}"
    client.post(f"/agents/script/{'invoke' if waits else 'runs'}?run_id={run_id}", json={"do": do})
    return run_id


def test_fifty_thousand_tokens_are_one_event(client: httpx.Client) -> None:
    run_id = f"c-{uuid.uuid4().hex}"
    client.post(f"/agents/count/invoke?run_id={run_id}", json={"n": TOKENS})
    raw = client.get(f"/runs/{run_id}/events").content

    compact = client.get(f"/runs/{run_id}/events?view=compact").content

    found = [json.loads(line[6:]) for line in compact.splitlines() if line.startswith(b"data: ")]
    last = json.loads(raw.splitlines()[-6][6:])
    assert [event["type"] for event in found] == ["started", "token", "complete"]
    assert found[1]["content"] == "".join(f"{number} " for number in range(TOKENS))
    assert (found[1]["first_sequence"], found[1]["sequence"], found[1]["id"]) == (1, TOKENS, f"evt_{TOKENS}")
    assert found[1]["timestamp"] == last["timestamp"]
    assert len(compact) < 0.05 * len(raw)


def test_a_cursor_inside_a_row_works(client: httpx.Client) -> None:
    run_id = script(client, [("tokens", list("abcde")), ("progress", 0.5), ("tokens", list("fg")), ("thinking", "h")])
    texts = dict(enumerate("abcde", 1)) | dict(enumerate("fg", 7))

    for start in range(11):
        found = read_all(client, "GET", f"/runs/{run_id}/events?view=compact&from_sequence={start}")
        assert text_of(found) == "".join(text for sequence, text in texts.items() if sequence >= start)
        rows = [frame for frame in found if "first_sequence" in frame.data]
        assert all(frame.data["first_sequence"] >= start for frame in rows)
        covered: list[int] = []
        for frame in found:
            covered += range(frame.data.get("first_sequence", frame.data["sequence"]), frame.data["sequence"] + 1)
        assert covered == list(range(start, 11))
        assert [frame.id for frame in found] == [str(frame.data["sequence"]) for frame in found]


def test_what_a_compact_reader_saw_last_is_a_cursor_for_every_view(client: httpx.Client) -> None:
    run_id = script(client, [("tokens", list("abc")), ("progress", 0.5), ("tokens", list("de"))])
    whole = read_all(client, "GET", f"/runs/{run_id}/events")
    compact = read_all(client, "GET", f"/runs/{run_id}/events?view=compact")

    for seen in compact[:-1]:
        rest = read_all(client, "GET", f"/runs/{run_id}/events", headers={"Last-Event-ID": seen.id or ""})
        assert rest == whole[int(seen.id or "") + 1 :]


def test_an_unfinished_row_and_live_events_come_as_they_are(client: httpx.Client, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    do = [
        ("tokens", list("ab")),
        ("progress", 0.5),
        ("tokens", list("cd")),
        ("gate", str(first)),
        ("tokens", list("ef")),
        ("gate", str(second)),
    ]
    run_id = script(client, do, waits=False)
    with client.stream("GET", f"/runs/{run_id}/events") as response:
        raw = events(response)
        while next(raw).data.get("content") != "d":
            pass
    with client.stream("GET", f"/runs/{run_id}/events?view=compact") as response:
        found = events(response)
        stored = [next(found) for _ in range(5)]
        first.touch()
        live = [next(found) for _ in range(2)]
        second.touch()
        end = list(found)

    assert [frame.data.get("content") for frame in stored] == [None, "ab", None, "c", "d"]
    assert [frame.data.get("first_sequence") for frame in stored] == [None, 1, None, None, None]
    assert [frame.data.get("content") for frame in live] == ["e", "f"]
    assert [frame.event for frame in end] == ["complete"]


@pytest.mark.parametrize("size", [100_000, 700_000])
def test_a_row_over_a_mebibyte_is_several(client: httpx.Client, size: int) -> None:
    run_id = script(client, [("flood", {"n": 15, "size": size}), ("progress", 0.5)])

    found = [
        frame for frame in read_all(client, "GET", f"/runs/{run_id}/events?view=compact") if frame.event == "token"
    ]

    assert text_of(found) == "x" * size * 15
    assert all(len(frame.data["content"]) <= 1024 * 1024 for frame in found)
    assert len(found) == (2 if size == 100_000 else 15)
    assert [frame.data["first_sequence"] for frame in found[1:]] == [frame.data["sequence"] + 1 for frame in found[:-1]]


def test_an_unfinished_row_over_a_mebibyte_comes_as_it_is(client: httpx.Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    do = [("progress", 0.1), ("flood", {"n": 15, "size": 100_000}), ("gate", str(gate))]
    run_id = script(client, do, waits=False)
    with client.stream("GET", f"/runs/{run_id}/events?from_sequence=16") as response:
        next(events(response))
    with client.stream("GET", f"/runs/{run_id}/events?view=compact") as response:
        found = events(response)
        stored = [next(found) for _ in range(17)]
        gate.touch()
        end = list(found)

    assert [frame.id for frame in stored] == [str(number) for number in range(17)]
    assert all("first_sequence" not in frame.data for frame in stored)
    assert [frame.event for frame in end] == ["complete"]


def test_a_filter_and_the_compact_view_go_together(client: httpx.Client) -> None:
    run_id = script(client, [("tokens", list("ab")), ("thinking", "c"), ("progress", 0.5)])

    found = read_all(client, "GET", f"/runs/{run_id}/events?view=compact&types=thinking")

    assert [(frame.event, frame.data.get("content")) for frame in found] == [
        ("started", None),
        ("thinking", "c"),
        ("complete", None),
    ]


def test_a_repeated_start_can_be_read_compactly(client: httpx.Client) -> None:
    headers = {"Idempotency-Key": uuid.uuid4().hex, "X-Request-Id": "r-1"}
    url, body = "/agents/script/invoke/stream?view=compact", {"do": [("tokens", list("abc"))]}
    read_all(client, "POST", url, json=body, headers=headers)

    found = read_all(client, "POST", url, json=body, headers=headers)

    assert [frame.data.get("content") for frame in found] == [None, "abc", None]
    assert [list(frame.data)[-1] for frame in found] == ["request_id"] * 3
