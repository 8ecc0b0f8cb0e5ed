"""A journal of which one byte is not what was written: nobody gets it as if it were whole."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.server import ServerProcess, running_server
from tests.support.sse import read_all

# What each run does, and how many tokens it has. A step ends the segment before it; a page of the store holds 128 KiB.
RUNS = {
    "small": ([("tokens", ["a", "b", "c"])], 3),
    "large": (
        [
            ("flood", {"n": 300, "size": 1000}),
            ("step", "one"),
            ("flood", {"n": 100, "size": 1000}),
            ("step", "two"),
            ("tokens", ["z"]),
        ],
        401,
    ),
}
DAMAGED = {"small": 2, "large": 350}


def flip(data: Path, run_id: str, sequence: int) -> None:
    """Change one letter in the text of an event, and nothing else."""
    with contextlib.closing(sqlite3.connect(data / "holdfast.db")) as database, database:
        where = "number = (SELECT number FROM runs WHERE run_id = ?) AND ? BETWEEN first AND last"
        row = database.execute(f"SELECT id, body FROM segments WHERE {where}", (run_id, sequence)).fetchone()
        body = bytearray(row[1])
        place = body.index(b'"content":"', body.index(b'"id":"evt_%d"' % sequence)) + len(b'"content":"')
        body[place] ^= 1
        database.execute("UPDATE segments SET body = ? WHERE id = ?", (bytes(body), row[0]))


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with runs of each kind, one of them damaged."""
    data = tmp_path_factory.mktemp("damage") / "data"
    with running_server(data) as server, server.client() as client:
        for name, (do, _) in RUNS.items():
            for run_id in (name, f"{name}-whole"):
                assert client.post(f"/agents/script/invoke?run_id={run_id}", json={"do": do}).status_code == 200
        server.terminate()
        server.wait()
    for name, sequence in DAMAGED.items():
        flip(data, name, sequence)
    with running_server(data) as server:
        yield server


@pytest.fixture
def client(damaged: ServerProcess) -> Iterator[httpx.Client]:
    with damaged.client() as made:
        yield made


@pytest.mark.parametrize("query", ["", "?types=progress", "?view=compact", "?from_sequence=3"])
def test_reading_a_damaged_journal_is_an_error(client: httpx.Client, query: str) -> None:
    reply = client.get(f"/runs/small/events{query}")

    assert (reply.status_code, reply.json()["code"]) == (500, "JOURNAL_CORRUPT")
    assert reply.json()["first_bad_sequence"] <= 2
    assert reply.headers["x-run-id"] == "small"


def test_a_stream_that_meets_damage_later_is_cut_before_it(client: httpx.Client) -> None:
    found = b""
    with client.stream("GET", "/runs/large/events") as response, contextlib.suppress(httpx.TransportError):
        for piece in response.iter_bytes():
            found += piece

    assert response.status_code == 200
    assert b"id: 1\n" in found
    assert b"id: 303\n" not in found
    assert b"event: complete" not in found


def test_what_lies_behind_the_damage_can_be_read(client: httpx.Client) -> None:
    """Its own hashes fit, each with the one before it."""
    found = read_all(client, "GET", "/runs/large/events?from_sequence=405")

    assert [frame.event for frame in found] == ["token", "complete"]


@pytest.mark.parametrize("name", RUNS)
def test_a_damaged_journal_is_not_exported(client: httpx.Client, name: str) -> None:
    reply = client.get(f"/runs/{name}/export")

    assert (reply.status_code, reply.json()["code"]) == (500, "JOURNAL_CORRUPT")


@pytest.mark.parametrize(("name", "sequence"), DAMAGED.items())
def test_verification_names_where_the_damage_begins(client: httpx.Client, name: str, sequence: int) -> None:
    reply = client.get(f"/runs/{name}/verify")

    assert reply.status_code == 200
    assert reply.json()["ok"] is False
    assert sequence - 50 < reply.json()["first_bad_sequence"] <= sequence


@pytest.mark.parametrize("name", RUNS)
def test_other_journals_are_whole(client: httpx.Client, name: str) -> None:
    assert client.get(f"/runs/{name}-whole/verify").json()["ok"] is True
    assert client.get(f"/runs/{name}-whole/events").text.count("event: token") == RUNS[name][1]
    assert client.get(f"/runs/{name}-whole/export").status_code == 200
