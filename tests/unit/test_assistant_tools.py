"""Tool calls of the assistant: what they give, what may go wrong, and who is asked before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from pydantic_ai.messages import ModelRequest, ToolReturnPart, UserPromptPart

from holdfast.agents.assistant import AssistantProgram
from holdfast.agents.assistant.calls import OUTPUT_CHARACTERS_MAX
from holdfast.agents.assistant.limits import Limits
from holdfast.agents.assistant.permission import input_hash
from holdfast.agents.tools import Call, Tool, ToolError, Tools, ask_human_tool, builtin_tools
from holdfast.agents.tools.now import NowInput, current_time_tool
from holdfast.model import Kind
from holdfast.testing.model import Calls, Response, Says, ScriptedModel
from tests.support.one_run import Died, OneRun

HELLO = {"message": "Hello?"}


class Order(msgspec.Struct, forbid_unknown_fields=True):
    item: str = "tea"


Work = Callable[[Call, Order], Awaitable[Any]]


def shop(work: Work, **declared: Any) -> Tool[Order]:
    return Tool(name="shop", description="Orders.", input=Order, function=work, **declared)


class Shop:
    """A tool with a ledger outside of the run."""

    def __init__(self) -> None:
        self.ordered: list[str] = []

    async def __call__(self, call: Call, input: Order) -> str:
        self.ordered.append(input.item)
        return f"{input.item} ordered"


def turn(tool: Tool[Any], *script: Response) -> tuple[OneRun, ScriptedModel]:
    model = ScriptedModel(*script, [Says("Done.")])
    return OneRun(AssistantProgram(model, tools=Tools(tool)), HELLO), model


def returned(model: ScriptedModel) -> list[tuple[Any, str]]:
    """What the last request told the model about its calls."""
    last = model.messages[-1][-1]
    assert isinstance(last, ModelRequest)
    return [(part.content, part.outcome) for part in last.parts if isinstance(part, ToolReturnPart)]


async def test_a_call_is_told_with_the_response_and_its_result_with_the_tool() -> None:
    run, model = turn(shop(Shop()), [Calls("shop", {"item": "milk"})])

    await run.execute()

    call, result = run.seen("tool_call", "tool_result")
    assert (call.mark, call.fields) == (
        "model",
        {"tool": "shop", "tool_call_id": "c1", "input": {"item": "milk"}},
    )
    assert (result.mark, result.fields) == (
        "tool:c1",
        {"tool": "shop", "tool_call_id": "c1", "output": "milk ordered", "truncated": False},
    )
    assert returned(model) == [("milk ordered", "success")]


async def test_calls_of_one_response_run_at_the_same_time() -> None:
    together = asyncio.Barrier(3)

    async def meet(call: Call, input: Order) -> str:
        await together.wait()
        return input.item

    calls = [Calls("shop", {"item": str(n)}, f"c{n}") for n in range(3)]
    run, model = turn(shop(meet), calls)

    await run.execute()

    assert returned(model) == [("0", "success"), ("1", "success"), ("2", "success")]


async def test_results_that_are_no_text_stay_what_they_are() -> None:
    async def count(call: Call, input: Order) -> Any:
        return {"left": 3}

    run, _ = turn(shop(count), [Calls("shop")])
    await run.execute()

    assert run.seen("tool_result")[0].fields["output"] == {"left": 3}


async def test_long_results_are_cut() -> None:
    async def talk(call: Call, input: Order) -> str:
        return "x" * (OUTPUT_CHARACTERS_MAX + 1)

    run, model = turn(shop(talk), [Calls("shop")])
    await run.execute()

    fields = run.seen("tool_result")[0].fields
    assert (len(fields["output"]), fields["truncated"]) == (OUTPUT_CHARACTERS_MAX, True)
    assert len(returned(model)[0][0]) == OUTPUT_CHARACTERS_MAX


async def _refuse(call: Call, input: Order) -> str:
    raise ToolError("sold_out", "no tea today")


async def _break(call: Call, input: Order) -> str:
    raise KeyError("shelf")


async def _hang(call: Call, input: Order) -> str:
    await asyncio.Event().wait()
    return ""


async def _babble(call: Call, input: Order) -> Any:
    return object()


@pytest.mark.parametrize(
    ("work", "arguments", "code", "message"),
    [
        (_refuse, {}, "sold_out", "no tea today"),
        (_break, {}, "tool_failed", "KeyError: 'shelf'"),
        (_hang, {}, "tool_timeout", "it took more than 0.01 s"),
        (_babble, {}, "invalid_output", "the tool's result is no JSON value: object cannot be written as JSON"),
        (_refuse, {"item": 3}, "invalid_input", "Expected `str`, got `int` - at `$.item`"),
        (_refuse, {"thing": "x"}, "invalid_input", "Object contains unknown field `thing`"),
    ],
)
async def test_a_failed_call_is_a_result_and_the_turn_goes_on(
    work: Work, arguments: dict[str, Any], code: str, message: str
) -> None:
    run, model = turn(shop(work, timeout_seconds=0.01), [Calls("shop", arguments)])

    result = await run.execute()

    assert result.text == "Done."
    assert run.seen("tool_result")[0].fields == {
        "tool": "shop",
        "tool_call_id": "c1",
        "error": code,
        "message": message,
    }
    assert returned(model) == [(f"{code}: {message}", "failed")]


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (Calls("nothing"), "unknown_tool"),
        (Calls("shop", '{"item": '), "invalid_input"),
        (Calls("shop", "[1]"), "invalid_input"),
    ],
)
async def test_calls_that_cannot_be_made_have_a_result_too(call: Calls, code: str) -> None:
    run, model = turn(shop(Shop()), [call])

    result = await run.execute()

    assert result.text == "Done."
    assert [e.fields.get("error") for e in run.seen("tool_call", "tool_result")] == [None, code]
    assert [outcome for _, outcome in returned(model)] == ["retried"]


async def test_a_model_that_errs_again_and_again_is_only_ended_by_the_limit() -> None:
    model = ScriptedModel(*([[Calls("shop", {"item": 3})]] * 9), [Says("I give up.")])
    run = OneRun(AssistantProgram(model, tools=Tools(shop(Shop()))), HELLO)

    assert (await run.execute()).text == "I give up."


async def test_ids_that_a_provider_uses_twice_are_two_calls() -> None:
    work = Shop()
    run, _ = turn(shop(work), [Calls("shop", {"item": "a"})], [Calls("shop", {"item": "b"})])

    await run.execute()

    assert work.ordered == ["a", "b"]
    assert [event.mark for event in run.seen("tool_result")] == ["tool:c1", "tool:c1#2"]


# Permission


async def test_before_the_call_a_person_is_asked_about_just_this_call() -> None:
    work = Shop()
    run, _ = turn(shop(work, requires_permission=True), [Calls("shop", {"item": "gold"})])

    execution = run.start()
    [asked] = await run.asked()

    assert work.ordered == []
    assert (asked.kind, asked.tool, asked.tool_call_id, asked.rule, asked.choices) == (
        Kind.APPROVAL,
        "shop",
        "c1",
        "requires_permission",
        ("yes", "no", "always"),
    )
    assert asked.question == 'Allow shop to run: {"item":"gold"}'
    assert asked.input == b'{"item":"gold"}'
    assert asked.input_hash == input_hash("shop", {"item": "gold"})
    assert asked.expires_at == run.clock.now() + 259_200_000_000
    run.answer(asked, True)
    await execution.result()
    assert work.ordered == ["gold"]


async def test_no_is_a_result_and_the_turn_goes_on() -> None:
    work = Shop()
    run, model = turn(shop(work, requires_permission=True), [Calls("shop")])
    execution = run.start()
    [asked] = await run.asked()

    run.answer(asked, {"approved": False, "note": "too dear"})
    result = await execution.result()

    assert (result.text, work.ordered) == ("Done.", [])
    assert run.seen("tool_result")[0].fields["error"] == "permission_denied"
    assert returned(model) == [("permission_denied: too dear", "failed")]


async def test_silence_is_a_no() -> None:
    run, model = turn(shop(Shop(), requires_permission=True), [Calls("shop")])
    execution = run.start()
    [asked] = await run.asked()

    run.answer(asked, None, by="expiry")
    await execution.result()

    assert returned(model) == [("permission_denied: nobody answered in time", "failed")]


async def test_so_many_tools_of_a_turn_execute_at_once() -> None:
    now: list[str] = []
    most: list[int] = []

    async def work(call: Call, input: Order) -> str:
        now.append(call.key)
        for _ in range(5):
            await asyncio.sleep(0)
        most.append(len(now))
        now.remove(call.key)
        return "done"

    tool = Tool(name="work", description="Works.", input=Order, function=work)
    calls = [Calls("work", {"item": "tea"}, id=f"c{number}") for number in range(7)]
    program = AssistantProgram(ScriptedModel(calls, [Says("Done.")]), tools=Tools(tool), limits=Limits(tools_at_once=3))

    await OneRun(program, HELLO).execute()

    assert len(most) == 7
    assert max(most) == 3


async def test_parallel_calls_are_asked_about_at_the_same_time_and_answered_in_any_order() -> None:
    work = Shop()
    calls = [Calls("shop", {"item": item}, item) for item in ("a", "b", "c")]
    run, model = turn(shop(work, requires_permission=True), calls)
    execution = run.start()
    asked = {interrupt.tool_call_id: interrupt for interrupt in await run.asked(3)}

    run.answer(asked["c"], True)
    run.answer(asked["a"], False)
    run.answer(asked["b"], True)
    await execution.result()

    assert sorted(work.ordered) == ["b", "c"]
    assert [outcome for _, outcome in returned(model)] == ["failed", "success", "success"]


async def test_always_ends_the_asking_from_the_next_response_on() -> None:
    work = Shop()
    both = [Calls("shop", {"item": "a"}, "a"), Calls("shop", {"item": "b"}, "b")]
    run, _ = turn(shop(work, requires_permission=True), both, [Calls("shop", {"item": "c"}, "c")])
    execution = run.start()
    first, second = await run.asked(2)
    run.answer(first, {"approved": True, "remember": True})
    run.answer(second, True)

    await execution.result()
    again = await run.execute()

    assert again.text == "Done."
    assert sorted(work.ordered) == ["a", "b", "c"]
    assert len(run.interrupts) == 2


async def test_a_person_may_give_the_result_instead() -> None:
    work = Shop()
    run, model = turn(shop(work, requires_permission=True), [Calls("shop")])
    execution = run.start()
    [asked] = await run.asked()

    run.answer(asked, {"approved": True, "output": "bought it myself"})
    await execution.result()

    assert work.ordered == []
    assert returned(model) == [("bought it myself", "success")]


async def test_an_input_that_does_not_fit_is_not_worth_a_question() -> None:
    run, model = turn(shop(Shop(), requires_permission=True), [Calls("shop", {"item": 1})])

    await run.execute()

    assert run.interrupts == {}
    assert returned(model)[0][1] == "failed"


def test_the_hash_is_that_of_the_documented_example() -> None:
    documented = "aa1a04df209ac2f82091590218e12f527c883886faf14f6e20ceaccd181dbcf0"

    assert input_hash("bash", {"command": "rm -rf /srv/old"}) == documented


# Asking back


async def test_the_answer_of_a_person_is_the_result() -> None:
    run, model = turn(ask_human_tool(), [Calls("ask_human", {"question": "Which?", "choices": ["a", "b"]})])
    execution = run.start()
    [asked] = await run.asked()
    assert (asked.kind, asked.question, asked.choices) == (Kind.QUESTION, "Which?", ("a", "b"))

    run.answer(asked, "b")
    await execution.result()

    assert returned(model) == [("b", "success")]
    assert run.seen("tool_result")[0].fields["output"] == "b"


async def test_what_a_person_attaches_to_an_answer_is_read_by_the_model() -> None:
    run, model = turn(ask_human_tool(), [Calls("ask_human", {"question": "How does it look?"})])
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    execution = run.start()
    [asked] = await run.asked()

    run.answer(asked, "Like this.", note="Sorry!", blocks=[{"type": "text", "text": "It is red."}, image])
    await execution.result()

    [(told, _)] = returned(model)
    last = model.messages[-1][-1]
    [prompt] = [part for part in last.parts if isinstance(part, UserPromptPart)]
    assert told == {"answer": "Like this.", "note": "Sorry!", "texts": ["It is red."], "files_attached": 1}
    assert [getattr(item, "media_type", item) for item in prompt.content] == ["What the person attached:", "image/png"]


async def test_a_question_that_nobody_answers_is_a_failed_call() -> None:
    run, model = turn(ask_human_tool(), [Calls("ask_human", {"question": "Anyone?"})])
    execution = run.start()
    [asked] = await run.asked()

    run.answer(asked, None, by="expiry")
    result = await execution.result()

    assert result.text == "Done."
    assert run.seen("tool_result")[0].fields["error"] == "hitl_expired"
    assert returned(model)[0][1] == "failed"


# Once at most


async def _die_inside(run: OneRun) -> None:
    """Die while the tool is at work."""
    reached = asyncio.Event()

    async def hang() -> None:
        reached.set()
        await asyncio.Event().wait()

    run.program.tools.get("shop").function.then = hang  # type: ignore[attr-defined]
    execution = run.start()
    await reached.wait()
    execution.die()
    with pytest.raises(Died):
        await execution.result()
    run.program.tools.get("shop").function.then = None  # type: ignore[attr-defined]


class SlowShop(Shop):
    then: Callable[[], Awaitable[None]] | None = None

    async def __call__(self, call: Call, input: Order) -> str:
        result = await super().__call__(call, input)
        if self.then is not None:
            await self.then()
        return result


async def test_a_tool_that_must_not_run_twice_is_asked_about_after_a_crash() -> None:
    work = SlowShop()
    run, model = turn(shop(work, at_most_once=True), [Calls("shop")])
    await _die_inside(run)

    execution = run.start()
    [asked] = await run.asked()
    assert asked.reason == "outcome_unknown"
    run.answer(asked, False)
    await execution.result()

    assert work.ordered == ["tea"]
    assert run.seen("tool_result")[0].fields["error"] == "outcome_unknown"
    assert returned(model)[0][1] == "failed"
    await run.execute()
    assert len(run.seen("tool_result")) == 1


async def test_after_a_crash_a_person_may_say_what_came_of_it() -> None:
    work = SlowShop()
    run, model = turn(shop(work, at_most_once=True), [Calls("shop")])
    await _die_inside(run)

    execution = run.start()
    [asked] = await run.asked()
    run.answer(asked, {"approved": True, "output": "the tea is here"})
    await execution.result()

    assert work.ordered == ["tea"]
    assert returned(model) == [("the tea is here", "success")]
    await run.execute()
    assert len(run.seen("tool_result")) == 1


# The tools that come with the package


async def test_sums_are_exact() -> None:
    model = ScriptedModel([Calls("sum", {"numbers": [0.1, 0.2, 1]})], [Says("Done.")])

    await OneRun(AssistantProgram(model), HELLO).execute()

    assert returned(model) == [(1.3, "success")]


async def test_the_time_is_told_in_a_zone() -> None:
    tool = current_time_tool()
    call: Any = None

    assert (await tool.function(call, NowInput("Asia/Kolkata"))).endswith("+05:30")
    with pytest.raises(ToolError, match="no time zone"):
        await tool.function(call, NowInput("../etc/passwd"))


def test_a_name_is_taken_once() -> None:
    tools = builtin_tools()

    with pytest.raises(ValueError, match="already"):
        tools.add(current_time_tool())
