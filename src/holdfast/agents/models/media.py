"""
What media a model takes, and what stands in the place of those that it does not. No I/O. Loads the model library.

The library's profiles say which kinds of files a model takes. What they leave out is kept here: two adapters that do
not say so, and which adapters pass a URL on as it is. All others would fetch it in this process, with this machine's
place in the network, and that must never be: what a URL points to is the provider's to read, or nobody's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from pydantic_ai.messages import (
    AudioUrl,
    BinaryContent,
    DocumentUrl,
    FileUrl,
    ImageUrl,
    ModelMessage,
    ModelRequest,
    UserContent,
    UserPromptPart,
    VideoUrl,
)
from pydantic_ai.models import Model
from pydantic_ai.models.wrapper import WrapperModel

PDF: Final = "application/pdf"
_EVERYTHING: Final = frozenset({"image", PDF, "text", "audio", "video"})

# What an adapter passes on by URL, by its class or the nearest base of it. A class that is not here gets none.
_BY_URL: Final[Mapping[str, frozenset[str]]] = {
    "AnthropicModel": frozenset({"image", PDF}),
    "OpenAIResponsesModel": frozenset({"image", PDF, "text"}),
    "OpenAIChatModel": frozenset({"image"}),
    "OpenRouterModel": frozenset({"image", "video"}),
    "MistralModel": frozenset({"image", PDF}),
    "GroqModel": frozenset({"image"}),
    "HuggingFaceModel": frozenset({"image"}),
    "XaiModel": frozenset({"image"}),
    "OfflineModel": _EVERYTHING,  # it looks at none of them
    "FunctionModel": _EVERYTHING,
    "TestModel": _EVERYTHING,
}

# Adapters whose profiles claim more than they can send.
_ONLY: Final[Mapping[str, frozenset[str]]] = {
    "GroqModel": frozenset({"image"}),
    "XaiModel": frozenset({"image", "document"}),
}


def refusal(item: UserContent, model: Model[Any]) -> str | None:
    """What this model cannot take in an item of a message (`audio`, `a video by URL`); None if it takes it."""
    kind = _kind(item)
    if kind is None:
        return None
    while isinstance(model, WrapperModel):
        model = model.wrapped
    if not _takes(kind, _media_type(item), model):
        return kind
    if isinstance(item, FileUrl) and _form(kind, _media_type(item)) not in _passed_on(model):
        return f"{kind} by URL"
    return None


def fitting(messages: Sequence[ModelMessage], model: Model[Any]) -> list[ModelMessage]:
    """The messages as this model can take them: a note stands where a medium cannot."""

    def kept(item: UserContent) -> UserContent:
        refused = refusal(item, model)
        return item if refused is None else note(item, f"this model takes no {refused}")

    return [_with_content(message, kept) for message in messages]


def without_media(message: ModelMessage) -> ModelMessage:
    """A message with notes in the place of its media."""

    def kept(item: UserContent) -> UserContent:
        return item if _kind(item) is None else note(item, "the provider refused the conversation with it")

    return _with_content(message, kept)


def turn_begin(messages: Sequence[ModelMessage], run_id: str) -> int:
    """The place of the first message of this run; what was said in earlier turns stands before it."""
    return next((place for place, message in enumerate(messages) if message.run_id == run_id), len(messages))


def note(item: UserContent, reason: str) -> str:
    """What is said where a medium was."""
    return (
        f"[{_kind(item)}, {_media_type(item) or 'type unknown'}: it was attached here but is not shown, for {reason}]"
    )


def _with_content(message: ModelMessage, kept: Any) -> ModelMessage:
    if not isinstance(message, ModelRequest):
        return message
    parts = [
        replace(part, content=[kept(item) for item in part.content])
        if isinstance(part, UserPromptPart) and not isinstance(part.content, str)
        else part
        for part in message.parts
    ]
    return message if parts == message.parts else replace(message, parts=parts)


def _kind(item: UserContent) -> str | None:
    """Image, document, audio or video; None for what is no medium."""
    if isinstance(item, ImageUrl) or (isinstance(item, BinaryContent) and item.is_image):
        return "image"
    if isinstance(item, AudioUrl) or (isinstance(item, BinaryContent) and item.is_audio):
        return "audio"
    if isinstance(item, VideoUrl) or (isinstance(item, BinaryContent) and item.is_video):
        return "video"
    return "document" if isinstance(item, DocumentUrl | BinaryContent) else None


def _media_type(item: UserContent) -> str | None:
    if isinstance(item, BinaryContent | FileUrl):
        try:
            return item.media_type
        except ValueError:
            return None  # a URL that does not tell
    return None


def _form(kind: str, media_type: str | None) -> str:
    """Documents differ: adapters put plain text into the message, for which they would need it."""
    if kind != "document":
        return kind
    return "text" if media_type is not None and media_type.startswith("text/") else PDF


def _takes(kind: str, media_type: str | None, model: Model[Any]) -> bool:
    profile = model.profile
    only = _of_class(_ONLY, model)
    if only is not None and kind not in only:
        return False
    if kind == "image":
        return profile.get("supports_image_input", True)
    if kind == "audio":
        return profile.get("supports_audio_file_input", True)
    if kind == "video":
        return profile.get("supports_video_input", True)
    types = profile.get("supported_document_media_types")
    return profile.get("supports_document_input", True) and (types is None or media_type in types)


def _passed_on(model: Model[Any]) -> frozenset[str]:
    found = _of_class(_BY_URL, model) or frozenset()
    documents = {PDF, "text"} if dict(model.profile).get("openai_chat_supports_file_urls") else set()
    return found | documents


def _of_class(table: Mapping[str, frozenset[str]], model: Model[Any]) -> frozenset[str] | None:
    return next((table[base.__name__] for base in type(model).__mro__ if base.__name__ in table), None)
