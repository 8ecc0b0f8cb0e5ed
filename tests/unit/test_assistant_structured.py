"""Answers in a shape: what fits is the output, what does not goes back twice."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic_ai.exceptions import UserError
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.test import TestModel

from holdfast.agents.assistant import AssistantProgram
from holdfast.agents.assistant.structured import Shape
from holdfast.agents.models import build_model
from holdfast.errors import InvalidOutput
from holdfast.execution.given import OUTPUT_SCHEMA, given_step
from holdfast.execution.program import Result
from holdfast.testing.model import Calls, Says, ScriptedModel
from tests.support.one_run import Died, OneRun
from tests.unit.test_assistant_turn import assistant

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["city", "people"],
}
GOOD = '{"city": "Ulm", "people": 126000}'


def shaped_run(model: ScriptedModel, schema: Any = CITY) -> OneRun:
    run = OneRun(assistant(model), {"message": "Which city?"}, thread_id="t")
    given = given_step(OUTPUT_SCHEMA, schema, 0)
    run.steps[given.key] = given
    return run


async def answered(*answers: str, schema: Any = CITY) -> tuple[Result, ScriptedModel]:
    model = ScriptedModel(retried={0: [[Says(text)] for text in answers]})
    return await shaped_run(model, schema).execute(), model


async def test_an_answer_that_fits_is_the_output_as_a_value_and_the_message_as_it_was_said() -> None:
    result, model = await answered(GOOD)

    assert result.output == {"city": "Ulm", "people": 126000}
    assert result.text == GOOD
    assert '"required":["city","people"]' in (model.messages[0][-1].instructions or "")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "array", "items": {"type": "integer"}}, "[1, 2]", [1, 2]),
        ({"type": "string", "maxLength": 3}, '"yes"', "yes"),
        (CITY, f"```json\n{GOOD}\n```", {"city": "Ulm", "people": 126000}),
        ({}, "null", None),
    ],
)
async def test_any_json_may_be_asked_for(schema: Any, text: str, value: Any) -> None:
    result, _ = await answered(text, schema=schema)

    assert result.output == value


async def test_an_answer_that_does_not_fit_goes_back_with_what_is_wrong() -> None:
    result, model = await answered("Ulm!", '{"city": 5}', GOOD)

    first, second = (str(messages[-1]) for messages in model.messages[1:])
    assert result.output == {"city": "Ulm", "people": 126000}
    assert result.text == GOOD
    assert "it is no JSON" in first
    assert "city: 5 is not of type 'string'" in second
    assert "'people' is a required property" in second


async def test_after_two_repairs_the_turn_fails() -> None:
    with pytest.raises(InvalidOutput, match="after 2 repairs") as failed:
        await answered("no", "no", "no", GOOD)

    assert failed.value.code == "invalid_output"


async def test_tools_are_used_on_the_way() -> None:
    model = ScriptedModel([Calls("sum", {"numbers": [1, 2]})], [Says("3")])

    result = await shaped_run(model, {"type": "integer"}).execute()

    assert result.output == 3


async def test_executed_again_it_counts_its_repairs_as_before() -> None:
    model = ScriptedModel(retried={0: [[Says("no")]] * 3})
    run = shaped_run(model)
    with pytest.raises(Died):
        await run.start(die_after=3).result()  # one of them is what it was given

    with pytest.raises(InvalidOutput, match="after 2 repairs"):
        await run.execute()

    assert len(model.asked) == 3


async def test_a_model_that_cannot_be_asked_with_a_schema_is_asked_without() -> None:
    model = ScriptedModel(retried={0: [[UserError("no tools together with a schema")], [Says(GOOD)]]})

    result = await shaped_run(model).execute()

    assert result.output == {"city": "Ulm", "people": 126000}


def test_a_provider_that_can_is_held_to_the_schema_itself() -> None:
    parameters = ModelRequestParameters()
    chat = build_model("openai-chat:gpt-4o", "k", "http://127.0.0.1:9/v1")

    asked = Shape(CITY).asked_for(parameters, chat)

    assert asked is not None
    assert asked.output_mode == "native"
    assert asked.output_object is not None
    assert asked.output_object.json_schema == CITY
    assert Shape({"type": "array"}).asked_for(parameters, chat) is None
    assert Shape({"type": "object", "properties": {"a": {"$ref": "#"}}}).asked_for(parameters, chat) is None
    assert Shape(CITY).asked_for(parameters, TestModel(profile={"supports_json_schema_output": False})) is None


async def test_the_offline_model_gives_an_example_of_the_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "greeting": {"type": "string", "maxLength": 5},
            "mood": {"enum": ["good", "bad"]},
            "scores": {"type": "array", "items": {"$ref": "#/$defs/score"}, "minItems": 2},
            "seen": {"type": ["boolean", "null"]},
        },
        "required": ["greeting", "mood", "scores", "seen"],
        "additionalProperties": False,
        "$defs": {"score": {"type": "number", "exclusiveMinimum": 2}},
    }
    program = AssistantProgram(offline_word_delay_seconds=0)
    run = OneRun(program, {"message": "Hello!"}, thread_id="t")
    given = given_step(OUTPUT_SCHEMA, schema, 0)
    run.steps[given.key] = given

    result = await run.execute()

    assert result.output == {"greeting": "Hello", "mood": "good", "scores": [3, 3], "seen": True}
