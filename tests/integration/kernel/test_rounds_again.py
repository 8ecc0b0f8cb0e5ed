"""Rounds whose run is executed again: full ones, refused calls, calls in steps and in nodes of graphs."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any, TypedDict

import msgspec
from langgraph.graph import END, START, StateGraph
from pydantic_ai.messages import ToolReturnPart

from holdfast import Context, agent, get_current_context
from holdfast.agents.assistant import AssistantProgram
from holdfast.agents.langgraph import GraphProgram
from holdfast.agents.tools import Tools
from holdfast.clock import HeldClock
from holdfast.execution.client_tools import KIND, ClientTool
from holdfast.execution.rounds import CALL_BYTES_MAX, CALLS_MAX
from holdfast.model import File, Interrupt, Record, Run
from holdfast.runs import GivenOutput, ToolOutput
from holdfast.testing.model import Calls, Says, ScriptedModel
from tests.support.kernel import CALLER, QUICK, Kernel, kernel
from tests.support.until import until


async def rounds_of(it: Kernel, run: Run) -> list[Interrupt]:
    """All rounds so far, once the run was let go."""
    await it.waiting(run)
    return list(await it.runs.interrupts(CALLER, run.run_id))


async def rounds_asked(it: Kernel, run_id: str, count: int) -> list[Interrupt]:
    """All rounds, once there are so many, although the run is held."""

    async def found() -> list[Interrupt]:
        rounds = list(await it.runs.interrupts(CALLER, run_id))
        return rounds if len(rounds) >= count else []

    rounds: list[Interrupt] = await until(found, seconds=20)
    return rounds


async def answer(it: Kernel, run: Run, *call_ids: str) -> None:
    """Each with its own place."""
    outputs = [GivenOutput(ToolOutput(name, str(place)), None) for place, name in enumerate(call_ids)]
    assert {item.state for item in await it.runs.answer_calls(CALLER, run, outputs)} == {"accepted"}


def ids(interrupt: Interrupt) -> list[str]:
    return [part.tool_call_id for part in interrupt.parts]


async def test_a_call_over_the_limits_of_a_round_raises_and_does_so_again(tmp_path: Path) -> None:
    large = "x" * (CALL_BYTES_MAX - 100)

    @agent("many", restart="always")
    async def many(context: Context, input: Any) -> list[list[str]]:
        by_count = [context.call_tool("small") for _ in range(CALLS_MAX + 1)]
        found = [await asyncio.gather(*by_count, return_exceptions=True)]
        by_size = [context.call_tool("large", {"text": large}) for _ in range(5)]
        found.append(await asyncio.gather(*by_size, return_exceptions=True))
        return [[str(item) for item in some if isinstance(item, BaseException)] for some in found]

    async with kernel(tmp_path, many) as it:
        run = await it.start("many")
        (first,) = await rounds_of(it, run)
        await answer(it, run, *ids(first))
        _, second = await rounds_of(it, run)
        await answer(it, run, *ids(second))
        ended = await it.finished(run)
        events = await it.events(run)

    assert [len(item.parts) for item in (first, second)] == [CALLS_MAX, 4]
    assert ended.status == "completed"
    assert events[-1]["output"] == [
        [f"the call of small is over the {CALLS_MAX} calls of a round"],
        ["with the call of large a round has over 1048576 bytes of arguments"],
    ]


async def test_what_may_wait_is_in_the_next_round_and_one_round_is_open_at_a_time(tmp_path: Path) -> None:
    @agent("patient", restart="always")
    async def patient(context: Context, input: Any) -> int:
        calls = (context.have_called("find", {}, key=None, may_wait=True) for _ in range(CALLS_MAX + 2))
        return len(await asyncio.gather(*calls))

    async with kernel(tmp_path, patient) as it:
        run = await it.start("patient")
        (first,) = await rounds_of(it, run)
        await answer(it, run, *ids(first)[:10])
    async with kernel(tmp_path, patient) as it:  # executed again, the surplus still waits
        await answer(it, run, *ids(first)[10:20])
        assert len(await rounds_of(it, run)) == 1
        await answer(it, run, *ids(first)[20:])
        _, second = await rounds_of(it, run)
        await answer(it, run, *ids(second))
        events = await it.events(run)

    assert [len(item.parts) for item in (first, second)] == [CALLS_MAX, 2]
    assert events[-1]["output"] == CALLS_MAX + 2


async def test_a_call_that_nobody_waits_for_any_more_holds_the_next_round_only_until_its_answer(
    tmp_path: Path,
) -> None:
    asked = asyncio.Event()

    @agent("impatient", restart="never")
    async def impatient(context: Context, input: Any) -> str:
        first = asyncio.create_task(context.call_tool("slow"))
        await asyncio.sleep(0)
        await rounds_asked(it, context.run_id, 1)
        first.cancel()
        asked.set()
        return await context.call_tool("next")

    async with kernel(tmp_path, impatient) as it:
        run = await it.start("impatient")
        await asked.wait()
        (first,) = await rounds_asked(it, run.run_id, 1)
        await answer(it, run, *ids(first))
        _, second = await rounds_asked(it, run.run_id, 2)
        await answer(it, run, *ids(second))
        events = await it.events(run)

    assert events[-1]["output"] == "0"


async def test_calls_in_steps_let_the_run_go_and_belong_to_their_steps(tmp_path: Path) -> None:
    executing = []

    @agent("stepping", restart="always")
    async def stepping(context: Context, input: Any) -> list[str]:
        async def both(name: str) -> list[str]:
            executing.append(name)
            return list(await asyncio.gather(context.call_tool(name), context.call_tool(name)))

        await asyncio.gather(context.step("a", both, "a"), context.step("b", both, "b"))
        await context.emit("between", number=1)
        last: list[str] = await context.step("c", both, "c")
        await context.emit("after", number=2)
        return last

    async with kernel(tmp_path, stepping) as it:
        run = await it.start("stepping")
        (first,) = await rounds_of(it, run)
    async with kernel(tmp_path, stepping) as it:
        await answer(it, run, *ids(first))
        _, second = await rounds_of(it, run)
    async with kernel(tmp_path, stepping) as it:
        waiting = await it.runs.get(CALLER, run.run_id)
        await answer(it, run, *ids(second))
        events = await it.events(run)

    types = [event["type"] for event in events]
    assert len(first.parts) == 4
    assert waiting.status == "waiting"
    assert events[-1]["output"] == ["0", "1"]
    assert types.count("between") == types.count("after") == 1
    assert executing == ["a", "b", "a", "b", "c", "c"]


class State(TypedDict, total=False):
    found: list[str]


async def test_a_node_of_a_graph_asks_like_any_other_code(tmp_path: Path) -> None:
    async def look(state: State) -> State:
        context = get_current_context()
        assert context is not None
        return {"found": [*state.get("found", []), await context.call_tool("crm.find", {"a": 1})]}

    builder = StateGraph(State)
    builder.add_node("first", look)
    builder.add_node("second", look)
    builder.add_edge(START, "first")
    builder.add_edge("first", "second")
    builder.add_edge("second", END)
    graph: Any = GraphProgram(builder.compile(), "graph")

    async with kernel(tmp_path, graph) as it:
        run = await it.start("graph", {"found": []})
        (first,) = await rounds_of(it, run)
        await answer(it, run, *ids(first))
        _, second = await rounds_of(it, run)
    async with kernel(tmp_path, graph) as it:
        await answer(it, run, *ids(second))
        events = await it.events(run)

    assert [(part.namespace, part.tool, part.input) for part in first.parts] == [("crm", "find", b'{"a":1}')]
    assert events[-1]["type"] == "complete"
    assert events[-1]["output"] == {"found": ["0", "0"]}


async def test_calls_of_one_response_of_a_model_are_a_round_and_its_surplus_is_the_next(tmp_path: Path) -> None:
    """Those whose arguments break the schema go back to the model, and ask nobody."""
    calls = [Calls("find", {"name": str(number)}, f"c{number}") for number in range(CALLS_MAX + 2)]
    misfit = Calls("find", {"name": 5}, "misfit")
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    tool = ClientTool(id="tool_1", name="find", namespace="crm", schema=schema)
    body = msgspec.json.encode(tool)
    record = Record(kind=KIND, tenant=CALLER.tenant, name="crm.find", body=body, created_at=1, updated_at=1)

    def served(model: ScriptedModel, allowed: str) -> Any:
        return AssistantProgram(model, client_tools=[allowed])

    model = ScriptedModel([misfit, *calls], [Says("done")])
    async with kernel(tmp_path, served(model, "crm.*")) as it:
        await it.store.put_records([record])
        run = await it.start("assistant", {"message": "find"})
        (first,) = await rounds_of(it, run)
    again = ScriptedModel([misfit, *calls], [Says("done")])
    async with kernel(tmp_path, served(again, "crm.*")) as it:
        await answer(it, run, *ids(first))
        _, second = await rounds_of(it, run)
        await answer(it, run, *ids(second))
        events = await it.events(run)

    asked = [event for event in events if event["type"] == "tool_call"]
    told = [part for message in again.messages[0] for part in message.parts if isinstance(part, ToolReturnPart)]
    assert [len(item.parts) for item in (first, second)] == [CALLS_MAX, 2]
    assert [event["input"]["name"] for event in asked] == [str(number) for number in range(CALLS_MAX + 2)]
    assert {event["tool"] for event in asked} == {"crm.find"}
    assert again.asked == [1]
    assert "do not fit" in str(told[0].content)
    assert [part.content for part in told[1:3]] == ["0", "1"]
    assert events[-1]["output"] == "done"


async def test_an_assistant_that_may_not_call_a_registered_tool_does_not_know_it(tmp_path: Path) -> None:
    body = msgspec.json.encode(ClientTool(id="tool_1", name="find", namespace="crm", schema={"type": "object"}))
    record = Record(kind=KIND, tenant=CALLER.tenant, name="crm.find", body=body, created_at=1, updated_at=1)
    model = ScriptedModel([Calls("find")], [Says("done")])
    program: Any = AssistantProgram(model, tools=Tools(), client_tools=["find", "erp.*"])

    async with kernel(tmp_path, program) as it:
        await it.store.put_records([record])
        run = await it.start("assistant", {"message": "find"})
        events = await it.events(run)

    assert [event["error"] for event in events if event["type"] == "tool_result"] == ["unknown_tool"]
    assert "interrupt" not in [event["type"] for event in events]


async def test_a_registered_tool_gives_what_a_call_leaves_open(tmp_path: Path) -> None:
    tool = ClientTool(id="tool_1", name="find", schema={"type": "object"}, expires_in=60, default="of the tool")
    body = msgspec.json.encode(tool)
    record = Record(kind=KIND, tenant=CALLER.tenant, name="find", body=body, created_at=1, updated_at=1)
    clock = HeldClock()

    @agent("asker", restart="always")
    async def asker(context: Context, input: Any) -> list[Any]:
        calls = (context.call_tool("find"), context.call_tool("find", default="of the call", expires_in=30))
        return list(await asyncio.gather(*calls, context.call_tool("find", on_expiry="error")))

    async with kernel(tmp_path, asker, clock=clock) as it:
        await it.store.put_records([record])
        run = await it.start("asker")
        (first,) = await rounds_of(it, run)
        await answer(it, run, ids(first)[2])
        clock.advance(60)
        events = await it.events(run)

    seconds = [((part.expires_at or 0) - first.created_at) // 1_000_000 for part in first.parts]
    assert [part.on_expiry for part in first.parts] == ["default", "default", "error"]
    assert seconds == [60, 30, 60]
    assert events[-1]["output"] == ["of the tool", "of the call", "0"]


async def test_a_file_that_a_run_reads_is_kept_with_it(tmp_path: Path) -> None:
    content = b"abc"
    digest = hashlib.sha256(content).hexdigest()
    file = File(
        file_id="file_1",
        tenant=CALLER.tenant,
        name="a.txt",
        media_type="text/plain",
        size=3,
        sha256=digest,
        created_at=1,
    )

    @agent("reader")
    async def reader(context: Context, input: str) -> list[Any]:
        found = await context.file(input)
        return [found.name, found.media_type, found.content.decode()]

    async with kernel(tmp_path, reader) as it:
        await it.store.put_file(file, content)
        run = await it.start("reader", "file_1")
        events = await it.events(run)
        kept = await it.store.file(CALLER.tenant, "file_1")

    assert events[-1]["output"] == ["a.txt", "text/plain", "abc"]
    assert kept is not None
    assert kept[0].number == run.number


async def test_a_run_is_not_let_go_while_a_step_executes_beside_one_that_asks(tmp_path: Path) -> None:
    executed: list[str] = []
    go = asyncio.Event()

    @agent("busy", restart="always")
    async def busy(context: Context, input: Any) -> list[str]:
        async def both() -> list[str]:
            return list(await asyncio.gather(context.call_tool("a"), context.call_tool("b")))

        async def work() -> None:
            executed.append("work")
            await go.wait()

        found, _ = await asyncio.gather(context.step("asking", both), context.step("working", work))
        return list(found)

    async with kernel(tmp_path, busy) as it:
        run = await it.start("busy")
        (first,) = await rounds_asked(it, run.run_id, 1)
        await asyncio.sleep(5 * QUICK.grace_seconds)  # what must not happen would happen here
        held = await it.runs.get(CALLER, run.run_id)
        go.set()
        await answer(it, run, *ids(first))
        ended = await it.finished(run)

    assert held.is_leased
    assert executed == ["work"]
    assert ended.status == "completed"
