"""
What is built in: contracts in `capabilities/`, sample skills in `skills/`, and the functions that fulfil the contracts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from holdfast.agents.skill.builtin import checks, texts

if TYPE_CHECKING:
    from holdfast.agents.skill.fetching import Fetcher
    from holdfast.agents.skill.generating import Generator


def builtins(fetcher: Fetcher, generator: Generator) -> Mapping[str, Callable[..., Any]]:
    """The functions of the contracts here, by the names after `bind: {builtin: …}`."""
    from holdfast.agents.skill.builtin.outside import fetch_with, generate_with

    return {
        "text.content.summarize": texts.summarize,
        "text.content.classify": texts.classify,
        "text.content.template": texts.template,
        "text.content.merge": texts.merge,
        "text.keyword.extract": texts.keywords,
        "text.pii.check": checks.check_personal_data,
        "data.json.parse": checks.parse_json,
        "data.schema.validate": checks.validate,
        "model.generate": generate_with(generator),
        "http.fetch": fetch_with(fetcher),
    }
