"""Agents that end by themselves, but for one that asks."""

from __future__ import annotations

from typing import Any

from holdfast import Context, agent


@agent("quick")
async def quick(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """Says a word."""
    await context.token("word")
    await context.event("usage", model="none", input_tokens=7, output_tokens=1, cache_hit_tokens=0)
    return {"keys": len(input)}


@agent("asking")
async def asking(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """Asks, and goes on by itself when nobody answers."""
    answer = await context.ask("Go on?", choices=["yes", "no"], expires_in=1.5, default="no")
    return {"answer": answer, "keys": len(input)}
