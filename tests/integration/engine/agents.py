"""Agents for the tests of the Engine API. The message tells them what to do, as JSON where it is more than a word."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from holdfast.agents.function import agent
from holdfast.errors import InterruptExpired
from holdfast.execution.context import Context


@agent("say", restart="always")
async def say(context: Context, input: dict[str, Any]) -> str:
    """The first that is listed, so the default one: says the texts of a JSON list, or the message as it is."""
    message = input["message"]
    texts = json.loads(message) if message.startswith("[") else [message]
    for text in texts:
        await context.token(text)
    return "".join(texts)


@agent("echo", restart="always")
async def echo(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """Its input, and what it knows of the conversation."""
    history = [[message.role, message.content] for message in await context.history()]
    return {"input": input, "history": history, "metadata": context.metadata}


@agent("gated", restart="always")
async def gated(context: Context, input: dict[str, Any]) -> str:
    """A token, then nothing until the file that the message names exists, then another token."""
    await context.token("before")
    while not Path(input["message"]).exists():  # noqa: ASYNC110, ASYNC240  the test is another process
        await asyncio.sleep(0.01)
    await context.token("after")
    return "beforeafter"


@agent("stuck", restart="always")
async def stuck(context: Context, input: dict[str, Any]) -> None:
    """Never ends by itself."""
    await context.token("here")
    await asyncio.Event().wait()


@agent("ask", restart="always")
async def ask(context: Context, input: dict[str, Any]) -> Any:
    """A question; the message is the keyword arguments of `ask`."""
    wanted = json.loads(input["message"])
    try:
        answer = await context.ask(wanted.pop("question", "Which?"), **wanted)
    except InterruptExpired:
        return "nobody answered"
    await context.token(f"You said {answer}.")
    return answer


@agent("ask_both", restart="always")
async def ask_both(context: Context, input: dict[str, Any]) -> Any:
    """Two questions at once."""
    return await asyncio.gather(context.ask("First?", key="first"), context.ask("Second?", key="second"))


@agent("permit", restart="always")
async def permit(context: Context, input: dict[str, Any]) -> Any:
    """Asks for permission, as a tool call does."""
    decision = await context.approve(
        "Allow bash to run: rm -rf /srv/old",
        expires_in=3600,
        default=False,
        tool="bash",
        tool_call_id="c4",
        input=b'{"command":"rm -rf /srv/old"}',
        rule="destructive_shell",
        input_hash="aa1a",
        choices=tuple(json.loads(input["message"])),
    )
    return {"approved": decision.approved, "remember": decision.remember, "note": decision.note}


@agent("fail")
async def fail(context: Context, input: dict[str, Any]) -> None:
    await context.token("so far")
    raise ValueError("no such topic")


@agent("busy", restart="always")
async def busy(context: Context, input: dict[str, Any]) -> int:
    """Emits what the message tells, in small bursts, and lets others go in between."""
    count = int(input["message"])
    for number in range(count):
        await context.token(f"{number} ")
        if number % 5 == 0:
            await asyncio.sleep(0.001)
    return count


@agent("all_kinds", restart="always")
async def all_kinds(context: Context, input: dict[str, Any]) -> str:
    """An event of nearly every kind."""
    await context.thinking("hm")
    await context.event("block_started", block_index=0, block_type="text")
    await context.token("text \u2028\x85\r\n\0 🎣")
    await context.event("block_stopped", block_index=0, block_type="text")
    for number, output in enumerate(["text", {"n": 1}, None, 5, [1, 2]]):
        await context.event("tool_call", tool="t", tool_call_id=f"c{number}", input={"number": number})
        await context.event("tool_result", tool="t", tool_call_id=f"c{number}", output=output)
    await context.event("tool_result", tool="t", tool_call_id="c9", error="tool_timeout", message="it took too long")
    await context.event("usage", model="m", input_tokens=1, output_tokens=2, cache_hit_tokens=0)
    await context.event("memory", store="working", action="written", item={"key": "k", "value": 1})
    await context.event("token", content="sub", agent="helper", parent_tool_call_id="c1")
    await context.progress(0.5, "half")
    await context.step("fetch", lambda: {"pages": 3})
    await context.emit("plan", {"steps": ["a"], "text": "not on top"})
    await context.emit("heartbeat", {"own": True})
    return "done"
