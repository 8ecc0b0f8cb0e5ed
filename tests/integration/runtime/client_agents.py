"""The agent that the documented clients talk to. Its default is long; `EXPLAIN_TOKENS` and `EXPLAIN_GATES` change that."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from holdfast.agents.function import agent
from holdfast.execution.context import Context


@agent("explain", restart="always")
async def explain(context: Context, input: dict[str, Any]) -> dict[str, Any]:
    """Numbered tokens. If the directory of gates is there, each but the first waits for the file of its number."""
    tokens = int(os.environ.get("EXPLAIN_TOKENS", "10000"))
    gates = Path(os.environ.get("EXPLAIN_GATES", "/nowhere"))
    is_gated = gates.is_dir()  # noqa: ASYNC240  # once
    for number in range(tokens):
        while is_gated and number and not (gates / str(number)).exists():  # noqa: ASYNC110  # another process opens it
            await asyncio.sleep(0.005)
        await context.token(f"{number} ")
    return {"tokens": tokens}
