"""What an earlier attempt recorded inside a step that is done again, and that nobody asks for any more."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from holdfast import Context, agent
from tests.support.kernel import kernel


async def test_a_step_done_again_may_leave_out_what_was_recorded_inside_it(tmp_path: Path) -> None:
    """Retries have kept inner steps under other names than the one attempt after the crash asks for."""
    entered = asyncio.Event()
    is_first_life = True

    @agent("outer", restart="always")
    async def outer(context: Context, input: Any) -> str:
        async def inner() -> str:
            return "inner"

        async def work() -> str:
            if is_first_life:
                await context.step("inner", inner)
                await context.step("inner", inner)
                entered.set()
                await asyncio.Event().wait()
            return await context.step("inner", inner)  # type: ignore[no-any-return]  # JSON

        await context.token("before")
        result = await context.step("work", work)
        await context.token("after")
        return str(result)

    async with kernel(tmp_path, outer, crash=True) as it:
        run = await it.start("outer")
        await entered.wait()
    is_first_life = False
    async with kernel(tmp_path, outer) as it:
        events = await it.events(run)

    assert events[-1]["type"] == "complete", events[-1]
    assert [event["content"] for event in events if event["type"] == "token"] == ["before", "after"]
