"""Asking a light model for facts, in the one form that its provider is best held to. Loads the model library."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic_ai import Agent
from pydantic_ai.models import Model


@dataclass(frozen=True)
class Fact:
    """What a later conversation should know."""

    subject: Annotated[str, Field(description="What it is about, in a word or two.")]
    content: Annotated[str, Field(description="One sentence that can be understood alone.")]
    type: Literal["fact", "rule", "preference"]


def asker(model: Model[Any], instructions: str) -> Callable[[str], Awaitable[Sequence[dict[str, Any]]]]:
    """Asks the model what is to be kept of an exchange."""
    agent: Agent[None, list[Fact]] = Agent(model, output_type=list[Fact], instructions=instructions, name="learning")

    async def ask(exchange: str) -> Sequence[dict[str, Any]]:
        result = await agent.run(exchange, infer_name=False)
        return [asdict(fact) for fact in result.output]

    return ask
