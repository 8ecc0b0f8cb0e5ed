"""
From settings to a model: `provider:model` of any provider that pydantic-ai knows, a URL that speaks OpenAI's (or, for
`anthropic:…`, Anthropic's) API, or the offline model.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from holdfast.agents.models.failures import ModelNotConfigured
from holdfast.agents.models.library import LIBRARY
from holdfast.agents.models.names import EMBEDDERS, EXTRAS, has_tag, is_known, key_variables, provider_of, spelled

if TYPE_CHECKING:
    from pydantic_ai.models import Model

OFFLINE_NAME: Final = "offline"

# Slow enough that a stream is seen to be one, fast enough for nobody to wait.
WORD_DELAY_SECONDS: Final = 0.015


def is_offline(name: str | None, url: str | None = None) -> bool:
    """Whether these settings mean the offline model."""
    return name == OFFLINE_NAME or (name is None and url is None)


def check_model(
    name: str | None,
    key: str | None = None,
    url: str | None = None,
    *,
    setting: str = "HOLDFAST_MODEL",
    embeds: bool = False,
) -> None:
    """
    Refuse settings that cannot work, without loading the model library: for the start of a server.

    Args:
        setting: the one that has the name.
        embeds: it is an embedding model.

    Raises:
        ModelNotConfigured: there is no model, no provider, no key, or the provider's package is not installed.
    """
    if is_offline(name, url):
        return
    if name is None:
        raise ModelNotConfigured(f"HOLDFAST_MODEL_URL needs {setting} too: which model?", setting=setting)
    provider = provider_of(name)
    if url is None and not is_known(name) and not (embeds and provider in EMBEDDERS):
        found = f"; there is no provider {provider!r}" if provider else ""
        raise ModelNotConfigured(
            f"{setting} is {name!r}{found}; it must be provider:model, for example anthropic:claude-sonnet-4-5",
            setting=setting,
        )
    extra = "openai" if url is not None and provider != "anthropic" else EXTRAS.get(provider)
    if extra is not None and find_spec(extra) is None:
        raise ModelNotConfigured(
            f"the model {name} needs the package {extra}: pip install 'holdfast[{extra}]'", setting=setting
        )
    variables = key_variables(provider)
    if url is None and key is None and variables and not any(os.environ.get(variable) for variable in variables):
        ours = "HOLDFAST_MODEL_KEY or " if setting == "HOLDFAST_MODEL" else ""
        raise ModelNotConfigured(
            f"the model {name} needs a key: set {ours}{variables[0]}", setting=f"{setting}_KEY" if ours else setting
        )


def build_model(
    name: str | None,
    key: str | None = None,
    url: str | None = None,
    *,
    word_delay_seconds: float = WORD_DELAY_SECONDS,
) -> Model[Any]:
    """
    The model of these settings; without a name and URL the offline model. Loads the model library.

    Raises:
        ModelNotConfigured: what is missing, and what to do.
    """
    check_model(name, key, url)
    name = name if name is None else spelled(name)
    with LIBRARY:
        if name is None or is_offline(name, url):
            from holdfast.agents.models.offline.model import OfflineModel

            return OfflineModel(word_delay_seconds=word_delay_seconds)
        if url is not None:
            return _model_at(url, name, key)
        return _provider_model(name, key)


def _model_at(url: str, name: str, key: str | None) -> Model[Any]:
    """A model behind a URL. Local servers take no key, but their clients insist on one."""
    provider_name, _, model_name = name.partition(":")
    if not is_known(name) or has_tag(name):
        model_name = name
    if provider_name == "anthropic":
        from pydantic_ai.models.anthropic import AnthropicModel
        from pydantic_ai.providers.anthropic import AnthropicProvider

        return AnthropicModel(model_name, provider=AnthropicProvider(api_key=key or "none", base_url=url))
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

    compatible = OpenAICompatibleProvider("openai-compatible", base_url=url, api_key=key or "none")
    if provider_name == "openai-responses":
        return OpenAIResponsesModel(model_name, provider=compatible)
    return OpenAIChatModel(model_name, provider=compatible)


def _provider_model(name: str, key: str | None) -> Model[Any]:
    from pydantic_ai.exceptions import UserError
    from pydantic_ai.models import infer_model
    from pydantic_ai.providers import Provider, infer_provider, infer_provider_class

    def opened(provider: str) -> Provider[Any]:
        if key is None:
            return infer_provider(provider)
        make: Any = infer_provider_class(provider)
        made: Provider[Any] = make(api_key=key)
        return made

    try:
        return infer_model(name, provider_factory=opened)
    except ImportError as exc:
        raise ModelNotConfigured(
            f"the model {name} needs a package that is not installed: {exc}", setting="HOLDFAST_MODEL"
        ) from exc
    except (UserError, ValueError) as exc:
        raise ModelNotConfigured(f"the model {name} cannot be used: {exc}", setting="HOLDFAST_MODEL") from exc
    except TypeError as exc:  # some providers are not opened by one key
        raise ModelNotConfigured(
            f"the provider of {name} takes no plain key: leave HOLDFAST_MODEL_KEY out and set its own variables",
            setting="HOLDFAST_MODEL_KEY",
        ) from exc
