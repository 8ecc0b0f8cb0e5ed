"""A second model, for when the first one does not answer; and the limit on tokens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic_ai.exceptions import ModelAuthenticationError, ModelConnectionError, ModelRateLimitError, ModelServerError
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models import Model
from pydantic_ai.models.function import AgentInfo, FunctionModel

from holdfast.agents.assistant import AssistantProgram, attempts, loop
from holdfast.agents.assistant.limits import Limits
from holdfast.agents.assistant.loop import Loop
from holdfast.agents.models import ModelFailed, ModelTimedOut, build_model
from holdfast.agents.tools import builtin_tools
from holdfast.errors import BudgetExceeded
from holdfast.testing.model import Calls, Says, ScriptedModel
from tests.support.one_run import Died, OneRun
from tests.support.providers import PROTOCOLS, Fault, Reply, provider
from tests.unit.test_assistant_turn import HELLO, Waits

DOWN = ModelServerError("main", "down")


def run_of(main: Model[Any], fallback: Model[Any] | None, waits: Waits | None = None, **limits: Any) -> OneRun:
    program = AssistantProgram(main)
    program._loop = Loop(
        main,
        builtin_tools(),
        fallback=fallback,
        instructions="Be brief.",
        max_tokens=None,
        limits=Limits(**limits),
        sleep=waits or Waits(),
    )
    return OneRun(program, HELLO, thread_id="t")


async def test_after_five_attempts_the_fallback_answers_and_stays_for_the_turn() -> None:
    waits = Waits()
    main = ScriptedModel(retried={0: [[DOWN]] * 5})
    fallback = ScriptedModel([Calls("sum", {"numbers": [1, 2]})], [Says("Three.")])

    result = await run_of(main, fallback, waits).execute()

    assert result.text == "Three."
    assert (len(main.asked), fallback.asked) == (5, [0, 1])
    assert len(waits.seconds) == 4


async def test_an_attempt_that_had_begun_to_speak_is_void_before_the_fallback_speaks() -> None:
    main = ScriptedModel(retried={0: [[Says("Half an ans"), ModelAuthenticationError("main", "no key")]]})
    run = run_of(main, ScriptedModel([Says("Whole.")]))

    result = await run.execute()

    assert run.text == result.text == "Whole."
    [told] = run.seen("provider_retry")
    assert told.fields == {"attempt": 1, "wait_seconds": 0, "model": "scripted", "code": "llm_provider_error"}


async def test_the_fallback_is_tried_as_the_model_is_then_the_turn_fails_with_its_code() -> None:
    main = ScriptedModel(retried={0: [[DOWN]] * 5})
    limited = ModelRateLimitError("fallback", "slow down", retry_after=40)
    fallback = ScriptedModel(retried={0: [[ModelConnectionError("fallback", "reset")], *[[limited]] * 4]})

    with pytest.raises(ModelFailed) as failed:
        await run_of(main, fallback).execute()

    assert failed.value.code == "llm_rate_limited"
    assert (len(main.asked), len(fallback.asked)) == (5, 5)


async def test_executed_again_nothing_is_asked_twice_that_was_answered() -> None:
    main = ScriptedModel(retried={0: [[DOWN]] * 5})
    fallback = ScriptedModel([Calls("sum", {"numbers": [1, 2]})], [Says("Three.")])
    run = run_of(main, fallback)
    with pytest.raises(Died):
        await run.start(die_after=2).result()

    result = await run.execute()

    assert result.text == "Three."
    assert (len(main.asked), fallback.asked) == (5, [0, 1])


async def test_a_turn_that_has_used_up_its_tokens_asks_no_more() -> None:
    main = ScriptedModel([Calls("sum", {"numbers": [1, 2]})], [Says("Three.")])
    run = run_of(main, None, tokens_max=10)

    with pytest.raises(BudgetExceeded) as failed:
        await run.execute()

    assert failed.value.code == "budget_exceeded"
    assert failed.value.details["used"] >= failed.value.details["limit"] == 10
    assert main.asked == [0]


# Silence


class Silent(FunctionModel):
    """Says a word and then nothing any more."""

    def __init__(self) -> None:
        super().__init__(stream_function=self._respond, model_name="silent")
        self.asked = 0

    async def _respond(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        self.asked += 1
        yield "Well"
        await asyncio.Event().wait()


async def test_a_model_that_says_nothing_for_too_long_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "SILENCE_SECONDS", 0.01)
    model = Silent()

    with pytest.raises(ModelTimedOut):
        await run_of(model, None).execute()

    assert model.asked == 5


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_so_is_a_provider_that_sends_nothing(monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    monkeypatch.setattr(loop, "SILENCE_SECONDS", 0.2)
    over = threading.Event()
    with provider(protocol) as fake:
        fake.script = [Reply("Well, let me see", before_end=lambda: over.wait(60)), Reply("Here.")]
        model: Any = build_model(fake.settings["HOLDFAST_MODEL"], "key", fake.url)
        run = run_of(model, None)
        result = await run.execute()
        over.set()
        await model.client.close()

    assert result.text == run.text == "Here."
    [told] = run.seen("provider_retry")
    assert told.fields["code"] == "llm_timeout"


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_provider_that_fails_in_its_stream_is_asked_again(protocol: str) -> None:
    with provider(protocol) as fake:
        fake.script = [Reply("Well, let me", fault=Fault(529, "overloaded_error", "Overloaded")), Reply("Here.")]
        model: Any = build_model(fake.settings["HOLDFAST_MODEL"], "key", fake.url)
        run = run_of(model, None)
        result = await run.execute()
        await model.client.close()

    assert result.text == run.text == "Here."
    assert len(run.seen("provider_retry")) == 1
