"""
An answer in the shape that the caller wants: JSON that fits a schema.

The model is told so in words, and where its provider can hold it to a schema, that too. Whatever the provider promises, the
answer is checked here; one that does not fit goes back with what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec
from pydantic_ai import ModelRetry
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.output import OutputObjectDefinition

from holdfast.errors import InvalidOutput
from holdfast.execution.foreign_schemas import is_plain, misfits_of

REPAIRS_MAX: Final = 2
MISFITS_SHOWN: Final = 10


class Shape:
    """The schema that the answer of one turn has to fit."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = dict(document)
        self._misses = 0

    @property
    def instructions(self) -> str:
        """For the model's system prompt."""
        schema = msgspec.json.encode(self.document).decode()
        return (
            "Your final answer must be one JSON value, with nothing before or behind it, that fits this JSON Schema:\n"
            + schema
        )

    async def read(self, text: str) -> Any:
        """
        The value of a final answer.

        Raises:
            ModelRetry: it does not fit, and the model may mend it.
            InvalidOutput: it did not fit for the last time.
        """
        problems, value = await self._look(text)
        if not problems:
            return value
        self._misses += 1
        listed = "\n".join(f"- {problem}" for problem in problems[:MISFITS_SHOWN])
        if self._misses > REPAIRS_MAX:
            raise InvalidOutput(
                f"the answer does not fit response_schema after {REPAIRS_MAX} repairs: {problems[0]}", errors=problems
            )
        raise ModelRetry(
            f"The answer does not fit the JSON Schema:\n{listed}\nAnswer again, with the whole JSON value."
        )

    async def _look(self, text: str) -> tuple[list[str], Any]:
        data = _without_fence(text).encode()
        try:
            value = msgspec.json.decode(data)
        except msgspec.DecodeError as exc:
            return [f"it is no JSON: {exc}"], None
        return [misfit.text for misfit in await misfits_of(self.document, data)], value

    def asked_for(self, parameters: ModelRequestParameters, model: Model[Any]) -> ModelRequestParameters | None:
        """The parameters of a request that has the provider hold the model to the schema; None: it cannot do that."""
        is_object = self.document.get("type") == "object"
        # What the library makes of a maze for a provider is done here, at once.
        if not is_object or not is_plain(self.document) or not model.profile.get("supports_json_schema_output", False):
            return None
        wanted = OutputObjectDefinition(json_schema=self.document, name="answer")
        return replace(parameters, output_mode="native", output_object=wanted)


def _without_fence(text: str) -> str:
    """Without the three backticks that models like to put around JSON."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```") and "\n" in text:
        return text[text.index("\n") + 1 : -3]
    return text
