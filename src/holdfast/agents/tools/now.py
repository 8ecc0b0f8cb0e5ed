"""The tool `current_time`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Annotated
from zoneinfo import ZoneInfo

import msgspec

from holdfast.agents.tools.tool import Call, Tool, ToolError


class NowInput(msgspec.Struct, forbid_unknown_fields=True):
    timezone: Annotated[str, msgspec.Meta(description="An IANA time zone, such as Europe/Berlin.", max_length=64)] = (
        "UTC"
    )


def current_time_tool(now: Callable[[tzinfo], datetime] = datetime.now) -> Tool[NowInput]:
    """Tells the time; the output is ISO 8601 with offset, to the second."""

    async def current_time(_: Call, input: NowInput) -> str:
        return now(_zone(input.timezone)).isoformat(timespec="seconds")

    return Tool(
        name="current_time",
        description="Tells the current date and time.",
        input=NowInput,
        function=current_time,
    )


def _zone(name: str) -> tzinfo:
    if name.upper() in ("UTC", "Z", "GMT"):
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        raise ToolError("invalid_input", f"there is no time zone {name!r}") from None
