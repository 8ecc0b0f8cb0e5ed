"""
The Skills API over two servers of one store, both in this process: one after the other on each store, and two at a time
on Postgres.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.integration.skills.api_skills import Functions, serving
from tests.support.hook_receiver import hook_receiver
from tests.support.postgres import PostgresServer
from tests.support.skills_server import SkillsServer
from tests.support.stores import new_postgres_store
from tests.support.until import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = {"inputs": {"text": "x"}}


async def frames_of(server: SkillsServer, run_id: str, **options: Any) -> list[dict[str, Any]]:
    return await server.frames("GET", f"/v1/runs/{run_id}/stream", **options)


# One after the other


async def test_a_confirmation_is_given_to_another_process_than_the_one_that_asked(
    own_store: dict[str, str], tmp_path: Path
) -> None:
    async with serving(tmp_path, store=own_store) as (first, before):
        asked = await first.execute("asks", {"text": "x"})
        await first.die()
    async with serving(tmp_path, store=own_store) as (second, after):
        record = (await second.get(f"/v1/runs/{asked['run_id']}")).json()
        waiting = (await second.get("/v1/runs?status=waiting_for_human")).json()["runs"]
        answers = [await second.post(f"/v1/runs/{asked['run_id']}/approve", {}, key="operator") for _ in range(2)]
        shown = await frames_of(second, asked["run_id"])

    assert (record["status"], record["interrupts"]) == ("waiting_for_human", [asked["interrupt"]])
    assert [item["run_id"] for item in waiting] == [asked["run_id"]]
    assert [reply.status_code for reply in answers] == [200, 200]
    assert (shown[-1]["status"], shown[-1]["outputs"]) == ("completed", {"result": "X"})
    assert [frame["sequence"] for frame in shown] == list(range(len(shown)))
    assert (before.calls, after.calls) == ({}, {"shout x": 1})


async def test_what_was_in_flight_is_called_again_by_another_process_and_nothing_else(
    own_store: dict[str, str], tmp_path: Path
) -> None:
    headers = {"idempotency_key": "once"}
    async with serving(tmp_path, store=own_store) as (first, before):
        accepted = await first.post("/v1/skills/pair/execute/async", TEXT, **headers)
        run_id = accepted.json()["run_id"]
        await before.began.wait()
        async with first.stream("GET", f"/v1/runs/{run_id}/stream") as reply:
            lines = reply.aiter_lines()
            seen = [line async for line in _to_second_step(lines)]
        await first.die()
    async with serving(tmp_path, store=own_store) as (second, after):
        after.gate.set()
        again = await second.post("/v1/skills/pair/execute/async", TEXT, **headers)
        rest = await frames_of(second, run_id, last_event_id=seen[-1].removeprefix("id: "))
        whole = await frames_of(second, run_id)

    assert again.json() == accepted.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert (before.calls, after.calls) == ({"shout x": 1, "wait X": 1}, {"wait X": 1})
    assert [frame["sequence"] for frame in whole] == list(range(len(whole)))
    assert whole[len(seen) :] == rest
    assert rest[-1]["outputs"] == {"result": "X"}


async def _to_second_step(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    """The ids up to the start of the second step."""
    starts = 0
    async for line in lines:
        if line.startswith("id: "):
            yield line
        starts += line == "event: step_start"
        if starts == 2:
            return


# Two at a time


class Two:
    """Two servers that are up."""

    def __init__(self, here: SkillsServer, there: SkillsServer, working: Functions, other: Functions) -> None:
        self.here, self.there, self.working, self.other = here, there, working, other

    @property
    def calls(self) -> dict[str, int]:
        """Those at both."""
        return dict(self.working.calls + self.other.calls)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Two]:
    folders = [tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("there")]
    async with contextlib.AsyncExitStack() as running:
        store = running.enter_context(new_postgres_store(postgres))
        (here, working), (there, other) = [
            await running.enter_async_context(serving(folder, store=store, webhook_allow=("127.0.0.1",)))
            for folder in folders
        ]
        yield Two(here, there, working, other)


@pytest.fixture
def two(pair: Two) -> Iterator[Two]:
    yield pair
    for functions in (pair.working, pair.other):
        functions.gate.set()
        functions.reset()


async def test_a_run_is_followed_listed_and_read_where_it_is_not_executed(two: Two) -> None:
    run_id = (await two.here.post("/v1/skills/slow/execute/async", TEXT)).json()["run_id"]
    await two.working.began.wait()
    running = (await two.there.get("/v1/runs?status=running&skill_id=slow")).json()["runs"]

    async with two.there.stream("GET", f"/v1/runs/{run_id}/stream") as reply:
        lines = reply.aiter_lines()
        async for line in lines:
            if line == "event: step_start":
                two.working.gate.set()
                break
        rest = [line async for line in lines]

    assert [item["run_id"] for item in running] == [run_id]
    assert [line for line in rest if line.startswith("event: ")][-1] == "event: done"
    record = (await two.there.get(f"/v1/runs/{run_id}")).json()
    assert (record["status"], record["result"]["outputs"]) == ("completed", {"result": "x"})
    assert await frames_of(two.there, run_id) == await frames_of(two.here, run_id)


async def test_what_one_asks_is_decided_once_at_the_other(two: Two) -> None:
    asked = await two.here.execute("asks", {"text": "x"})
    path = f"/v1/runs/{asked['run_id']}"

    replies = await asyncio.gather(
        two.here.post(f"{path}/deny", {}, key="operator"), two.there.post(f"{path}/approve", {}, key="operator")
    )

    approved = replies[1].status_code == 200
    assert sorted(reply.status_code for reply in replies) == [200, 409]
    done = (await frames_of(two.here, asked["run_id"], key="operator"))[-1]
    assert done["status"] == ("completed" if approved else "failed")
    assert two.calls == ({"shout x": 1} if approved else {})


async def test_a_call_is_cancelled_from_where_it_is_not_executed(two: Two) -> None:
    run_id = (await two.here.post("/v1/skills/slow/execute/async", TEXT)).json()["run_id"]
    await two.working.began.wait()

    cancelled = await two.there.post(f"/v1/runs/{run_id}/cancel")

    assert cancelled.status_code == 200
    done = (await frames_of(two.here, run_id))[-1]
    assert done["error"]["code"] == "cancelled"


async def test_one_key_is_one_run_at_both(two: Two) -> None:
    path = "/v1/skills/my.skill/execute"

    replies = await asyncio.gather(
        *(server.post(path, TEXT, idempotency_key="both") for server in (two.here, two.there) * 3)
    )
    other = await two.there.post(path, {"inputs": {"text": "y"}}, idempotency_key="both")

    assert {reply.status_code for reply in replies} == {200}
    assert len({reply.json()["run_id"] for reply in replies}) == 1
    assert two.calls == {"shout x": 1}
    assert (other.status_code, other.json()["error"]["code"]) == (422, "invalid_request")


async def test_what_one_executed_is_forked_and_replayed_by_the_other(two: Two) -> None:
    two.working.is_broken = True
    body = {**TEXT, "options": {"max_workers": 1}}
    failed = (await two.here.post("/v1/skills/chain/execute", body)).json()["run_id"]
    made = dict(two.calls)

    fork = (await two.there.post(f"/v1/runs/{failed}/fork", {"from_step": "second"})).json()
    forked = (await frames_of(two.there, fork["run_id"]))[-1]
    replay = (await two.there.post(f"/v1/runs/{failed}/replay", {})).json()
    replayed = (await frames_of(two.there, replay["run_id"]))[-1]

    assert made == {"shout x": 1, "shout apart": 1, "fail X": 1}
    assert fork["reused"] == ["first", "apart"]
    assert forked["outputs"] == replayed["outputs"] == {"result": "X"}
    assert two.other.calls == {"fail X": 2, "shout X": 2, "shout x": 1, "shout apart": 1}


async def test_a_webhook_that_one_keeps_hears_once_of_what_the_other_executes(two: Two) -> None:
    with hook_receiver() as receiver:
        events = {"url": f"{receiver.url}/all", "events": ["run.completed", "run.waiting"]}
        made = await two.here.post("/v1/webhooks", events, key="operator")
        listed = (await two.there.get("/v1/webhooks", key="operator")).json()["subscriptions"]
        run_id = (await two.there.execute("my.skill", {"text": "x"}))["run_id"]
        asked = (await two.there.execute("asks", {"text": "x"}))["run_id"]
        heard = await asyncio.to_thread(receiver.wait, "/all", lambda found: len(found) >= 2)
        webhook = f"/v1/webhooks/{listed[0]['id']}"
        gone = await two.there.call("DELETE", webhook, key="operator")

        async def is_gone() -> bool:
            return (await two.here.call("DELETE", webhook, key="operator")).status_code == 404

        await until(is_gone)

    assert (made.status_code, gone.status_code, len(listed)) == (201, 200, 1)
    assert sorted((item.event["event"], item.event["data"]["run_id"]) for item in heard) == [
        ("run.completed", run_id),
        ("run.waiting", asked),
    ]
