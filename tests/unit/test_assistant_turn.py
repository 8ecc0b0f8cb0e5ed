"""A turn of the assistant: what it emits, what it returns, what the model sees of the thread."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic_ai.exceptions import (
    ModelAuthenticationError,
    ModelConnectionError,
    ModelContextWindowExceededError,
    ModelHTTPError,
    ModelRateLimitError,
    ModelServerError,
)
from pydantic_ai.messages import FinishReason, ModelResponse, UserPromptPart
from pydantic_ai.models.test import TestModel

from holdfast.agents.assistant import AssistantProgram
from holdfast.agents.assistant.limits import Limits
from holdfast.agents.assistant.loop import Loop
from holdfast.agents.assistant.program import message_of
from holdfast.agents.models import ContextOverflow, ModelFailed, ModelRateLimited
from holdfast.agents.tools import builtin_tools
from holdfast.execution.program import Result
from holdfast.model import Message
from holdfast.testing.model import Calls, Response, Says, ScriptedModel, Thinks
from tests.support.one_run import OneRun

HELLO = {"message": "Hello?", "media": []}


class Waits:
    """Takes the place of sleeping."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def assistant(model: Any, waits: Waits | None = None, *, iterations_max: int = 50) -> AssistantProgram:
    limits = Limits(iterations_max=iterations_max)
    program = AssistantProgram(model, limits=limits)
    program._loop = Loop(
        model,
        builtin_tools(),
        instructions="Be brief.",
        max_tokens=None,
        limits=limits,
        sleep=waits or Waits(),
    )
    return program


def said(number: int, role: str, content: str, detail: bytes | None = None) -> Message:
    return Message(message_id=f"{role}{number}", number=number, role=role, content=content, detail=detail, created_at=0)


async def test_a_text_is_streamed_piece_by_piece_inside_of_the_model_step() -> None:
    run = OneRun(assistant(ScriptedModel([Says("Good "), Says("day.")])), HELLO)

    result = await run.execute()

    assert (result.output, result.text, result.stop_reason) == ("Good day.", "Good day.", "end_turn")
    assert [(e.type, e.fields.get("content")) for e in run.events] == [
        ("block_started", None),
        ("token", "Good "),
        ("token", "day."),
        ("block_stopped", None),
        ("usage", None),
    ]
    assert {event.mark for event in run.events} == {"model"}


async def test_thinking_is_a_block_of_its_own() -> None:
    run = OneRun(assistant(ScriptedModel([Thinks("Well… "), Says("Good day.")])), HELLO)

    result = await run.execute()

    assert result.text == "Good day."
    assert [(e.type, *e.fields.values()) for e in run.events[:6]] == [
        ("block_started", 0, "thinking"),
        ("thinking", "Well… "),
        ("block_stopped", 0, "thinking"),
        ("block_started", 1, "text"),
        ("token", "Good day."),
        ("block_stopped", 1, "text"),
    ]


async def test_usage_is_told_for_each_request_and_summed_up() -> None:
    run = OneRun(assistant(ScriptedModel([Calls("sum", {"numbers": [1]})], [Says("One.")])), HELLO)

    result = await run.execute()

    told = [event.fields for event in run.seen("usage")]
    assert [fields["model"] for fields in told] == ["scripted", "scripted"]
    assert result.usage == {
        name: sum(fields[name] for fields in told) for name in ("input_tokens", "output_tokens", "cache_hit_tokens")
    }


async def test_what_was_said_before_a_tool_belongs_to_the_answer() -> None:
    script = ScriptedModel([Says("Let me see."), Calls("sum", {"numbers": [1, 2]})], [Says("Three.")])
    run = OneRun(assistant(script), HELLO)

    result = await run.execute()

    assert result.text == run.text == "Let me see.\n\nThree."


async def test_blocks_are_numbered_through_the_turn() -> None:
    script = ScriptedModel([Says("Let me see."), Calls("sum", {"numbers": [1, 2]})], [Says("Three.")])
    run = OneRun(assistant(script), HELLO)

    await run.execute()

    started = [(event.fields["block_index"], event.fields["block_type"]) for event in run.seen("block_started")]
    assert started == [(0, "text"), (1, "tool_use"), (2, "text")]


async def test_the_next_turn_holds_the_messages_of_the_first() -> None:
    first = OneRun(assistant(ScriptedModel([Says("Good day.")])), HELLO, thread_id="t")
    result = await first.execute()
    script = ScriptedModel([Says("Again: good day.")])
    second = OneRun(assistant(script), {"message": "Again!"}, thread_id="t", run_id="run-8")
    second.earlier = [said(1, "user", "Hello?"), said(1, "assistant", "Good day.", result.detail)]

    await second.execute()

    parts = [part for message in script.messages[0] for part in message.parts]
    assert [getattr(part, "content", None) for part in parts] == ["Hello?", "Good day.", "Again!"]


async def test_a_turn_that_failed_leaves_the_persons_message() -> None:
    script = ScriptedModel([Says("Yes.")])
    run = OneRun(assistant(script), {"message": "And now?"}, thread_id="t")
    run.earlier = [said(1, "user", "Are you there?")]

    await run.execute()

    prompts = [p.content for m in script.messages[0] for p in m.parts if isinstance(p, UserPromptPart)]
    assert prompts == ["Are you there?", "And now?"]
    assert [message.run_id for message in script.messages[0]] == [None, None, run.run.run_id]


async def test_another_agents_answer_is_seen_as_text() -> None:
    script = ScriptedModel([Says("Yes.")])
    run = OneRun(assistant(script), {"message": "Was that so?"}, thread_id="t")
    run.earlier = [said(1, "user", "Invoice?"), said(1, "assistant", "Paid.", b'{"of":"another agent"}')]

    await run.execute()

    answers = [m.text for m in script.messages[0] if isinstance(m, ModelResponse)]
    assert answers == ["Paid."]


async def test_a_cut_answer_says_that_it_was_cut() -> None:
    assert (await _ending_with("length")).stop_reason == "max_tokens"


async def test_a_refusal_is_a_stop_reason() -> None:
    assert (await _ending_with("content_filter")).stop_reason == "refusal"


async def _ending_with(reason: FinishReason) -> Result:
    class Ending(ScriptedModel):
        def request_stream(self, *args: Any, **kwargs: Any) -> Any:
            return _Finished(super().request_stream(*args, **kwargs), reason)

    return await OneRun(assistant(Ending([Says("I can")])), HELLO).execute()


class _Finished:
    def __init__(self, stream: Any, reason: FinishReason) -> None:
        self._stream, self._reason = stream, reason

    async def __aenter__(self) -> Any:
        response = await self._stream.__aenter__()
        response.finish_reason = self._reason
        return response

    async def __aexit__(self, *exc: object) -> Any:
        return await self._stream.__aexit__(*exc)


async def test_a_turn_ends_after_its_last_allowed_request() -> None:
    again: Response = [Says("Once more. "), Calls("sum", {"numbers": [1]})]
    script = ScriptedModel(again, again, again, again)
    run = OneRun(assistant(script, iterations_max=3), HELLO, thread_id="t")

    result = await run.execute()

    assert result.stop_reason == "max_iterations"
    assert script.asked == [0, 1, 2]
    assert result.text == run.text
    assert len(run.seen("tool_result")) == 3


async def test_what_a_turn_left_at_its_limit_can_be_gone_on_with() -> None:
    script = ScriptedModel(*([[Calls("sum", {"numbers": [1]})]] * 5))
    limited = await OneRun(assistant(script, iterations_max=2), HELLO, thread_id="t").execute()
    after = OneRun(assistant(ScriptedModel([Says("Fine.")])), {"message": "Go on."}, thread_id="t", run_id="run-8")
    after.earlier = [said(1, "user", "Hello?"), said(1, "assistant", "", limited.detail)]

    assert (await after.execute()).text == "Fine."


async def test_it_works_with_the_librarys_own_test_model() -> None:
    run = OneRun(assistant(TestModel(call_tools=["sum"])), HELLO)

    result = await run.execute()

    assert result.text == run.text
    assert [event.type for event in run.seen("tool_call", "tool_result")] == ["tool_call", "tool_result"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("Hi", "Hi"),
        ({"message": "Hi", "query": "no"}, "Hi"),
        ({"message": 3, "prompt": "Hi"}, "Hi"),
        ({"input": "Hi"}, "Hi"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        ([1, 2], "[1,2]"),
        (None, "null"),
    ],
)
def test_the_message_is_found_in_any_input(given: Any, message: str) -> None:
    assert message_of(given) == (message, [])


async def test_media_stand_behind_the_text() -> None:
    script = ScriptedModel([Says("A dot.")])
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    run = OneRun(assistant(script), {"message": "What is it?", "media": [image]})

    await run.execute()

    [part] = script.messages[0][0].parts
    assert isinstance(part, UserPromptPart)
    assert part.content[0] == "What is it?"
    assert getattr(part.content[1], "media_type", None) == "image/png"


# Providers that fail


async def test_a_refused_request_is_made_again_after_the_time_that_the_provider_names() -> None:
    waits = Waits()
    script = ScriptedModel([Says("Here.")], retried={0: [[ModelRateLimitError("m", "slow", retry_after=2)]]})
    run = OneRun(assistant(script, waits), HELLO)

    result = await run.execute()

    assert (result.text, waits.seconds, script.asked) == ("Here.", [2], [0, 0])
    assert [event.fields for event in run.seen("provider_retry")] == [
        {"attempt": 1, "wait_seconds": 2, "model": "scripted", "code": "llm_rate_limited"}
    ]
    assert run.seen("restarted") == []


async def test_output_before_a_cut_is_declared_void() -> None:
    cut: Response = [Says("Good mor"), ModelConnectionError("m", "reset")]
    run = OneRun(assistant(ScriptedModel([Says("Good evening.")], retried={0: [cut]})), HELLO)

    result = await run.execute()

    [restarted] = run.seen("restarted")
    assert restarted.fields == {"attempt": 1, "discard_from": 0, "discard": [[0, 1]], "reason": "provider"}
    assert run.text == result.text == "Good evening."


async def test_five_attempts_are_made_with_growing_waits() -> None:
    waits = Waits()
    failing: list[Any] = [[ModelServerError("m", "down")]] * 5
    script = ScriptedModel([Says("Never.")], retried={0: failing})

    with pytest.raises(ModelFailed, match="down") as failed:
        await OneRun(assistant(script, waits), HELLO).execute()

    assert failed.value.code == "llm_provider_error"
    assert script.asked == [0] * 5
    assert all(low <= wait <= low * 1.25 for low, wait in zip((1, 2, 4, 8), waits.seconds, strict=True))


@pytest.mark.parametrize(
    ("raised", "error", "attempts"),
    [
        (ModelRateLimitError("m", "slow", retry_after=40), ModelRateLimited, 5),
        (ModelHTTPError(429, "m", None), ModelRateLimited, 5),
        (ModelHTTPError(500, "m", None), ModelFailed, 5),
        (ModelContextWindowExceededError("m", "long"), ContextOverflow, 1),
        (ModelAuthenticationError("m", "who?"), ModelFailed, 1),
        (ModelHTTPError(400, "m", None), ModelFailed, 1),
    ],
)
async def test_each_failure_has_its_code_and_its_number_of_attempts(
    raised: Exception, error: type[ModelFailed], attempts: int
) -> None:
    script = ScriptedModel([Says("Never.")], retried={0: [[raised]] * 9})

    with pytest.raises(ModelFailed) as failed:
        await OneRun(assistant(script), HELLO).execute()

    assert type(failed.value) is error
    assert len(script.asked) == attempts


async def test_how_long_to_wait_is_in_the_error() -> None:
    script = ScriptedModel([Says("Never.")], retried={0: [[ModelRateLimitError("m", "slow", retry_after=40)]] * 9})

    with pytest.raises(ModelRateLimited) as failed:
        await OneRun(assistant(script), HELLO).execute()

    assert failed.value.details == {"retry_after": 40}


async def test_a_failure_is_recorded_like_an_answer() -> None:
    script = ScriptedModel([Says("Never.")], retried={0: [[ModelAuthenticationError("m", "who?")]]})
    run = OneRun(assistant(script), HELLO)
    with pytest.raises(ModelFailed):
        await run.execute()

    with pytest.raises(ModelFailed, match="who"):
        await run.execute()

    assert script.asked == [0]


async def test_a_fault_of_ours_is_not_blamed_on_the_provider() -> None:
    script = ScriptedModel([ValueError("a bug")])

    with pytest.raises(Exception, match="a bug") as failed:
        await OneRun(assistant(script), HELLO).execute()

    assert not isinstance(failed.value, ModelFailed)
