"""
What the model gets to see: the thread's earlier turns, and the message that this turn answers. No I/O.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from pydantic_ai.messages import (
    AudioUrl,
    BinaryContent,
    DocumentUrl,
    ImageUrl,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    UserContent,
    UserPromptPart,
    VideoUrl,
)
from pydantic_ai.models import Model
from pydantic_core import ValidationError

from holdfast.agents.assistant.compaction import is_summary
from holdfast.agents.models.media import PDF, note, refusal, turn_begin, without_media
from holdfast.model import Message

_URLS: Final[Mapping[str, type[ImageUrl | AudioUrl | VideoUrl]]] = {
    "image": ImageUrl,
    "audio": AudioUrl,
    "video": VideoUrl,
}
_TEXT_SUFFIXES: Final = (".txt", ".text", ".md", ".markdown", ".csv", ".log")


def user_content(text: str, media: Sequence[Any]) -> str | list[UserContent]:
    """A message and the media blocks behind it; blocks of unknown shape are left out, the API has checked them."""
    blocks = [block for block in map(medium, media) if block is not None]
    if not blocks:
        return text
    return [text, *blocks] if text else blocks


def refused_block(media: Sequence[Any], model: Model[Any]) -> tuple[int, str] | None:
    """The first of these blocks that the model cannot take, and what it is; None: it takes all."""
    for index, block in enumerate(media):
        item = medium(_without_data(block))
        refused = None if item is None else refusal(item, model)
        if refused is not None:
            return index, refused
    return None


def model_messages(messages: Iterable[Message]) -> list[ModelMessage]:
    """
    The thread as model messages, oldest first.

    A turn that the assistant completed left its own model messages, tool calls included. Of other turns there is
    what was said: by another agent's answer, or by the person alone where a turn failed. The media of such a turn are
    not shown again, for they may be why it failed, and so would each turn after it.
    """
    messages = list(messages)
    answered = {message.number for message in messages if message.role == "assistant"}
    earlier: list[ModelMessage] = []
    prompts: dict[int, ModelMessage] = {}
    for message in messages:
        if message.role == "user":
            content = user_content(message.content, msgspec.json.decode(message.media))
            if message.number not in answered:
                earlier += _unanswered(content)
                continue
            prompts[message.number] = ModelRequest(parts=[UserPromptPart(content=content)])
            earlier.append(prompts[message.number])
            continue
        detail = _detail(message)
        if detail is None:
            earlier.append(ModelResponse(parts=[TextPart(content=message.content)]))
            continue
        prompt = prompts.pop(message.number, None)
        if is_summary(detail[0]):
            earlier = []  # it stands for all that was before
        earlier = [item for item in earlier if item is not prompt]  # it is in the detail
        earlier += detail
        if isinstance(earlier[-1], ModelRequest):
            earlier.append(_silence("this turn ended here"))
    return earlier


def _unanswered(content: str | Sequence[UserContent]) -> list[ModelMessage]:
    """A turn that did not complete."""
    if not isinstance(content, str):
        content = [item if isinstance(item, str) else note(item, "that turn did not complete") for item in content]
    return [ModelRequest(parts=[UserPromptPart(content=content)]), _silence("this turn did not complete")]


def _silence(reason: str) -> ModelResponse:
    """
    Stands where an answer is missing. Without it the library would join what the person said with the next message,
    and of that it would not be known any more to which turn it belongs.
    """
    return ModelResponse(parts=[TextPart(content=f"[No answer: {reason}.]")])


def detail_of(messages: Sequence[ModelMessage]) -> bytes:
    """
    The model messages of a turn, to be kept with its answer: without a call that was never answered, and without the
    instructions, which each turn brings anew.
    """
    kept = [replace(item, instructions=None) if isinstance(item, ModelRequest) else item for item in messages]
    while kept and isinstance(kept[-1], ModelResponse) and any(isinstance(p, ToolCallPart) for p in kept[-1].parts):
        kept.pop()
    return ModelMessagesTypeAdapter.dump_json(kept)


def with_notes(messages: list[ModelMessage], notes: str | None, run_id: str) -> list[ModelMessage]:
    """The messages with notes before the person's message of this turn; the list that was given stays as it is."""
    if notes is None:
        return messages
    for place, message in enumerate(messages):
        if isinstance(message, ModelRequest) and message.run_id == run_id:
            told = replace(message, parts=[UserPromptPart(content=notes), *message.parts])
            return [*messages[:place], told, *messages[place + 1 :]]
    return messages


def in_plain_words(messages: Sequence[ModelMessage], run_id: str) -> list[ModelMessage]:
    """
    The messages, and of earlier turns only what was said: no media, no thinking, no calls of tools.

    Any provider takes these; of the rest it may refuse what was another one's, or what it would not take any more.
    """
    begin = turn_begin(messages, run_id)
    said = [kept for message in messages[:begin] if (kept := _said(without_media(message))).parts]
    return [*said, *messages[begin:]]


def _said(message: ModelMessage) -> ModelMessage:
    if isinstance(message, ModelRequest):
        asked = [part for part in message.parts if isinstance(part, UserPromptPart)]
        return message if len(asked) == len(message.parts) else replace(message, parts=asked)
    told = [part for part in message.parts if isinstance(part, TextPart)]
    return message if len(told) == len(message.parts) else replace(message, parts=told)


def _detail(message: Message) -> list[ModelMessage] | None:
    """The model messages of an assistant's turn; None where there are none that this version can read."""
    if not message.detail:
        return None
    try:
        return ModelMessagesTypeAdapter.validate_json(message.detail) or None
    except ValidationError:
        return None  # another agent's detail


def _without_data(block: Any) -> Any:
    """A block that is only looked at; decoding all that it holds would hold up everything else."""
    source = block.get("source") if isinstance(block, dict) else None
    return {**block, "source": {**source, "data": ""}} if isinstance(source, dict) and "data" in source else block


def medium(block: Any) -> UserContent | None:
    """A media block as model messages have it; None for a block of unknown shape."""
    if not isinstance(block, dict) or not isinstance(block.get("source"), dict):
        return None
    source = block["source"]
    try:
        if source.get("type") == "base64":
            return BinaryContent(data=base64.b64decode(source["data"]), media_type=source["media_type"])
        url = source["url"]
        if block.get("type") == "document":
            # Where the URL does not tell, it is taken for the usual one; nobody here will look.
            is_text = urlsplit(url).path.lower().endswith(_TEXT_SUFFIXES)
            return DocumentUrl(url=url, media_type="text/plain" if is_text else PDF)
        return _URLS[block["type"]](url=url)
    except (KeyError, TypeError, ValueError):
        return None
