"""The assistant on a real kernel: answers, waits without a task, and goes on after a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from holdfast.agents.assistant import AssistantProgram
from holdfast.agents.function import FunctionAgent
from holdfast.agents.models.offline import phrases
from holdfast.agents.models.offline.model import OfflineModel
from holdfast.agents.tools import Tools
from holdfast.agents.tools.arithmetic import SumInput
from holdfast.agents.tools.tool import Call, Tool
from holdfast.model import Run, Status
from tests.support.kernel import CALLER, Kernel, kernel
from tests.support.until import until


def assistant(*, word_delay_seconds: float = 0, tools: Tools | None = None) -> FunctionAgent:
    model = OfflineModel(word_delay_seconds=word_delay_seconds)
    return cast(FunctionAgent, AssistantProgram(model, tools=tools))


async def say(k: Kernel, message: str, **request: Any) -> Run:
    return await k.start("assistant", {"message": message, "media": []}, message=message, **request)


async def output(k: Kernel, run: Run) -> str:
    finished = await k.finished(run)
    assert finished.status is Status.COMPLETED, finished.error
    return (finished.output or b"").decode().strip('"')


async def test_a_thread_is_remembered_from_turn_to_turn(tmp_path: Path) -> None:
    async with kernel(tmp_path, assistant()) as k:
        first = await output(k, await say(k, "Say hello in one short sentence.", thread_id="t"))
        again = await output(k, await say(k, "Repeat what you just said.", thread_id="t"))
        french = await output(k, await say(k, "Repeat what you just said in French.", thread_id="t"))

    assert first == again == phrases.HELLO
    assert french == phrases.TRANSLATIONS[phrases.HELLO]["french"]


async def test_the_journal_shows_thinking_tools_and_usage(tmp_path: Path) -> None:
    async with kernel(tmp_path, assistant()) as k:
        run = await say(k, "What time is it and what is 2 + 3?")
        events = await k.events(run)

    types = [event["type"] for event in events]
    assert types.count("tool_call") == types.count("tool_result") == types.count("usage") == 2
    assert not any(name.startswith("step_") for name in types)
    text = "".join(event["content"] for event in events if event["type"] == "token")
    assert text.endswith("2 + 3 = 5.")
    assert events[-1]["output"] == text
    assert events[-1]["stop_reason"] == "end_turn"
    assert events[-1]["usage"]["output_tokens"] > 0


async def test_a_question_is_waited_for_without_a_task_and_answered_later(tmp_path: Path) -> None:
    async with kernel(tmp_path, assistant()) as k:
        run = await say(k, "Ask me which colour I like.")
        waiting = await k.waiting(run)
        assert waiting.status is Status.WAITING
        await until(lambda: not k.worker.executing)

        await k.runs.answer(CALLER, run.run_id, "blue")

        assert await output(k, run) == "You answered: blue. Thank you!"


async def test_a_permission_is_waited_for_over_a_restart(tmp_path: Path) -> None:
    ledger: list[int] = []

    async def pay(call: Call, input: SumInput) -> int:
        ledger.append(1)
        return 5

    guarded = Tool(name="sum", description="", input=SumInput, function=pay, requires_permission=True)
    async with kernel(tmp_path, assistant(tools=Tools(guarded)), crash=True) as k:
        run = await say(k, "What is 2 + 3?")
        await k.waiting(run)
    async with kernel(tmp_path, assistant(tools=Tools(guarded))) as k:
        await k.runs.answer(CALLER, run.run_id, True)

        assert await output(k, run) == "2 + 3 = 5."
        events = await k.stored(run)

    assert ledger == [1]
    assert [event["type"] for event in events].count("tool_call") == 1


async def test_an_answer_that_a_crash_cut_off_is_made_whole(tmp_path: Path) -> None:
    async with kernel(tmp_path, assistant(word_delay_seconds=0.002), crash=True) as k:
        run = await say(k, "Count to 200.")
        reader = k.runs.follow(run, after=-1)
        seen = 0
        while seen < 50:
            seen += len(cast(Any, await reader.next()).lines)
        reader.close()
    async with kernel(tmp_path, assistant()) as k:
        text = await output(k, run)
        events = await k.events(run)

    restarted = next(event for event in events if event["type"] == "restarted")
    void = {sequence for first, last in restarted["discard"] for sequence in range(first, last + 1)}
    kept = [e["content"] for e in events if e["type"] == "token" and e["sequence"] not in void]
    assert "".join(kept) == text == ", ".join(str(n) for n in range(1, 201)) + "."
    assert len(void) >= 40


async def test_cancelling_stops_the_words(tmp_path: Path) -> None:
    async with kernel(tmp_path, assistant(word_delay_seconds=0.005)) as k:
        run = await say(k, "Count to 100000.")
        reader = k.runs.follow(run, after=-1)
        await reader.next()
        reader.close()

        await k.runs.cancel(CALLER, run.run_id)

        assert (await k.finished(run)).status is Status.CANCELLED
