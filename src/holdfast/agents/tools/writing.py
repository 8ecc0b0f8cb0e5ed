"""The tool `write_file`: a whole text, written beside and renamed, so that nobody ever sees half of it."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import threading
from typing import Annotated, Any, Final

import msgspec

from holdfast.agents.tools.places import Place, locate, opened_directory, shown
from holdfast.agents.tools.policy import OUTSIDE_ROOTS
from holdfast.agents.tools.reading import in_thread
from holdfast.agents.tools.tool import Call, Ground, Reason, Tool, ToolError
from holdfast.errors import PermissionDenied

BYTES_MAX: Final = 1024 * 1024
# Of the disk; below that the server starts no runs any more either.
FREE_BYTES_MIN: Final = 256 * 1024 * 1024

_MODE: Final = 0o644


class WriteInput(msgspec.Struct, forbid_unknown_fields=True):
    path: Annotated[str, msgspec.Meta(description="A path; a relative one begins in the workspace.", min_length=1)]
    content: Annotated[str, msgspec.Meta(description="The whole text: at most 1 MiB in UTF-8.", max_length=BYTES_MAX)]


def write_file_tool() -> Tool[WriteInput]:
    """Writes a text; a person is asked before it writes outside of the roots."""

    async def write_file(call: Call, input: WriteInput) -> dict[str, Any]:
        return await in_thread(lambda stopped: _write(call, input, stopped))

    return Tool(
        name="write_file",
        description="Writes a text file, or replaces one. Directories that are missing are made.",
        input=WriteInput,
        function=write_file,
        uses_files=True,
        guard=_guard,
    )


def _guard(input: WriteInput, ground: Ground) -> Reason | None:
    """What cannot be allowed anyway is not asked about: the call fails by itself."""
    try:
        place = locate(input.path, ground)
    except ToolError:
        return None
    if place.root is not None or place.is_kept:
        return None
    return Reason(OUTSIDE_ROOTS, target=str(place.path))


def _write(call: Call, input: WriteInput, stopped: threading.Event) -> dict[str, Any]:
    place, data = locate(input.path, call.ground), input.content.encode(errors="replace")
    if place.is_kept:
        raise ToolError(PermissionDenied.code, f"{place.path} belongs to the server")
    if place.root is None and (call.passed is None or call.passed.target != str(place.path)):
        raise ToolError(OUTSIDE_ROOTS, f"{input.path} leads to {place.path}, which nobody allowed to write")
    if len(data) > BYTES_MAX:
        raise ToolError("invalid_input", f"a file may have {BYTES_MAX:,} bytes; this one has {len(data):,}")
    if not place.parts:
        raise ToolError("not_a_file", f"{place.path} is a directory")
    with opened_directory(place, make=True, above=1) as directory:
        room = os.fstatvfs(directory)
        if room.f_bavail * room.f_frsize < FREE_BYTES_MIN + len(data):
            raise ToolError("storage_full", "there is too little room left on the disk")
        mode = _mode_of(place, directory)
        if stopped.is_set():
            raise ToolError("tool_failed", "the call is over")
        _replace(directory, place.path.name, data, mode)
    return {"path": shown(place.path, call.ground), "bytes": len(data), "created": mode is None}


def _mode_of(place: Place, directory: int) -> int | None:
    """
    The permissions of the file that is there; None: there is none.

    Raises:
        ToolError: what is there is no file.
    """
    try:
        found = os.stat(place.path.name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise ToolError("not_a_file", f"{place.path} is there, and is no regular file")
    return stat.S_IMODE(found.st_mode) & 0o777


def _replace(directory: int, name: str, data: bytes, mode: int | None) -> None:
    """Put a file in the place of the one that has this name. It is on the disk when this returns."""
    beside = f".holdfast-{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(beside, flags, _MODE, dir_fd=directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if mode is not None:
                os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.rename(beside, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside, dir_fd=directory)
        raise
    listed = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.fsync(listed)
    finally:
        os.close(listed)
