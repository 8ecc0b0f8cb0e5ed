"""Graphs of LangGraph as they are: streamed live, recorded node by node, cancelled, asked."""

from __future__ import annotations

import asyncio
import operator
import threading
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AnyMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, RetryPolicy, Send, interrupt

from holdfast import get_current_context
from holdfast.agents.langgraph import GraphProgram
from holdfast.execution.program import AgentSpec, ToolPolicy
from holdfast.model import Status
from tests.support.kernel import CALLER, QUICK, Kernel, kernel, replace
from tests.support.until import until


class State(TypedDict, total=False):
    topic: str
    text: str
    seen: Annotated[list[str], operator.add]


class Chat(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


def served(builder: Any, name: str = "graph", **options: Any) -> Any:
    return GraphProgram(builder.compile(**options), name)


def shown(events: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Type and what matters of each event."""
    matters = {
        "token": ("content",),
        "step_started": ("step",),
        "step_completed": ("step", "input_keys", "output"),
        "progress": ("step", "progress", "message"),
        "checkpoint": ("name", "data"),
        "note": ("a",),
    }
    return [(event["type"], *(event.get(name) for name in matters.get(event["type"], ()))) for event in events]


def emitting_graph() -> Any:
    model = FakeListChatModel(responses=["Two words"])

    def draft(state: State) -> State:
        write = get_stream_writer()
        write({"type": "progress", "step": "draft", "progress": 0.5, "message": "half"})
        write("custom ")
        text = model.invoke(state["topic"]).content
        return {"text": str(text), "seen": ["draft"]}

    async def polish(state: State) -> State:
        get_stream_writer()({"type": "note", "a": 1})
        context = get_current_context()
        assert context is not None
        await context.checkpoint("polished", {"n": 2})
        return {"text": state["text"] + "!", "seen": ["polish"]}

    builder = StateGraph(State)
    builder.add_node("draft", draft)
    builder.add_node("polish", polish)
    builder.add_edge(START, "draft")
    builder.add_edge("draft", "polish")
    builder.add_edge("polish", END)
    return builder


async def test_each_event_comes_once_and_the_output_is_the_final_state(tmp_path: Path) -> None:
    async with kernel(tmp_path, served(emitting_graph())) as k:
        events = await k.events(await k.start("graph", {"topic": "kelp"}))

    letters = [("token", letter) for letter in "Two words"]
    assert shown(events) == [
        ("started",),
        ("step_started", "draft"),
        ("progress", "draft", 0.5, "half"),
        ("token", "custom "),
        *letters,
        ("step_completed", "draft", ["topic", "seen"], {"text": "Two words", "seen": ["draft"]}),
        ("step_started", "polish"),
        ("note", 1),
        ("checkpoint", "polished", {"n": 2}),
        ("step_completed", "polish", ["topic", "text", "seen"], {"text": "Two words!", "seen": ["polish"]}),
        ("complete",),
    ]
    assert events[-1]["output"] == {"topic": "kelp", "text": "Two words!", "seen": ["draft", "polish"]}
    assert events[0]["framework"] == "langgraph"


async def test_tokens_come_one_by_one_while_a_blocking_node_runs(tmp_path: Path) -> None:
    go_on = [threading.Event() for _ in range(3)]

    def talk(state: State) -> State:
        for number, gate in enumerate(go_on):
            get_stream_writer()({"type": "token", "content": str(number)})
            assert gate.wait(20)
        return {"text": "done"}

    builder = StateGraph(State)
    builder.add_node("talk", talk)
    builder.add_edge(START, "talk")
    async with kernel(tmp_path, served(builder)) as k:
        run = await k.start("graph", {"topic": "x"})
        reader = k.runs.follow(run, after=1)
        for number, gate in enumerate(go_on):
            chunk = await reader.next()
            assert f'"content":"{number}"' in chunk.lines[0]  # type: ignore[union-attr]
            gate.set()
        reader.close()
        assert (await k.finished(run)).status is Status.COMPLETED


async def test_finished_nodes_are_not_run_again_after_a_crash(tmp_path: Path) -> None:
    ran: list[str] = []
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def first(state: State) -> Any:
        ran.append("first")
        get_stream_writer()("from first ")
        return Command(update={"seen": ["first"]}, goto="second")

    async def second(state: State) -> State:
        ran.append("second")
        get_stream_writer()("from second ")
        reached.set()
        await go_on.wait()
        return {"seen": ["second"], "text": "done"}

    builder = StateGraph(State)
    builder.add_node("first", first, destinations=("second",))
    builder.add_node("second", second)
    builder.add_edge(START, "first")
    async with kernel(tmp_path, served(builder), crash=True) as k:
        run = await k.start("graph", {"topic": "x"})
        await reached.wait()
        execution = k.worker.execution(run.number)
        assert execution is not None
        await execution.writer.durable()
    go_on.set()
    async with kernel(tmp_path, served(builder)) as k:
        ended = await k.finished(run)
        events = await k.events(run)

    assert ended.status is Status.COMPLETED
    assert ran == ["first", "second", "second"]
    assert events[-1]["output"] == {"topic": "x", "text": "done", "seen": ["first", "second"]}
    (restarted,) = [event for event in events if event["type"] == "restarted"]
    void = {sequence for first_, last in restarted["discard"] for sequence in range(first_, last + 1)}
    text = "".join(event["content"] for event in events if event["type"] == "token" and event["sequence"] not in void)
    assert text == "from first from second "


async def test_loops_and_sends_are_steps_of_their_own(tmp_path: Path) -> None:
    def spread(state: State) -> list[Send]:
        return [Send("work", {"topic": letter}) for letter in "abc"]

    async def work(state: State) -> State:
        return {"seen": [state["topic"]]}

    def count(state: State) -> State:
        return {"seen": ["counted"]}

    def decide(state: State) -> str:
        return END if state["seen"].count("counted") == 3 else "count"

    builder = StateGraph(State)
    builder.add_node("work", work)
    builder.add_node("count", count)
    builder.add_conditional_edges(START, spread, ["work"])
    builder.add_edge("work", "count")
    builder.add_conditional_edges("count", decide, ["count", END])
    async with kernel(tmp_path, served(builder)) as k:
        run = await k.start("graph", {"topic": "x"})
        events = await k.events(run)

    steps = [event["step"] for event in events if event["type"] == "step_completed"]
    assert sorted(steps[:3]) == ["work.0", "work.1", "work.2"]
    assert steps[3:] == ["count", "count#2", "count#3"]
    assert events[-1]["output"]["seen"] == ["a", "b", "c", "counted", "counted", "counted"]


async def test_a_nodes_interrupt_is_a_question_that_outlives_the_process(tmp_path: Path) -> None:
    ran: list[str] = []

    def prepare(state: State) -> State:
        ran.append("prepare")
        return {"seen": ["prepared"]}

    def approve(state: State) -> State:
        answer = interrupt({"question": "Publish?", "choices": ["yes", "no"]})
        return {"text": answer, "seen": [interrupt("And a name?")]}

    builder = StateGraph(State)
    builder.add_node("prepare", prepare)
    builder.add_node("approve", approve)
    builder.add_edge(START, "prepare")
    builder.add_edge("prepare", "approve")
    async with kernel(tmp_path, served(builder), crash=True) as k:
        run = await k.start("graph", {"topic": "x"})
        await k.waiting(run)
        (asked,) = await k.runs.interrupts(CALLER, run.run_id)
        assert (asked.question, asked.choices) == ("Publish?", ("yes", "no"))
    async with kernel(tmp_path, served(builder)) as k:
        await k.runs.answer(CALLER, run.run_id, "yes")
        await _asked(k, run, 2)
        await k.runs.answer(CALLER, run.run_id, "Ada")
        ended = await k.finished(run)
        events = await k.events(run)

    assert ended.status is Status.COMPLETED
    assert events[-1]["output"] == {"topic": "x", "text": "yes", "seen": ["prepared", "Ada"]}
    assert ran == ["prepare"]


async def _asked(k: Kernel, run: Any, count: int) -> None:
    async def is_asked() -> bool:
        return len(await k.runs.interrupts(CALLER, run.run_id)) == count

    await until(is_asked, seconds=20)
    await k.waiting(run)


async def test_messages_go_in_and_come_out_as_json(tmp_path: Path) -> None:
    model = FakeListChatModel(responses=["Hello."])

    async def answer(state: Chat) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder = StateGraph(Chat)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    async with kernel(tmp_path, served(builder)) as k:
        for given in ({"messages": [{"role": "user", "content": "hi"}]}, {"message": "hi"}, {"query": "hi"}):
            events = await k.events(await k.start("graph", given))
            output = events[-1]["output"]["messages"]
            assert [(message["type"], message["content"]) for message in output] == [("human", "hi"), ("ai", "Hello.")]
            assert "".join(event["content"] for event in events if event["type"] == "token") == "Hello."


async def test_a_node_that_is_retried_by_its_policy_is_recorded_when_it_succeeds(tmp_path: Path) -> None:
    tried: list[int] = []

    def shaky(state: State) -> State:
        tried.append(1)
        if len(tried) < 3:
            raise ConnectionError("away")
        return {"text": "there"}

    builder = StateGraph(State)
    policy = RetryPolicy(initial_interval=0.01, max_attempts=3)
    builder.add_node("shaky", shaky, retry_policy=policy)
    builder.add_edge(START, "shaky")
    async with kernel(tmp_path, served(builder)) as k:
        events = await k.events(await k.start("graph", {"topic": "x"}))

    kinds = [(event["type"], event["attempt"]) for event in events if event["type"].startswith("step_")]
    assert kinds == [
        *(("step_started", 1), ("step_failed", 1), ("step_started", 2), ("step_failed", 2)),
        *(("step_started", 3), ("step_completed", 3)),
    ]
    assert events[-1]["output"]["text"] == "there"


async def test_a_node_that_raises_fails_the_run_with_its_own_error(tmp_path: Path) -> None:
    def broken(state: State) -> State:
        raise ValueError("no such topic")

    builder = StateGraph(State)
    builder.add_node("broken", broken)
    builder.add_edge(START, "broken")
    async with kernel(tmp_path, served(builder)) as k:
        ended = await k.finished(await k.start("graph", {"topic": "x"}))

    assert ended.error is not None
    assert (ended.error.code, ended.error.message) == ("agent_execution_error", "ValueError: no such topic")


@pytest.mark.parametrize("kind", ["async", "cooperative", "endless"])
async def test_a_cancel_reaches_the_node(tmp_path: Path, kind: str) -> None:
    stopped: list[str] = []
    began, end = threading.Event(), threading.Event()

    async def asynchronous(state: State) -> State:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append("async")
        return {}

    def cooperative(state: State) -> State:
        began.set()
        context = get_current_context()
        assert context is not None
        try:
            while True:
                context.sync_emit_heartbeat()
                end.wait(0.01)
        finally:
            stopped.append("cooperative")

    def endless(state: State) -> State:
        began.set()
        end.wait(30)
        return {}

    builder = StateGraph(State)
    builder.add_node("node", {"async": asynchronous, "cooperative": cooperative, "endless": endless}[kind])
    builder.add_edge(START, "node")
    async with kernel(tmp_path, served(builder), settings=replace(QUICK, cancel_seconds=1)) as k:
        run = await k.start("graph", {"topic": "x"})
        await asyncio.to_thread(began.wait, 20)
        ended = await k.runs.cancel(CALLER, run.run_id, reason="enough")
        events = await k.events(run)
        end.set()

    assert ended.status is Status.CANCELLED
    assert [event["type"] for event in events].count("cancelled") == 1
    assert stopped == ([] if kind == "endless" else [kind])


async def test_a_time_limit_ends_a_graph(tmp_path: Path) -> None:
    async def slow(state: State) -> State:
        await asyncio.Event().wait()
        return {}

    builder = StateGraph(State)
    builder.add_node("slow", slow)
    builder.add_edge(START, "slow")
    async with kernel(tmp_path, served(builder)) as k:
        ended = await k.finished(await k.start("graph", {"topic": "x"}, timeout_seconds=0.2))

    assert ended.error is not None
    assert ended.error.code == "timeout_error"


async def test_a_checkpointer_of_the_author_keeps_the_thread_and_nothing_of_a_crash(tmp_path: Path) -> None:
    saver = InMemorySaver()
    reached, go_on = asyncio.Event(), asyncio.Event()
    go_on.set()

    async def echo(state: Chat) -> dict[str, Any]:
        count = len([message for message in state["messages"] if isinstance(message, HumanMessage)])
        return {"messages": [("ai", f"message {count}")]}

    async def wait(state: Chat) -> dict[str, Any]:
        reached.set()
        await go_on.wait()
        return {}

    builder = StateGraph(Chat)
    builder.add_node("echo", echo)
    builder.add_node("wait", wait)
    builder.add_edge(START, "echo")
    builder.add_edge("echo", "wait")

    def words(events: list[dict[str, Any]]) -> list[str]:
        return [message["content"] for message in events[-1]["output"]["messages"]]

    program = served(builder, checkpointer=saver)
    async with kernel(tmp_path, program, crash=True) as k:
        one = await k.events(await k.start("graph", {"message": "a"}, thread_id="t", message="a"))
        assert words(one) == ["a", "message 1"]
        go_on.clear()
        reached.clear()
        run = await k.start("graph", {"message": "b"}, thread_id="t", message="b")
        await reached.wait()
    go_on.set()
    async with kernel(tmp_path, program) as k:
        await k.finished(run)
        assert words(await k.events(run)) == ["a", "message 1", "b", "message 2"]


async def test_tools_and_agents_of_langgraph_run_as_they_are(tmp_path: Path) -> None:
    from langgraph.prebuilt import ToolNode

    @tool
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    def call(state: Chat) -> dict[str, Any]:
        calls = [{"name": "add", "args": {"a": 2, "b": 3}, "id": "call_1", "type": "tool_call"}]
        return {"messages": [{"role": "assistant", "content": "", "tool_calls": calls}]}

    builder = StateGraph(Chat)
    builder.add_node("call", call)
    builder.add_node("tools", ToolNode([add]))
    builder.add_edge(START, "call")
    builder.add_edge("call", "tools")
    async with kernel(tmp_path, served(builder)) as k:
        events = await k.events(await k.start("graph", {"message": "2 + 3?"}))

    assert events[-1]["output"]["messages"][-1]["content"] == "5"
    called, gave = (next(event for event in events if event["type"] == name) for name in ("tool_call", "tool_result"))
    assert (called["tool"], called["input"], gave["output"]) == ("add", {"a": 2, "b": 3}, "5")
    assert called["tool_call_id"] == gave["tool_call_id"]


async def test_a_tool_that_is_not_allowed_is_not_called(tmp_path: Path) -> None:
    called: list[str] = []

    @tool
    def erase(path: str) -> str:
        """Erase a file."""
        called.append(path)
        return "erased"

    async def use(state: State) -> State:
        return {"text": await erase.ainvoke({"path": "/"})}

    builder = StateGraph(State)
    builder.add_node("use", use)
    builder.add_edge(START, "use")
    program = GraphProgram(builder.compile(), "graph", spec=AgentSpec(tools=ToolPolicy(denied=("erase",))))
    async with kernel(tmp_path, program) as k:
        ended = await k.finished(run := await k.start("graph", {"topic": "x"}))
        events = await k.events(run)

    assert called == []
    assert ended.error is not None
    assert ended.error.code == "tool_denied"
    (result,) = [event for event in events if event["type"] == "tool_result"]
    assert (result["tool"], result["error"]) == ("erase", "tool_denied")
