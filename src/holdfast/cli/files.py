"""Writing files that are either whole or not there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from holdfast.cli.screen import CliError


def write_new(target: Path, pieces: Iterable[bytes]) -> int:
    """
    Write a new file and return its size. If anything fails, no file is left.

    Raises:
        CliError: it exists already, or cannot be written.
    """
    if target.exists():
        raise CliError(f"{target} exists already")
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise CliError(f"{target} cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            size = sum(file.write(piece) for piece in pieces)
            file.flush()
            os.fsync(file.fileno())
        os.rename(name, target)
    except BaseException as error:
        os.unlink(name)
        if isinstance(error, OSError):
            raise CliError(f"{target} cannot be written: {error.strerror}") from None
        raise
    return size
