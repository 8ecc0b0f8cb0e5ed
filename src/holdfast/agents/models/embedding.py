"""An embedding model from settings, for the memory. Loads the model library with the first text."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from holdfast.agents.models.failures import ModelNotConfigured
from holdfast.agents.models.library import LIBRARY

if TYPE_CHECKING:
    from pydantic_ai.embeddings import Embedder, EmbeddingModel


class ModelEmbedder:
    """
    Texts as vectors, by `provider:model`, or by a model of a server that speaks OpenAI's API.

    Raises:
        ModelNotConfigured: the name has no provider, and there is no URL.
    """

    def __init__(self, model: str | EmbeddingModel, *, key: str | None = None, url: str | None = None) -> None:
        if isinstance(model, str) and url is None and ":" not in model:
            raise ModelNotConfigured(
                f"HOLDFAST_EMBEDDING_MODEL is {model!r}; it must be provider:model, for example "
                "openai:text-embedding-3-small",
                setting="HOLDFAST_EMBEDDING_MODEL",
            )
        self.name = model if isinstance(model, str) else model.model_name
        self._model, self._key, self._url = model, key, url
        self._loading = threading.Lock()
        self._embedder: Embedder | None = None

    async def documents(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        return (await (await self._loaded()).embed_documents(list(texts))).embeddings

    async def query(self, text: str) -> Sequence[float]:
        return (await (await self._loaded()).embed_query(text)).embeddings[0]

    async def _loaded(self) -> Embedder:
        embedder = self._embedder
        return await asyncio.to_thread(self._load) if embedder is None else embedder

    def _load(self) -> Embedder:
        with self._loading, LIBRARY:
            embedder = self._embedder
            if embedder is None:
                from pydantic_ai.embeddings import Embedder

                embedder = Embedder(self._build() if isinstance(self._model, str) else self._model)
                self._embedder = embedder
            return embedder

    def _build(self) -> EmbeddingModel:
        assert isinstance(self._model, str)
        if self._url is not None:
            from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
            from pydantic_ai.providers.openai import OpenAIProvider

            provider = OpenAIProvider(base_url=self._url, api_key=self._key or "none")
            return OpenAIEmbeddingModel(self._model.removeprefix("openai:"), provider=provider)
        from pydantic_ai.embeddings import infer_embedding_model
        from pydantic_ai.providers import Provider, infer_provider, infer_provider_class

        def provider_of(name: str) -> Provider[Any]:
            if self._key is None:
                return infer_provider(name)
            make: Any = infer_provider_class(name)
            made: Provider[Any] = make(api_key=self._key)
            return made

        return infer_embedding_model(self._model, provider_factory=provider_of)
