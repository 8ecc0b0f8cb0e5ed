"""Who loads the model library, and that nobody does so beside another."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import pytest

from holdfast.agents.assistant import AssistantProgram
from holdfast.agents.assistant.learning import LearningProgram
from holdfast.agents.models.embedding import ModelEmbedder
from holdfast.agents.models.library import LIBRARY
from holdfast.agents.skill.generating import Generator

NOTHING: Any = None
# What brings the library with it.
LOADERS = (
    "pydantic_ai",
    *(
        f"holdfast.agents.{name}"
        for name in ("assistant.loop", "assistant.facts", "skill.model_asking", "models.offline.model")
    ),
)


@pytest.mark.parametrize(
    "load",
    [
        AssistantProgram().preload,
        AssistantProgram(model="openai:gpt-5", key="k", url="http://127.0.0.1:9/v1").preload,
        Generator()._load,
        Generator("openai:gpt-5", "k", "http://127.0.0.1:9/v1")._load,
        LearningProgram(NOTHING, NOTHING, model="openai:gpt-5", key="k", url="http://127.0.0.1:9/v1")._load,
        ModelEmbedder("text-embedding-3-small", key="k", url="http://127.0.0.1:9/v1")._load,
    ],
)
def test_the_library_is_loaded_by_one_thread_at_a_time(
    load: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads that load it from two ends meet modules that are half there."""
    imported, beside = [], []
    real = builtins.__import__

    def watched(name: str, *given: Any, **more: Any) -> Any:
        if name.startswith(LOADERS):
            imported.append(name)
            if not LIBRARY._is_owned():  # type: ignore[attr-defined]
                beside.append(name)
        return real(name, *given, **more)

    monkeypatch.setattr(builtins, "__import__", watched)

    load()

    assert imported
    assert beside == []
