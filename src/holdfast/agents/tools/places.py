"""
Where a path leads: resolved first, links included, and then opened so that no link can come in between.

A path is resolved to one without links. It is opened from a root downwards, directory by directory, following no link
(`O_NOFOLLOW`): whoever puts a link in the way after the look gets an error instead of the file behind it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from holdfast.agents.tools.tool import Ground, ToolError

PATH_CHARACTERS_MAX: Final = 4096

# Windows has none of these, and no files either: `locate` refuses them. macOS has no O_PATH.
_AT: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_DIRECTORY: Final = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | _AT
# Without O_NONBLOCK opening a pipe would wait for its other end.
_FILE: Final = getattr(os, "O_NONBLOCK", 0) | _AT

_SAID: Final = {
    errno.ENOENT: ("not_found", "there is no such file or directory"),
    errno.ENOTDIR: ("not_a_directory", "it, or something on the way to it, is no directory"),
    errno.EISDIR: ("not_a_file", "it is a directory"),
    errno.ENXIO: ("not_a_file", "it is no regular file"),
    errno.ENAMETOOLONG: ("invalid_input", "the name is too long"),
    # What was a link a moment ago is none any more.
    errno.EINVAL: ("outside_roots", "links on the way to it changed while it was looked for"),
    errno.ELOOP: ("outside_roots", "links on the way lead in a circle, or changed while it was opened"),
    errno.ENOSPC: ("storage_full", "the disk is full"),
    errno.EDQUOT: ("storage_full", "the disk is full"),
}


class Place(msgspec.Struct, frozen=True):
    """Where a path leads: absolute, without links; and the root that it is in, None: in none."""

    path: Path
    root: Path | None
    is_hidden: bool  # the server's own, which no tool touches
    is_kept: bool  # the server's own, which no tool writes

    @property
    def parts(self) -> tuple[str, ...]:
        """The names from the root on, or from `/` on."""
        return self.path.relative_to(self.root or "/").parts


def locate(text: str, ground: Ground) -> Place:
    """
    Where a path of a call leads. A relative one begins in the workspace.

    Raises:
        ToolError: it cannot be a path (`invalid_input`), or there is no workspace (`not_configured`).
    """
    if not ground.roots:
        raise ToolError("not_configured", "there is no workspace: files need a server that keeps them")
    if os.open not in os.supports_dir_fd:
        raise ToolError(
            "not_configured", "this system opens no files from a directory on, so that links could be swapped"
        )
    if not text or "\0" in text or len(text) > PATH_CHARACTERS_MAX:
        raise ToolError("invalid_input", f"a path has 1 to {PATH_CHARACTERS_MAX:,} characters, and none is U+0000")
    with told(Path(text)):
        return place_of(Path(os.path.realpath(ground.roots[0] / text)), ground)


def place_of(path: Path, ground: Ground) -> Place:
    """What a path without links is to a call."""
    root = next((root for root in ground.roots if path.is_relative_to(root)), None)
    is_hidden = any(_is_in(path, place, ground) for place in ground.hidden)
    return Place(path, root, is_hidden, is_hidden or any(_is_in(path, place, ground) for place in ground.kept))


def _is_in(path: Path, own: Path, ground: Ground) -> bool:
    """Whether it lies in what is the server's own, and not in a workspace which the server keeps there."""
    if not path.is_relative_to(own):
        return False
    return not (ground.roots[0].is_relative_to(own) and path.is_relative_to(ground.roots[0]))


def readable(text: str, ground: Ground) -> Place:
    """
    Where a path leads that is to be read.

    Raises:
        ToolError: outside of the roots (`outside_roots`).
    """
    place = locate(text, ground)
    if place.root is None or place.is_hidden:
        raise ToolError("outside_roots", f"{text} leads out of the directories that may be read")
    return place


def shown(path: Path, ground: Ground) -> str:
    """A path for the model: from the workspace on, or absolute."""
    if ground.roots and path.is_relative_to(ground.roots[0]):
        return str(path.relative_to(ground.roots[0]))
    return str(path)


@contextlib.contextmanager
def opened_directory(place: Place, *, make: bool = False, above: int = 0) -> Iterator[int]:
    """
    The descriptor of the directory at a place, or of one so many names above it; with `make` it and those on the way
    are made where they are missing.

    Raises:
        ToolError
    """
    with told(place.path):
        descriptor = os.open(place.root or "/", _DIRECTORY)
        try:
            for name in place.parts[: len(place.parts) - above]:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, dir_fd=descriptor)
                below = os.open(name, _DIRECTORY, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)


def open_file(place: Place) -> int:
    """
    A descriptor to read the regular file at a place.

    Raises:
        ToolError
    """
    if not place.parts:
        raise ToolError("not_a_file", f"{place.path} is a directory")
    with opened_directory(place, above=1) as directory:
        descriptor = os.open(place.path.name, os.O_RDONLY | _FILE, dir_fd=directory)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
        raise ToolError("not_a_file", f"{place.path} is no regular file")


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """
    Errors of the system as errors of the call.

    Raises:
        ToolError
    """
    try:
        yield
    except OSError as exc:
        code, message = _SAID.get(exc.errno or 0, ("io_error", os.strerror(exc.errno or 0)))
        raise ToolError(code, f"{path}: {message}") from exc
