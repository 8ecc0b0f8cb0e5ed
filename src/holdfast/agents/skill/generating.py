"""
Text from the assistant's model, for capabilities. Without a model in the settings it is the packaged offline one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from holdfast.agents.models.library import LIBRARY


class Ask(Protocol):
    """Asks a model that is loaded; see `Generator.generate`."""

    def __call__(self, prompt: str, system: str | None, say: Callable[[str], None] | None) -> Awaitable[str]: ...


class Generator:
    """Made once. The model library is loaded with the first request, for that takes seconds."""

    def __init__(self, name: str | None = None, key: str | None = None, url: str | None = None) -> None:
        self._settings = (name, key, url)
        self._loading: asyncio.Task[Ask] | None = None

    async def generate(
        self, prompt: str, system: str | None = None, *, say: Callable[[str], None] | None = None
    ) -> str:
        """
        What the model answers. `say` is told each piece as it comes.

        Raises:
            ModelFailed: the provider refused the request or failed to answer it.
            ModelNotConfigured: the settings name no usable model.
        """
        if self._loading is None:
            self._loading = asyncio.create_task(asyncio.to_thread(self._load), name="model of capabilities")
        try:
            ask = await asyncio.shield(self._loading)
        except Exception:
            self._loading = None  # what was missing may be there the next time
            raise
        return await ask(prompt, system, say)

    def _load(self) -> Any:
        with LIBRARY:
            from holdfast.agents.models.build import build_model
            from holdfast.agents.skill.model_asking import asker

            name, key, url = self._settings
            return asker(build_model(name, key, url))
