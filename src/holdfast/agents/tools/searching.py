"""
The tools `grep`, `find` and `file_search`. Each runs `looking.py` as a process of its own, and ends it with the call.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from holdfast.agents.tools.places import readable, shown
from holdfast.agents.tools.tool import Call, Tool, ToolError

PROGRAM: Final = Path(__file__).with_name("looking.py")

SECONDS_MAX: Final = 10.0
# Beyond its own limit, for a pattern that keeps it from looking at the clock.
GRACE_SECONDS: Final = 1.0
MATCHES_MAX: Final = 100
PATHS_MAX: Final = 1_000
# Together, as JSON: what is longer than a result may be (64 KiB) is cut without regard to what is in it.
CHARACTERS_MAX: Final = 48 * 1024
HITS_MAX: Final = 20
PATTERN_MAX: Final = 1_000

_LINE_MAX: Final = 1024 * 1024

Where = Annotated[str, msgspec.Meta(description="Where to look; a relative path begins in the workspace.")]
Name = Annotated[str, msgspec.Meta(description="Only names that fit a pattern, such as *.py.")] | None
Time = Annotated[str, msgspec.Meta(description="ISO 8601; without an offset it is UTC.", max_length=64)] | None


class GrepInput(msgspec.Struct, forbid_unknown_fields=True):
    pattern: Annotated[
        str, msgspec.Meta(description="A regular expression, as Python's.", min_length=1, max_length=PATTERN_MAX)
    ]
    path: Where = "."
    name: Name = None
    ignore_case: bool = False


class FindInput(msgspec.Struct, forbid_unknown_fields=True):
    path: Where = "."
    name: Name = None
    type: Literal["file", "directory", "link"] | None = None
    bytes_min: Annotated[int, msgspec.Meta(ge=0)] = 0
    bytes_max: Annotated[int, msgspec.Meta(ge=0)] | None = None
    modified_after: Time = None
    modified_before: Time = None


class SearchInput(msgspec.Struct, forbid_unknown_fields=True):
    query: Annotated[str, msgspec.Meta(description="Words to look for.", min_length=1, max_length=PATTERN_MAX)]
    path: Where = "."


def grep_tool(seconds: float = SECONDS_MAX) -> Tool[GrepInput]:
    """Finds lines: 100 of them, in 10 s; `truncated` says what there was more of."""

    async def grep(call: Call, input: GrepInput) -> dict[str, Any]:
        task = {
            "kind": "grep",
            "pattern": input.pattern,
            "name": input.name,
            "ignore_case": input.ignore_case,
            "limit": MATCHES_MAX,
            "characters_max": CHARACTERS_MAX,
        }
        return await _look(call, input.path, task, "matches", seconds)

    return Tool(
        name="grep",
        description="Finds lines of text files by a regular expression: at most 100.",
        input=GrepInput,
        function=grep,
        uses_files=True,
    )


def find_tool(seconds: float = SECONDS_MAX) -> Tool[FindInput]:
    """Finds files and directories by name, type, size and time; links are told and not followed."""

    async def find(call: Call, input: FindInput) -> dict[str, Any]:
        task = {
            "kind": "find",
            "name": input.name,
            "type": input.type,
            "bytes_min": input.bytes_min,
            "bytes_max": sys.maxsize if input.bytes_max is None else input.bytes_max,
            "after": _seconds(input.modified_after, "modified_after", 0.0),
            "before": _seconds(input.modified_before, "modified_before", float(sys.maxsize)),
            "limit": PATHS_MAX,
            "characters_max": CHARACTERS_MAX,
        }
        found = await _look(call, input.path, task, "paths", seconds)
        return {**found, "paths": [item["path"] for item in found["paths"]]}

    return Tool(
        name="find",
        description="Lists files and directories by name, type, size and time of their last change: at most 1,000.",
        input=FindInput,
        function=find,
        uses_files=True,
    )


def file_search_tool(seconds: float = SECONDS_MAX) -> Tool[SearchInput]:
    """Finds the 20 files that have most of some words, in their names or in what is in them."""

    async def file_search(call: Call, input: SearchInput) -> dict[str, Any]:
        task = {"kind": "search", "query": input.query, "limit": HITS_MAX}
        return await _look(call, input.path, task, "hits", seconds)

    return Tool(
        name="file_search",
        description="Finds files by words in their names and contents, the best first: at most 20.",
        input=SearchInput,
        function=file_search,
        uses_files=True,
    )


async def _look(call: Call, path: str, task: dict[str, Any], name: str, seconds: float) -> dict[str, Any]:
    """What the process finds below a path, as the list `name`."""
    place = await asyncio.to_thread(readable, path, call.ground)
    # That it begins in one of these is known to be all right: it is the workspace, or in there.
    hidden = [str(closed) for closed in call.ground.hidden if not place.path.is_relative_to(closed)]
    task = {**task, "root": str(place.root), "parts": place.parts, "hidden": hidden, "seconds": seconds}
    lines, is_cut = await _run(json.dumps(task).encode(), seconds + GRACE_SECONDS)
    base = place.path if await asyncio.to_thread(place.path.is_dir) else place.path.parent
    found: list[dict[str, Any]] = []
    facts: dict[str, Any] = {}
    for line in lines:
        item = json.loads(line)
        if "error" in item:
            raise ToolError(item["error"], item["message"])
        if "path" in item:
            ending = "/" if item["path"].endswith("/") else ""
            found.append({**item, "path": shown(base / item["path"], call.ground) + ending})
        else:
            facts |= item
    if is_cut:
        facts["truncated"] = "time"
    return {name: found, "truncated": facts.get("truncated"), "left_out": facts.get("left_out", 0)}


async def _run(task: bytes, seconds: float) -> tuple[list[bytes], bool]:
    """
    The lines that the process wrote, and whether it had to be ended. It has nothing of our environment.

    Raises:
        ToolError: it failed.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", "-X", "utf8", str(PROGRAM)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={},
        cwd="/",
        limit=_LINE_MAX,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    lines: list[bytes] = []
    try:
        async with asyncio.timeout(seconds):
            process.stdin.write(task)
            process.stdin.close()
            async for line in process.stdout:
                lines.append(line)  # noqa: PERF401  what came before the time was over is kept
            if await process.wait() != 0:
                raise ToolError("tool_failed", "the look through the files broke off")
    except TimeoutError:
        return [line for line in lines if line.endswith(b"\n")], True
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    return lines, False


def _seconds(text: str | None, field: str, default: float) -> float:
    """A time as Unix seconds."""
    if text is None:
        return default
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ToolError("invalid_input", f"{field} is a time in ISO 8601, not {text!r}") from None
    return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()
