"""
The names of models and their providers: how they are spelled, and what opens them. No I/O, no model library.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

# The packages that an extra of ours brings, by provider.
EXTRAS: Final = {"anthropic": "anthropic", "openai": "openai", "openai-chat": "openai", "openai-responses": "openai"}

# The variables that may hold a provider's key, where it is not <PROVIDER>_API_KEY; one of them is enough.
_KEY_VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "openai-chat": ("OPENAI_API_KEY",),
    "openai-responses": ("OPENAI_API_KEY",),
    "alibaba": ("ALIBABA_API_KEY", "DASHSCOPE_API_KEY"),
    "azure": ("AZURE_API_KEY", "AZURE_OPENAI_API_KEY"),
    "cohere": ("COHERE_API_KEY", "CO_API_KEY"),
    "google": ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
    "heroku": ("HEROKU_API_KEY", "HEROKU_INFERENCE_KEY"),
    "huggingface": ("HUGGINGFACE_API_KEY", "HF_TOKEN"),
    "voyageai": ("VOYAGEAI_API_KEY", "VOYAGE_API_KEY"),
    "vercel": ("VERCEL_API_KEY", "VERCEL_AI_GATEWAY_API_KEY", "VERCEL_OIDC_TOKEN"),
    "github-copilot": ("GITHUB_COPILOT_API_KEY", "GITHUB_COPILOT_API_TOKEN", "COPILOT_GITHUB_TOKEN"),
    "snowflake": ("SNOWFLAKE_API_KEY", "SNOWFLAKE_TOKEN"),
}

# Providers that are not opened by one key: a cloud account, a local server, a gateway, a model in this process.
_KEYLESS: Final = frozenset(
    (
        "bedrock",
        "bedrock-mantle",
        "google-cloud",
        "ollama",
        "vllm",
        "litellm",
        "sentence-transformers",
        "openai-chatgpt",
        "openai-codex",
        "system-one",
        "test",
        "gateway",
    )
)

# All providers of the model library that have models.
PROVIDERS: Final = frozenset(
    (
        "alibaba",
        "anthropic",
        "azure",
        "azure-responses",
        "bedrock",
        "bedrock-mantle",
        "cerebras",
        "cohere",
        "crusoe",
        "deepseek",
        "fireworks",
        "github",
        "github-copilot",
        "google",
        "google-cloud",
        "groq",
        "heroku",
        "huggingface",
        "litellm",
        "meta",
        "mistral",
        "moonshotai",
        "nebius",
        "ollama",
        "openai",
        "openai-chat",
        "openai-chatgpt",
        "openai-codex",
        "openai-responses",
        "openrouter",
        "ovhcloud",
        "sambanova",
        "snowflake",
        "system-one",
        "together",
        "typesafe",
        "vercel",
        "vllm",
        "xai",
        "zai",
    )
)

# Further ones that only embed.
EMBEDDERS: Final = frozenset({"voyageai", "sentence-transformers"})

# `mistral:7b`, `qwen:latest`: what local servers call a model, though a provider has that name too.
_TAG: Final = re.compile(r"latest|\d+(\.\d+)?[bm](-.*)?", re.IGNORECASE)

# How users of other servers write the names of providers.
_SPELLINGS: Final[Mapping[str, str]] = {
    "claude": "anthropic",
    "azure_openai": "azure",
    "azure-openai": "azure",
    "aws_bedrock": "bedrock",
    "aws-bedrock": "bedrock",
    "gemini": "google",
    "google-gla": "google",
    "google_genai": "google",
    "google-genai": "google",
    "google-vertex": "google-cloud",
    "google_vertex": "google-cloud",
    "vertex": "google-cloud",
    "vertexai": "google-cloud",
    "vertex_ai": "google-cloud",
    "grok": "xai",
    "mistralai": "mistral",
    "moonshot": "moonshotai",
    "hugging_face": "huggingface",
    "together_ai": "together",
    "togetherai": "together",
    "openai_compatible": "openai-chat",
    "openai-compatible": "openai-chat",
}


def provider_of(name: str) -> str:
    """The part of a model's name before the colon, as the model library spells it; empty without one."""
    provider, colon, _ = name.partition(":")
    return _SPELLINGS.get(provider.lower(), provider) if colon else ""


def spelled(name: str) -> str:
    """A model's name with its provider as the model library spells it."""
    provider = provider_of(name)
    return f"{provider}:{name.partition(':')[2]}" if provider else name


def _family(name: str) -> str:
    return EXTRAS.get(provider_of(name), provider_of(name))


def is_known(name: str) -> bool:
    """Whether a model's name begins with a provider, and not say with a model that has a tag (`llama3:8b`)."""
    provider = provider_of(name)
    return provider in PROVIDERS or provider.startswith("gateway/")


def has_tag(name: str) -> bool:
    """Whether what stands behind the colon is a tag, as local servers give it to models."""
    return _TAG.fullmatch(name.partition(":")[2]) is not None


def key_variables(provider: str) -> tuple[str, ...]:
    """The variables that may hold a provider's key, one of which is enough; none for one that is not opened by a key."""
    if provider.partition("/")[0] in _KEYLESS:
        return ()
    return _KEY_VARIABLES.get(provider, (f"{provider.upper().replace('-', '_')}_API_KEY",))


def credentials_of(name: str, main: str | None, key: str | None, url: str | None) -> tuple[str | None, str | None]:
    """
    Key and URL for a model beside the main one: those of the main one, if it is of the same provider or behind the
    same URL. Any other one has its key in a variable of its provider.
    """
    if main is None or _family(name) == _family(main) or (url is not None and not is_known(name)):
        return key, url
    return None, None
