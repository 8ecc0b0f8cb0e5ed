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
from holdfast.model.encoding import encode_text

T = TypeVar("T")

# What a model reads of one call without losing its thread.
BYTES_MAX: Final = 50 * 1024
LINES_MAX: Final = 100_000
# Of the content as JSON: what is longer than a result may be (64 KiB) is cut without regard to where to go on.
ENCODED_MAX: Final = 60 * 1024
CUT_CHARACTERS: Final = 10_000  # of one line that takes more, whatever is in it
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
        texts: list[str] = []
        size, encoded, is_cut, is_over = 0, 0, False, False
        while len(texts) < input.limit:
            line = file.readline(BYTES_MAX + 1)
            if texts and size + len(line) > BYTES_MAX:
                break
            text = _text(input.path, line[:BYTES_MAX], is_cut=len(line) > BYTES_MAX)
            size, encoded = size + len(line), encoded + len(encode_text(text)) - 2
            if texts and encoded > ENCODED_MAX:
                break
            is_over = not line
            if is_over:
                break
            is_cut = len(line) > BYTES_MAX or encoded > ENCODED_MAX
            texts.append(text if encoded <= ENCODED_MAX else text[:CUT_CHARACTERS])
            if is_cut and not line.endswith(b"\n"):
                _skip(file, 1, stopped)
        else:
            is_over = not file.peek(1)
    found: dict[str, Any] = {"content": "".join(texts), "lines": len(texts)}
    found["next_offset"] = None if is_over else input.offset + len(texts)
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


def _text(path: str, content: bytes, *, is_cut: bool) -> str:
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
