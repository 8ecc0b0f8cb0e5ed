"""What an agent's policy redacts is in nothing that leaves: no event, output, error, step, question or message."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from holdfast.agents.function import FunctionAgent, agent
from holdfast.errors import PolicyViolation
from holdfast.execution.context import Context
from holdfast.execution.program import AgentSpec, SafetyPolicy, ToolPolicy
from holdfast.execution.sync import SyncContext
from holdfast.model import Run, Status
from tests.support.kernel import CALLER, Kernel, kernel

SECRET = "sk-12345678"


def guarded(made: FunctionAgent, *, halt: bool = False) -> FunctionAgent:
    made.spec = AgentSpec(safety=SafetyPolicy(redact_patterns=(r"sk-\d{8}",), halt_on_violation=halt))
    return made


async def everything_of(served: Kernel, run: Run) -> str:
    """All that anybody may be shown of a run."""
    export = b"".join([line async for line in served.runs.export(CALLER, run.run_id)])
    steps = await served.runs.steps(CALLER, run.run_id)
    interrupts = await served.runs.interrupts(CALLER, run.run_id)
    ended = await served.runs.get(CALLER, run.run_id)
    messages = await served.store.messages(run.tenant, run.thread_id) if run.thread_id else []
    shown = [message.content for message in messages if message.role == "assistant"]
    return export.decode() + repr((steps, interrupts, ended.output, ended.error, shown))


def text_of(events: list[dict[str, Any]], name: str = "token") -> str:
    return "".join(event["content"] for event in events if event["type"] == name)


async def test_a_secret_over_three_tokens_is_in_nothing_and_all_other_text_is(tmp_path: Path) -> None:
    @agent
    async def teller(context: Context) -> dict[str, Any]:
        for piece in ("The key is sk-", "1234", "5678", ", keep ", "it. sk", "-", "y"):
            await context.token(piece)
        await context.thinking("sk-1234")
        await context.thinking("5678!")
        await context.emit("own", {"a": [SECRET, {SECRET: 1}]}, b=SECRET)
        await context.checkpoint("c", SECRET)
        await context.progress(0.5, SECRET)
        assert await context.step("fetch", lambda: {"key": SECRET}) == {"key": SECRET}
        return {"answer": SECRET, SECRET: 12}

    async with kernel(tmp_path, guarded(teller)) as served:
        run = await served.start("teller", thread_id="t", message="hello")
        events = await served.events(run)

        assert SECRET not in await everything_of(served, run)
        assert text_of(events) == "The key is [REDACTED], keep it. sk-y"
        assert text_of(events, "thinking") == "[REDACTED]!"
        own = next(event for event in events if event["type"] == "own")
        assert (own["a"], own["b"]) == (["[REDACTED]", {"[REDACTED]": 1}], "[REDACTED]")
        assert events[-1]["output"] == {"answer": "[REDACTED]", "[REDACTED]": 12}


async def test_text_that_cannot_become_a_secret_is_not_held_back(tmp_path: Path) -> None:
    gate = asyncio.Event()

    @agent
    async def teller(context: Context) -> None:
        await context.token("no secret, as")
        await gate.wait()

    async with kernel(tmp_path, guarded(teller)) as served:
        run = await served.start("teller")
        reader = served.runs.follow(run, after=0)
        chunk = await reader.next()
        reader.close()
        gate.set()
        events = await served.events(run)

        assert '"content":"no secret, a"' in chunk.lines[0]  # type: ignore[union-attr]
        assert text_of(events) == "no secret, as"


async def test_sync_code_errors_questions_and_answers_are_clean_too(tmp_path: Path) -> None:
    @agent(restart="always")
    def asker(context: SyncContext) -> None:
        for letter in SECRET:
            context.token(letter)
        answer = context.ask(f"Is it {SECRET}?")
        raise ValueError(f"{answer} is wrong")

    async with kernel(tmp_path, guarded(asker)) as served:
        run = await served.start("asker")
        await served.waiting(run)
        (asked,) = await served.runs.interrupts(CALLER, run.run_id)
        assert asked.question == "Is it [REDACTED]?"
        await served.runs.answer(CALLER, run.run_id, f"it is {SECRET}")
        ended = await served.finished(run)
        events = await served.events(run)

        assert ended.error is not None
        assert ended.error.message == "ValueError: it is [REDACTED] is wrong"
        assert events[-1]["error"] == ended.error.message
        assert text_of(events) == "[REDACTED]"
        assert next(event for event in events if event["type"] == "interrupt_resolved")["answer"] == "it is [REDACTED]"
        journal = repr(await served.stored(run))
        assert SECRET not in journal


async def test_a_large_output_is_clean_in_its_file(tmp_path: Path) -> None:
    @agent
    async def large() -> list[str]:
        return ["x" * 1000] * 400 + [SECRET]

    async with kernel(tmp_path, guarded(large)) as served:
        run = await served.start("large")
        events = await served.events(run)
        found = await served.store.file(run.tenant, events[-1]["output"]["file"])

        assert found is not None
        assert (await served.runs.get(CALLER, run.run_id)).output.endswith(b'"[REDACTED]"]')  # type: ignore[union-attr]
        assert SECRET not in repr(events)


@pytest.mark.parametrize("place", ["token", "emit", "step", "output", "error", "swallowed"])
async def test_with_halt_a_match_fails_the_run_and_is_not_written(tmp_path: Path, place: str) -> None:
    @agent
    async def teller(context: Context) -> Any:
        await context.token("before ")
        if place == "token":
            await context.token("sk-1234")
            await context.token("5678 after" + "." * 256)
        elif place == "emit":
            await context.emit("own", a=SECRET)
        elif place == "step":
            await context.step("fetch", lambda: SECRET)
        elif place == "error":
            raise ValueError(SECRET)
        elif place == "swallowed":
            try:
                await context.emit("own", a=SECRET)
            except PolicyViolation:
                await context.token("goes on")
        return SECRET if place == "output" else None

    async with kernel(tmp_path, guarded(teller, halt=True)) as served:
        run = await served.start("teller")
        ended = await served.finished(run)

        assert (ended.status, ended.error and ended.error.code) == (Status.FAILED, "policy_violation")
        assert SECRET not in await everything_of(served, run)
        events = await served.events(run)
        assert events[-1]["code"] == "policy_violation"
        assert text_of(events) == "before "


async def test_what_is_held_back_is_written_when_the_run_is_cancelled(tmp_path: Path) -> None:
    emitted = asyncio.Event()

    @agent
    async def teller(context: Context) -> None:
        await context.token("almost sk-123")
        emitted.set()
        await asyncio.Event().wait()

    async with kernel(tmp_path, guarded(teller)) as served:
        run = await served.start("teller")
        await emitted.wait()
        await served.runs.cancel(CALLER, run.run_id, reason="enough")
        events = await served.events(run)

        assert text_of(events) == "almost sk-123"
        assert events[-1]["type"] == "cancelled"


async def test_a_row_goes_on_after_a_question_without_its_secrets(tmp_path: Path) -> None:
    """Executed again, what was emitted before the question is not emitted a second time, held back or not."""

    @agent(restart="always")
    async def asker(context: Context) -> None:
        await context.token("one sk-1")
        await context.ask("Go on?")
        await context.token(f"two {SECRET}")

    async with kernel(tmp_path, guarded(asker)) as served:
        run = await served.start("asker")
        await served.waiting(run)
        await served.runs.answer(CALLER, run.run_id, "yes")
        events = await served.events(run)

        assert text_of(events) == "one sk-1two [REDACTED]"


async def test_a_tool_that_is_not_allowed_is_not_called(tmp_path: Path) -> None:
    @agent(restart="always")
    async def caller(context: Context) -> list[Any]:
        assert context.is_tool_allowed("good")
        return [context.is_tool_allowed("bad"), await context.call_tool("bad", {"a": 1}, default="x")]

    caller.spec = AgentSpec(tools=ToolPolicy(denied=("bad",)))
    async with kernel(tmp_path, caller) as served:
        run = await served.start("caller")
        ended = await served.finished(run)
        events = await served.events(run)

        assert ended.status is Status.FAILED
        assert ended.error is not None
        assert "bad" in ended.error.message
        assert [event["type"] for event in events] == ["started", "tool_call", "tool_result", "error"]
        assert (events[2]["tool"], events[2]["error"]) == ("bad", "tool_denied")
        assert await served.runs.interrupts(CALLER, run.run_id) == []
