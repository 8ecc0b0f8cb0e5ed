"""The tool `read_file`: some lines of a text, 50 KiB at a time."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from io import BufferedReader
from typing import Annotated, Any, Final, TypeVar

import msgspec

from holdfast.agents.tools.places import open_file, readable, told
from holdfast.agents.tools.tool import Call, Tool, ToolError

T = TypeVar("T")

# What a model reads of one call without losing its thread.
BYTES_MAX: Final = 50 * 1024
LINES_MAX: Final = 100_000
# To find the lines behind an offset, all that comes before them is read.
SECONDS_MAX: Final = 10.0

_CHUNK: Final = 64 * 1024


class ReadInput(msgspec.Struct, forbid_unknown_fields=True):
    path: Annotated[str, msgspec.Meta(description="A path; a relative one begins in the workspace.", min_length=1)]
    offset: Annotated[int, msgspec.Meta(description="How many lines to skip.", ge=0)] = 0
    limit: Annotated[int, msgspec.Meta(description="How many lines to read at the most.", ge=1, le=LINES_MAX)] = 2_000


def read_file_tool() -> Tool[ReadInput]:
    """Reads lines; `next_offset` is where to go on, null at the end of the file."""

    async def read_file(call: Call, input: ReadInput) -> dict[str, Any]:
        return await in_thread(lambda stopped: _read(call, input, stopped))

    return Tool(
        name="read_file",
        description="Reads lines of a text file: at most 50 KiB a call. Go on at next_offset.",
        input=ReadInput,
        function=read_file,
        uses_files=True,
    )


async def in_thread(work: Callable[[threading.Event], T]) -> T:
    """Do something in a thread; cancelled, it is told to stop."""
    stopped = threading.Event()
    try:
        return await asyncio.to_thread(work, stopped)
    finally:
        stopped.set()


def _read(call: Call, input: ReadInput, stopped: threading.Event) -> dict[str, Any]:
    place = readable(input.path, call.ground)
    with told(place.path), os.fdopen(open_file(place), "rb") as file:
        _skip(file, input.offset, stopped)
        content, line, lines, is_cut = b"", b"", 0, False
        while lines < input.limit:
            line = file.readline(BYTES_MAX + 1)
            if not line or (lines and len(content) + len(line) > BYTES_MAX):
                break
            lines += 1
            if len(line) > BYTES_MAX:
                content, is_cut = line[:BYTES_MAX], True
                if not line.endswith(b"\n"):
                    _skip(file, 1, stopped)
                break
            content += line
        else:
            line = b""
        is_over = (not line or is_cut) and not file.peek(1)
    found: dict[str, Any] = {"content": _text(input.path, content, is_cut), "lines": lines}
    found["next_offset"] = None if is_over else input.offset + lines
    return {**found, "line_cut": True} if is_cut else found


def _skip(file: BufferedReader, count: int, stopped: threading.Event) -> None:
    """
    Go behind so many line ends, or to the end of the file.

    Raises:
        ToolError: it takes too long (`tool_timeout`).
    """
    ends = time.monotonic() + SECONDS_MAX
    while count > 0 and (chunk := file.read(_CHUNK)):
        if stopped.is_set() or time.monotonic() > ends:
            raise ToolError("tool_timeout", f"the lines were not found within {SECONDS_MAX:g} s")
        found = chunk.count(b"\n")
        if found >= count:
            position = -1
            for _ in range(count):
                position = chunk.index(b"\n", position + 1)
            file.seek(position + 1 - len(chunk), os.SEEK_CUR)
        count -= found


def _text(path: str, content: bytes, is_cut: bool) -> str:
    """
    Raises:
        ToolError: it is no text in UTF-8 (`not_text`).
    """
    try:
        text = content.decode()
    except UnicodeDecodeError as exc:
        # The cut may have gone through a character.
        if not is_cut or exc.start < len(content) - 3 or exc.reason != "unexpected end of data":
            raise ToolError("not_text", f"{path} is no text in UTF-8") from None
        text = content[: exc.start].decode()
    if "\0" in text:
        raise ToolError("not_text", f"{path} is no text: it has U+0000 in it")
    return text
