"""What the offline model says, and how it streams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai.models import ModelRequestParameters

from holdfast.agents.models.offline import phrases
from holdfast.agents.models.offline.examples import example_of
from holdfast.agents.models.offline.model import OfflineModel, words
from holdfast.agents.models.offline.questions import question_to_ask
from holdfast.agents.models.offline.replies import Answer, Conversation, Exchange, Wish, reply_to

TOOLS = frozenset({"current_time", "sum", "ask_human"})
GREETED = [Exchange("Say hello in one short sentence.", phrases.HELLO)]


def say(message: str, earlier: Sequence[Exchange] = ()) -> str:
    return reply_to(Conversation(message=message, earlier=earlier, tools=TOOLS)).text


def test_a_greeting_is_one_short_sentence() -> None:
    assert say("Say hello in one short sentence.") == "Hello, it is nice to meet you!"


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        ("Repeat what you just said.", phrases.HELLO),
        ("Repeat what you just said in French.", "Bonjour, ravi de faire votre connaissance !"),
        ("Now say that in German please.", "Hallo, schön, Sie kennenzulernen!"),
        ("Translate it to Spanish!", "¡Hola, encantado de conocerte!"),
        ("And in Italian?", "Ciao, piacere di conoscerti!"),
        ("Rephrase that.", "Good day, I am glad to make your acquaintance!"),
        ("What did I just say?", "You said: Say hello in one short sentence."),
    ],
)
def test_it_repeats_and_rephrases_from_the_conversation(message: str, answer: str) -> None:
    assert say(message, GREETED) == answer


def test_a_translation_can_be_taken_back_and_on() -> None:
    french = [Exchange("Say that in French.", phrases.TRANSLATIONS[phrases.HELLO]["french"])]

    assert say("Repeat it in English.", french) == phrases.HELLO
    assert say("Repeat it in German.", french) == phrases.TRANSLATIONS[phrases.HELLO]["german"]


@pytest.mark.parametrize("message", ["Repeat that in Klingon.", "What is the capital of France?"])
def test_what_it_cannot_do_it_says_and_what_it_is(message: str) -> None:
    answer = say(message, GREETED)

    assert phrases.WHO in answer
    assert "HOLDFAST_MODEL" in answer
    assert "HOLDFAST_MODEL_KEY" in answer


def test_there_is_nothing_to_repeat_at_the_beginning() -> None:
    assert say("Repeat what you just said.") == "I have not said anything yet in this conversation."


def test_every_sentence_of_the_table_has_all_languages() -> None:
    languages = {"french", "german", "spanish", "italian"}

    assert {sentence: set(table) for sentence, table in phrases.TRANSLATIONS.items()} == dict.fromkeys(
        phrases.TRANSLATIONS, languages
    )


@pytest.mark.parametrize(
    ("message", "wishes"),
    [
        ("What time is it?", [Wish("current_time", {})]),
        ("What is the time in Europe/Berlin?", [Wish("current_time", {"timezone": "Europe/Berlin"})]),
        ("What is 2 + 3?", [Wish("sum", {"numbers": [2, 3]})]),
        ("The sum of 1, 2 and -3.5?", [Wish("sum", {"numbers": [1, 2, -3.5]})]),
        ("What time is it, and what is 2+3?", [Wish("current_time", {}), Wish("sum", {"numbers": [2, 3]})]),
        ("Ask me which colour I like.", [Wish("ask_human", {"question": "Which colour do you like?"})]),
    ],
)
def test_it_asks_for_tools(message: str, wishes: list[Wish]) -> None:
    assert list(reply_to(Conversation(message=message, tools=TOOLS)).wishes) == wishes


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (Answer("current_time", {}, "2026-11-20T23:59:19+00:00"), "It is 23:59:19 UTC on 20 November 2026."),
        (Answer("current_time", {}, "2026-11-20T23:59:19+01:00"), "It is 23:59:19 UTC+01:00 on 20 November 2026."),
        (Answer("sum", {"numbers": [2, 3]}, 5), "2 + 3 = 5."),
        (Answer("ask_human", {}, "blue"), "You answered: blue. Thank you!"),
        (Answer("sum", {}, "invalid_input: no", failed=True), "The tool sum did not work: invalid_input: no"),
    ],
)
def test_it_makes_its_reply_of_what_tools_answered(answer: Answer, text: str) -> None:
    assert reply_to(Conversation(message="?", answers=[answer], tools=TOOLS)).text == text


def test_without_the_tool_it_says_so() -> None:
    assert reply_to(Conversation(message="What time is it?")).text == "I have no tool current_time here."


@pytest.mark.parametrize(
    ("message", "question", "choices"),
    [
        ("Ask me which colour I like.", "Which colour do you like?", []),
        ("ask me for my name", "What is your name?", []),
        ("Ask me whether I am ready, then start.", "Are you ready?", []),
        ("Ask me what my name is", "What is your name?", []),
        ("Please ask me where I was born", "Where were you born?", []),
        ("Ask me to confirm the order.", "Could you confirm the order?", []),
        ("Ask me something.", "What would you like to tell me?", []),
        (
            "Ask me to choose between red, green and blue.",
            "Which do you choose: red, green or blue?",
            ["red", "green", "blue"],
        ),
    ],
)
def test_an_order_becomes_a_question(message: str, question: str, choices: list[str]) -> None:
    assert question_to_ask(message) == (question, choices)


def test_counting_gives_as_many_words_as_wanted() -> None:
    text = say("Count to 200.")

    assert text.startswith("1, 2, 3, ")
    assert text.endswith(" 199, 200.")
    assert len(words(text)) == 200


def test_thinking_comes_before_the_answer() -> None:
    reply = reply_to(Conversation(message="Think about rain."))

    assert "rain" in reply.thinking
    assert "rain" in reply.text


def test_the_pieces_of_a_text_are_the_text() -> None:
    text = " one  two\nthree "

    assert words(text) == [" one  ", "two\n", "three "]


async def test_it_streams_word_by_word_and_counts_words() -> None:
    model = OfflineModel(word_delay_seconds=0)
    messages: list[ModelMessage] = [
        ModelRequest(parts=[UserPromptPart("Say hello.")]),
        ModelResponse(parts=[TextPart(phrases.HELLO)]),
        ModelRequest(parts=[UserPromptPart("Repeat what you just said.")]),
    ]

    async with model.request_stream(messages, None, ModelRequestParameters()) as stream:
        events = [event async for event in stream]
    response = stream.get()

    assert response.text == phrases.HELLO
    assert len([event for event in events if event.event_kind == "part_delta"]) == len(words(phrases.HELLO)) - 1
    assert (response.usage.input_tokens, response.usage.output_tokens) == (14, 7)
    assert (response.state, response.finish_reason) == ("complete", "stop")


async def test_the_same_conversation_gets_the_same_reply() -> None:
    model = OfflineModel(word_delay_seconds=0)
    messages: list[ModelMessage] = [ModelRequest(parts=[UserPromptPart("Count to 3.")])]

    texts = {(await model.request(messages, None, ModelRequestParameters())).text for _ in range(3)}

    assert texts == {"1, 2, 3."}


# Answers in a shape


def test_an_example_of_a_schema_is_never_large() -> None:
    maze: dict[str, Any] = {"type": "object", "properties": {f"p{n}": {"$ref": "#"} for n in range(200)}}
    many = {"type": "array", "minItems": 10**9, "items": {"type": "string", "minLength": 10**9}}

    assert len(msgspec.json.encode(example_of(maze, "x"))) < 100_000
    assert len(example_of(many, "x")) == 10


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"anyOf": [True, {"type": "null"}], "type": "integer"}, 0),
        ({"allOf": [{"type": "object", "properties": {"a": {"const": 1}}}]}, {"a": 1}),
        ({"$ref": "#/nowhere"}, None),
        ({"properties": {"a": {"minimum": 3, "type": "integer"}}}, {"a": 3}),
        ({}, "x"),
        (True, None),
    ],
)
def test_an_example_takes_the_first_of_what_is_there(schema: Any, value: Any) -> None:
    assert example_of(schema, "x") == value
