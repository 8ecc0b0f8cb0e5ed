"""Served beside skills by a process that dies at the point that CRASH_AT names."""

from __future__ import annotations

import os

from holdfast import agent
from tests.crash.dying import install

install(os.environ.get("CRASH_AT"))


@agent("idle")
async def idle() -> None:
    """A server serves some agent."""
