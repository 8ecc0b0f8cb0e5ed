"""A conversation that is too long for its model: what is shown instead, what it costs, and what later turns begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest
from pydantic_ai.exceptions import ModelContextWindowExceededError, ModelServerError
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from holdfast.agents.assistant import AssistantProgram
from holdfast.agents.assistant.compaction import estimated_tokens
from holdfast.agents.assistant.limits import Limits
from holdfast.agents.assistant.loop import Loop
from holdfast.agents.models import ContextOverflow
from holdfast.agents.tools import Call, Tool, Tools
from holdfast.model import Message
from tests.support.one_run import Died, OneRun
from tests.unit.test_assistant_turn import Waits, said


class Empty(msgspec.Struct):
    """A tool that takes nothing."""


class Narrow(FunctionModel):
    """Refuses what is longer than its window, in estimated tokens; summarizes in one word; answers with what it saw."""

    def __init__(self, window: int, *, calls: int = 0, breaks: int = 0) -> None:
        super().__init__(stream_function=self._respond, model_name="narrow")
        self.window, self.calls, self.breaks = window, calls, breaks
        self.seen: list[list[ModelMessage]] = []
        self.summarized: list[str] = []

    async def _respond(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        instructions = messages[-1].instructions if isinstance(messages[-1], ModelRequest) else ""
        if estimated_tokens(messages) > self.window:
            raise ModelContextWindowExceededError("narrow", "prompt is too long")
        if "You shorten conversations" in (instructions or ""):
            if self.breaks:
                raise ModelServerError("narrow", "down")
            self.summarized.append(str(text_of(messages[-1])[0]))
            yield "SUMMARY"
            return
        self.seen.append(list(messages))
        if self.calls > sum(isinstance(message, ModelResponse) for message in own(messages)):
            yield {0: DeltaToolCall(name="read", json_args="{}", tool_call_id=f"c{len(self.seen)}")}
        else:
            yield "Done."


def own(messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    return [message for message in messages if message.run_id is not None]


def text_of(message: ModelMessage) -> list[Any]:
    return [getattr(part, "content", None) for part in message.parts]


def read_tool(characters: int) -> Tool[Empty]:
    async def read(call: Call, input: Empty) -> str:
        return "x" * characters

    return Tool(name="read", description="Reads.", input=Empty, function=read)


def run_of(
    model: Narrow, earlier: Sequence[Message], *, result: int = 0, run_id: str = "run-7", **limits: Any
) -> OneRun:
    tools = Tools(read_tool(result))
    program = AssistantProgram(model, tools=tools)
    program._loop = Loop(
        model, tools, instructions="Be brief.", max_tokens=None, limits=Limits(**limits), sleep=Waits()
    )
    run = OneRun(program, {"message": "And now?"}, thread_id="t", run_id=run_id)
    run.earlier = list(earlier)
    return run


def turns(count: int, characters: int = 4_000) -> list[Message]:
    return [
        message
        for number in range(1, count + 1)
        for message in (
            said(number, "user", f"question {number} " + "q" * characters),
            said(number, "assistant", f"answer {number}"),
        )
    ]


async def test_all_but_the_last_turns_become_a_summary() -> None:
    model = Narrow(4_000)
    run = run_of(model, turns(6))

    result = await run.execute()

    [shown] = model.seen
    assert result.text == "Done."
    assert "SUMMARY" in text_of(shown[0])[0]
    assert [text_of(m)[0][:10] for m in shown[2:]] == ["question 5", "answer 5", "question 6", "answer 6", "And now?"]
    assert "question 4" in model.summarized[0]
    assert "question 5" not in model.summarized[0]
    [told] = run.seen("compaction")
    assert told.fields["messages_collapsed"] == 8
    assert told.fields["tokens_before"] > 4_000 > told.fields["tokens_after"]


async def test_if_that_is_still_too_long_everything_before_the_turn_is_summarized() -> None:
    model = Narrow(3_000)
    run = run_of(model, turns(6, 6_000))

    await run.execute()

    [shown] = model.seen
    assert [text_of(m)[0][:8] for m in shown] == ["What was", "I know w", "And now?"]
    assert [event.fields["messages_collapsed"] for event in run.seen("compaction")] == [8, 12]


async def test_results_of_the_turns_own_tools_are_cut() -> None:
    model = Narrow(3_000, calls=1)

    result = await run_of(model, [], result=50_000).execute()

    [returned] = [part for m in model.seen[-1] for part in m.parts if isinstance(part, ToolReturnPart)]
    assert result.text == "Done."
    assert len(str(returned.content)) < 9_000
    assert "50,000 characters" in str(returned.content)


async def test_what_is_too_long_in_itself_fails() -> None:
    model = Narrow(50)
    run = run_of(model, turns(2))
    run.input = {"message": "w" * 1_000}

    with pytest.raises(ContextOverflow) as failed:
        await run.execute()

    assert failed.value.code == "context_overflow"
    assert model.seen == []


async def test_without_compaction_it_fails_at_once() -> None:
    run = run_of(Narrow(1_000), turns(6), compaction=False)

    with pytest.raises(ContextOverflow):
        await run.execute()

    assert run.seen("compaction") == []


async def test_later_turns_begin_with_the_summary() -> None:
    first = run_of(Narrow(4_000), turns(6))
    result = await first.execute()
    later = Narrow(100_000)
    earlier = [*turns(6), said(7, "user", "And now?"), said(7, "assistant", "Done.", result.detail)]
    second = run_of(later, earlier, run_id="run-8")

    await second.execute()

    shown = [str(text_of(message)[0]) for message in later.seen[0]]
    assert "SUMMARY" in shown[0]
    assert [text[:10] for text in shown[2:]] == [
        "question 5",
        "answer 5",
        "question 6",
        "answer 6",
        "And now?",
        "Done.",
        "And now?",
    ]


async def test_a_model_that_cannot_summarize_leaves_a_note() -> None:
    model = Narrow(4_000, breaks=1)

    result = await run_of(model, turns(6)).execute()

    assert result.text == "Done."
    assert "not shown any more" in text_of(model.seen[0][0])[0]


@pytest.mark.parametrize("steps", [1, 2, 3])
async def test_wherever_it_dies_no_summary_is_paid_twice(steps: int) -> None:
    model = Narrow(4_000)
    run = run_of(model, turns(6))
    with pytest.raises(Died):
        await run.start(die_after=steps).result()
    before = len(model.summarized)

    result = await run.execute()

    assert result.text == "Done."
    assert len(model.summarized) == 1
    assert before == (steps > 1)
    assert len(run.seen("compaction")) == 1


async def test_a_turn_that_was_not_too_long_keeps_only_what_is_its_own() -> None:
    result = await run_of(Narrow(100_000), turns(2)).execute()

    assert result.detail is not None
    assert b"question" not in result.detail
    assert b"And now?" in result.detail
