"""Media of messages: what goes to which provider, what never does, and what a turn that failed over one leaves behind."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from pydantic_ai.exceptions import ModelRequestRejectedError
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import Model

from holdfast.agents.assistant.history import detail_of, model_messages, refused_block, user_content
from holdfast.agents.models import build_model
from holdfast.agents.models.media import fitting
from holdfast.model import Message
from holdfast.testing.model import Says, ScriptedModel
from tests.support.one_run import OneRun
from tests.unit.test_assistant_turn import assistant, said


class Unknown(Model[None]):
    """A model of nobody's adapter."""

    model_name = "unknown"
    system = "unknown"
    provider = None

    async def request(self, *_: Any) -> ModelResponse:
        raise NotImplementedError


PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
TYPES = {
    "png": ("image", "image/png"),
    "pdf": ("document", "application/pdf"),
    "text": ("document", "text/plain"),
    "audio": ("audio", "audio/wav"),
    "video": ("video", "video/mp4"),
}
SUFFIXES = {"png": "a.png", "pdf": "a", "text": "a.txt", "audio": "a.wav", "video": "a.mp4"}


def inline(name: str) -> dict[str, Any]:
    kind, media_type = TYPES[name]
    return {"type": kind, "source": {"type": "base64", "media_type": media_type, "data": PIXEL}}


def by_url(name: str) -> dict[str, Any]:
    return {"type": TYPES[name][0], "source": {"type": "url", "url": f"https://example.com/{SUFFIXES[name]}"}}


def model_of(name: str) -> Model[Any]:
    return build_model(name, "key", "http://127.0.0.1:9/v1")


@pytest.mark.parametrize(
    ("model", "taken", "taken_by_url"),
    [
        ("anthropic:test", "png pdf text", "png pdf"),
        ("openai-chat:test", "png pdf text audio", "png"),
        ("openai-responses:test", "png pdf text", "png pdf text"),
    ],
)
def test_a_model_takes_what_its_provider_does_and_by_url_what_nobody_here_would_have_to_fetch(
    model: str, taken: str, taken_by_url: str
) -> None:
    built = model_of(model)

    assert [name for name in TYPES if refused_block([inline(name)], built) is None] == taken.split()
    assert [name for name in TYPES if refused_block([by_url(name)], built) is None] == taken_by_url.split()


def test_the_first_block_that_cannot_be_taken_is_named() -> None:
    model = model_of("anthropic:test")

    assert refused_block([inline("png"), inline("audio"), inline("video")], model) == (1, "audio")
    assert refused_block([by_url("text")], model) == (0, "document by URL")


def test_an_adapter_that_is_not_known_gets_nothing_by_url() -> None:
    model = Unknown()

    assert all(refused_block([inline(name)], model) is None for name in TYPES)
    assert all(refused_block([by_url(name)], model) is not None for name in TYPES)


def test_what_another_model_took_is_a_note_for_one_that_does_not() -> None:
    message = ModelRequest(parts=[UserPromptPart(content=user_content("Listen.", [inline("audio"), inline("png")]))])

    [kept] = fitting([message], model_of("anthropic:test"))

    text, sound, picture = content_of(kept)
    assert text == "Listen."
    assert "[audio, audio/wav: " in sound
    assert "takes no audio" in sound
    assert isinstance(picture, BinaryContent)


def test_media_of_a_turn_that_failed_are_not_shown_again() -> None:
    failed = message_with_media(1, "Look.")
    done = [message_with_media(2, "And this?"), said(2, "assistant", "A dot.")]

    first, _, second, _ = model_messages([failed, *done])

    assert content_of(first)[0] == "Look."
    assert "did not complete" in content_of(first)[1]
    assert isinstance(content_of(second)[1], BinaryContent)


async def test_a_conversation_that_is_refused_for_old_media_goes_on_without_them() -> None:
    refused = ModelRequestRejectedError("scripted", "the image of this URL cannot be read")
    script = ScriptedModel([Says("Still here.")], retried={0: [[refused]]})
    old: list[ModelMessage] = [
        ModelRequest(parts=[UserPromptPart(content=user_content("Look.", [by_url("png")]))]),
        ModelResponse(parts=[TextPart(content="A dot.")]),
    ]
    history = [said(1, "user", "Look."), said(1, "assistant", "A dot.", detail_of(old))]
    run = OneRun(assistant(script), {"message": "And now?", "media": [inline("png")]})
    run.earlier = history

    result = await run.execute()

    assert result.text == "Still here."
    before, after = script.messages
    assert not isinstance(content_of(before[0])[1], str)
    assert "refused the conversation" in content_of(after[0])[1]
    assert isinstance(content_of(after[-1])[1], BinaryContent)  # that of this turn


async def test_a_conversation_that_is_refused_for_another_providers_parts_goes_on_with_what_was_said() -> None:
    refused = ModelRequestRejectedError("scripted", "messages.1.content.0: invalid signature")
    script = ScriptedModel([Says("Still here.")], retried={0: [[refused]]})
    old: list[ModelMessage] = [
        ModelRequest(parts=[UserPromptPart(content="Add one and two.")]),
        ModelResponse(parts=[ThinkingPart(content="Hm.", signature="x"), ToolCallPart("sum", "{}", "call|1")]),
        ModelRequest(parts=[ToolReturnPart("sum", 3, "call|1")]),
        ModelResponse(parts=[TextPart(content="Three.")]),
    ]
    run = OneRun(assistant(script), {"message": "And now?"})
    run.earlier = [said(1, "user", "Add one and two."), said(1, "assistant", "Three.", detail_of(old))]

    await run.execute()

    before, after = script.messages
    assert len(before) == 5
    assert [[getattr(part, "content", None) for part in message.parts] for message in after] == [
        ["Add one and two."],
        ["Three."],
        ["And now?"],
    ]


def message_with_media(number: int, text: str) -> Message:
    return msgspec.structs.replace(said(number, "user", text), media=msgspec.json.encode([inline("png")]))


def content_of(message: ModelMessage) -> list[Any]:
    [part] = message.parts
    assert isinstance(part, UserPromptPart)
    return [part.content] if isinstance(part.content, str) else list(part.content)
