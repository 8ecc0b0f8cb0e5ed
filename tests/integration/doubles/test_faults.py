"""What a test can let happen to its client, without a socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from datetime import datetime

import httpx2
import pytest

from holdfast.agents.assistant import AssistantProgram
from holdfast.testing import Ask, Drop, FakeServer, Restart, Return, Step, Token, Wait, scripted
from holdfast.testing.model import Calls, Says, ScriptedModel
from tests.support.sse import frames
from tests.support.until import until


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[FakeServer], httpx2.AsyncClient]]:
    """A client of a fake server, closed in the end."""
    made: list[httpx2.AsyncClient] = []

    def client(server: FakeServer) -> httpx2.AsyncClient:
        headers = {"X-API-Key": server.key}
        made.append(httpx2.AsyncClient(base_url=server.url, headers=headers, transport=server.transport(), timeout=20))
        return made[-1]

    yield client
    for item in made:
        await item.aclose()


Connect = Callable[[FakeServer], httpx2.AsyncClient]
Start = Callable[..., FakeServer]


async def _read(
    client: httpx2.AsyncClient, path: str, *, method: str = "GET", after: int = -1
) -> list[tuple[int, str]]:
    """Sequence and type of the events up to the end of the stream or its cut."""
    headers = {} if after < 0 else {"Last-Event-ID": str(after)}
    lines: list[str] = []
    try:
        async with client.stream(method, path, headers=headers, json={} if method == "POST" else None) as response:
            assert response.status_code in (200, 204)
            async for line in response.aiter_lines():
                lines.append(line)  # noqa: PERF401  what came before a cut is kept
    except httpx2.TransportError:
        pass
    return [(int(frame.id), frame.event) for frame in frames(iter(lines)) if frame.event and frame.id is not None]


async def _read_on(client: httpx2.AsyncClient, run_id: str, found: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Come back, as a client does, until the run's end was read."""
    while not found or found[-1][1] != "complete":
        found += await _read(client, f"/runs/{run_id}/events", after=found[-1][0] if found else -1)
    return found


TALE = scripted("tale", *(Token(f"{number} ") for number in range(20)), Return("told"))


async def test_a_stream_cut_after_any_byte_is_read_to_its_end(fake_server: Start, connect: Connect) -> None:
    server = fake_server(TALE)
    client = connect(server)
    whole = await _read(client, "/agents/tale/invoke/stream?run_id=r", method="POST")
    size = len((await client.get("/runs/r/events")).content)

    for after in range(0, size, 7):
        server.cut(after_bytes=after)
        assert await _read_on(client, "r", []) == whole
    assert server.faults_left == 0


async def test_a_script_cuts_the_network_and_kills_the_server(fake_server: Start, connect: Connect) -> None:
    script = scripted("story", Token("a"), Drop(), Step("s", 1), Token("b"), Restart(), Token("c"), Return("end"))
    server = fake_server(script)
    client = connect(server)

    found = await _read(client, "/agents/story/invoke/stream?run_id=r", method="POST")
    at_the_drop = [name for _, name in found]
    found += await _read(client, "/runs/r/events", after=found[-1][0])
    await asyncio.to_thread(server.wait_starts, 2)
    found = await _read_on(client, "r", found)

    assert at_the_drop == ["started", "token"][: len(at_the_drop)]
    assert [number for number, _ in found] == list(range(len(found)))
    names = [name for _, name in found]
    assert names == ["started", "token", "step_started", "step", "token", "restarted", "token", "token", "complete"]
    assert server.starts == 2
    run = (await client.get("/runs/r")).json()
    assert (run["status"], run["output"], run["attempt"]) == ("completed", "end", 2)


async def test_a_question_outlives_a_restart_of_either_kind(fake_server: Start, connect: Connect) -> None:
    server = fake_server(scripted("asks", Token("x"), Ask("Which?"), Token("y")))
    client = connect(server)
    for kill in (True, False):
        run_id = f"r-{kill}"
        assert (await client.post(f"/agents/asks/invoke?run_id={run_id}", json={})).json()["status"] == "waiting"
        await asyncio.to_thread(server.restart, kill=kill)
        [question] = (await client.get(f"/runs/{run_id}/interrupts")).json()["interrupts"]
        path = f"/runs/{run_id}/interrupts/{question['interrupt_id']}"

        assert (await client.post(path, json={"answer": "this"})).status_code == 200
        assert (await client.get(f"/runs/{run_id}?wait=10")).json()["output"] == "xy"


async def test_refusals_come_before_anything_is_done(fake_server: Start, connect: Connect) -> None:
    server = fake_server(TALE)
    client = connect(server)
    server.refuse(429, retry_after=3)
    server.refuse(503)
    server.refuse(502)
    server.unreachable()

    limited = await client.post("/runs?agent=tale&run_id=r", json={})
    stopping = await client.get("/tasks")
    proxy = await client.post("/runs?agent=tale&run_id=r", json={})
    with pytest.raises(httpx2.ConnectError):
        await client.post("/runs?agent=tale&run_id=r", json={})

    assert (limited.status_code, limited.headers["retry-after"]) == (429, "3")
    assert limited.json()["code"] == "RATE_LIMIT_EXCEEDED"
    assert (stopping.status_code, stopping.json()["error"]) == (503, "DRAINING")
    assert (proxy.status_code, proxy.headers["content-type"]) == (502, "text/html")
    assert (await client.get("/runs/r")).status_code == 404


async def test_a_lost_answer_was_carried_out(fake_server: Start, connect: Connect) -> None:
    server = fake_server(TALE)
    client = connect(server)
    headers = {"Idempotency-Key": "k"}
    server.lose_answer()

    with pytest.raises(httpx2.ReadError):
        await client.post("/runs?agent=tale", json={}, headers=headers)
    again = await client.post("/runs?agent=tale", json={}, headers=headers)

    assert again.headers["idempotency-replayed"] == "true"
    assert len((await client.get("/runs")).json()["runs"]) == 1


async def test_a_half_open_connection_is_silent_without_an_end(fake_server: Start, connect: Connect) -> None:
    server = fake_server(TALE)
    client = connect(server)
    await client.post("/agents/tale/invoke?run_id=r", json={})
    server.freeze(after_bytes=200)

    with pytest.raises(httpx2.ReadTimeout):
        await client.get("/runs/r/events", timeout=0.2)


async def test_what_a_test_lets_go_on_went_no_further_before(fake_server: Start, connect: Connect) -> None:
    server = fake_server(scripted("slow", Token("before"), Wait("door"), Token("after")))
    client = connect(server)
    async with client.stream("POST", "/agents/slow/invoke/stream?run_id=r", json={}) as response:
        seen: list[str] = []
        async for line in response.aiter_lines():
            if line == "event: token" and "event: token" not in seen:
                assert (await client.get("/runs/r")).json()["status"] == "running"
                server.go_on("door")
            seen.append(line)
    assert seen.count("event: token") == 2


async def test_a_reader_that_takes_nothing_does_not_slow_the_run(fake_server: Start, connect: Connect) -> None:
    server = fake_server(scripted("long", *(Token("x" * 1000) for _ in range(3000)), Return("end")))
    client = connect(server)
    async with client.stream("POST", "/agents/long/invoke/stream?run_id=r", json={}) as stalled:
        lines = stalled.aiter_lines()
        await anext(lines)
        assert (await client.get("/runs/r?wait=20")).json()["status"] == "completed"
        rest = [line async for line in lines]
    assert rest.count("event: token") == 3000


async def test_scripts_see_their_inputs_and_many_clients_one_run(fake_server: Start, connect: Connect) -> None:
    agent = scripted("slow", Token("a"), Wait(), Token("b"))
    server = fake_server(agent)
    readers = [connect(server) for _ in range(5)]
    await readers[0].post("/runs?agent=slow&run_id=r", json={"word": "x"})
    reading = [asyncio.create_task(_read(client, "/runs/r/events")) for client in readers]
    server.go_on()

    found = [await task for task in reading]

    assert all(events == found[0] for events in found)
    assert agent.inputs == [{"word": "x"}]


async def test_hours_pass_and_what_executes_is_still_held(fake_server: Start, connect: Connect) -> None:
    """Leases are renewed between the steps in which time passes; what is due in it happens, here a question's expiry."""
    asks = scripted("asks", Ask("Which?", expires_in=5400))
    server = fake_server(scripted("works", Token("a"), Wait(), Token("b")), asks)
    client = connect(server)
    await client.post("/runs?agent=works&run_id=works", json={})
    assert (await client.post("/agents/asks/invoke?run_id=asks", json={})).json()["status"] == "waiting"

    await asyncio.to_thread(server.advance, 3600)
    assert (await client.get("/runs/asks")).json()["status"] == "waiting"
    await asyncio.to_thread(server.advance, 3600)
    server.go_on()

    assert await _read_on(client, "works", []) == [(0, "started"), (1, "token"), (2, "token"), (3, "complete")]
    events = (await client.get("/runs/asks/events")).text
    assert "INTERRUPT_EXPIRED" in events
    works, asked = [(await client.get(f"/runs/{run_id}")).json() for run_id in ("works", "asks")]
    assert works["attempt"] == 1
    for run in (works, asked):
        took = datetime.fromisoformat(run["completed_at"]) - datetime.fromisoformat(run["created_at"])
        assert 5400 <= took.total_seconds() < 7300


async def test_what_cannot_start_says_why() -> None:
    with pytest.raises(Exception, match="two agents are named"), FakeServer(TALE, scripted("tale")):
        pass


async def test_an_assistant_remembers_on_its_store_after_a_restart(fake_server: Start, connect: Connect) -> None:
    model = ScriptedModel([Calls("knowledge_write", {"content": "Tea is green."})], [Says("Noted.")])
    server = fake_server(AssistantProgram(model), settings={"HOLDFAST_LEARNING": "false"})
    client = connect(server)
    for task_id in ("before", "after"):
        reply = await client.post("/execute", json={"task_id": task_id, "message": "Tea is green."})
        assert '"error"' not in reply.text
        await asyncio.to_thread(server.restart)

    found = (await client.get("/memory/knowledge")).json()["items"]
    assert [item["content"] for item in found] == ["Tea is green.", "Tea is green."]


async def test_the_lost_answer_of_a_stream_is_lost_at_once(fake_server: Start, connect: Connect) -> None:
    """The run waits and the stream goes on, with a heartbeat every second: it is not waited for."""
    server = fake_server(scripted("waiter", Ask("Go on?")))
    client = connect(server)
    server.lose_answer()

    with pytest.raises(httpx2.ReadError):
        await client.post("/agents/waiter/invoke/stream?run_id=r", json={})

    assert (await client.get("/runs/r?wait=10")).json()["status"] == "waiting"


async def test_a_fake_server_serves_again_when_it_is_entered_again(connect: Connect) -> None:
    """With another store: what was there is gone with the first one."""
    server = FakeServer(scripted("greeter", Return("hi")))
    for _ in range(2):
        with server:
            reply = await connect(server).post("/agents/greeter/invoke?run_id=r", json={})
            assert reply.json()["output"] == "hi"


async def test_a_script_of_a_model_that_is_too_short_says_so(fake_server: Start, connect: Connect) -> None:
    server = fake_server(AssistantProgram(ScriptedModel([Calls("now")])))

    reply = await connect(server).post("/invoke", json={"message": "How late is it?"})

    assert "asked for response 2 of this turn, and its script has 1" in reply.text


async def test_who_leaves_while_it_connects_leaves_nothing(fake_server: Start) -> None:
    """As the system closes the socket of a client that was cancelled."""
    network = fake_server()._network
    connecting = asyncio.create_task(network.connect(None))
    await asyncio.sleep(0)

    connecting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await connecting
    await until(lambda: not network._links)


async def test_a_server_that_does_not_answer_is_given_up_in_time(fake_server: Start, connect: Connect) -> None:
    """It is at work, or stopped, and takes no connections: the client's own limit holds."""
    server = fake_server()
    at_work, may_go_on = threading.Event(), threading.Event()
    assert server._loop is not None
    server._loop.call_soon_threadsafe(at_work.set)
    server._loop.call_soon_threadsafe(may_go_on.wait, 20)
    await asyncio.to_thread(at_work.wait, 20)

    with pytest.raises(httpx2.ConnectTimeout):
        await connect(server).get("/health", timeout=0.05)

    may_go_on.set()
