"""
`<data>/server.json`: where the server of a data directory is, and the token by which its own command line may call it.

Only its owner can read it. Of several servers that share a directory the last one is found; each removes only its own.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

import msgspec

NAME: Final = "server.json"


class ServerFile:
    """The file as this process writes and removes it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / NAME

    def write(self, url: str, token: str) -> None:
        """Say where this process is; whoever reads sees all of it or what was there before."""
        content = msgspec.json.encode({"url": url, "pid": os.getpid(), "token": token})
        self._directory.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(f".{os.getpid()}")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
        draft.replace(self._path)

    def remove(self) -> None:
        """Take it away, unless another server stands there by now."""
        with contextlib.suppress(OSError, msgspec.MsgspecError, KeyError, TypeError):
            if msgspec.json.decode(self._path.read_bytes())["pid"] == os.getpid():
                self._path.unlink(missing_ok=True)
