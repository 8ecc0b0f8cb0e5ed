"""
Contents of files, on disk beside the database, each under its SHA-256.

A content is durable before any row names it, and is removed when no row does any more. What is on its way, written
but not named yet, is known here, so that a sweep leaves it alone.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from pathlib import Path

from holdfast.errors import JournalCorrupt, StorageFull, StoreError, StoreUnavailable
from holdfast.store.sqlite.place import sync_directory


class Contents:
    """The directory of contents."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._arriving: Counter[str] = Counter()
        self._fresh: set[str] = set()  # what arrived since the last sweep began
        self._lock = threading.Lock()  # held for moments only: the event loop takes it too

    @contextmanager
    def arriving(self, sha256: str) -> Iterator[None]:
        """Keep this content from being swept while its row is being written."""
        with self._lock:
            self._arriving[sha256] += 1
            self._fresh.add(sha256)
        try:
            yield
        finally:
            with self._lock:
                self._arriving[sha256] -= 1
                if not self._arriving[sha256]:
                    del self._arriving[sha256]

    def put(self, sha256: str, content: bytes) -> None:
        """
        Write a content durably, if it is not there.

        Raises:
            StorageFull
        """
        if hashlib.sha256(content).hexdigest() != sha256:
            raise StoreError(f"the content of the file does not have the SHA-256 {sha256}")
        target = self._directory / sha256
        if target.exists():
            return
        part = self._directory / f".{sha256}.{secrets.token_hex(4)}"
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
            sync_directory(self._directory)
        except OSError as error:
            part.unlink(missing_ok=True)
            if error.errno in (ENOSPC, EDQUOT):
                raise StorageFull(f"{self._directory}: the disk is full; nothing was written") from error
            raise StoreUnavailable(f"{target} cannot be written: {error.strerror}") from error

    def get(self, sha256: str) -> bytes:
        """
        Read a content.

        Raises:
            JournalCorrupt: it is not what was written.
        """
        path = self._directory / sha256
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise JournalCorrupt(f"{path} is missing; restore a backup") from error
        except OSError as error:
            raise StoreUnavailable(f"{path} cannot be read: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise JournalCorrupt(f"{path} is not what was written; restore a backup")
        return content

    def sweep(self, named: Callable[[], set[str]]) -> None:
        """Remove what no row names, parts that a crash left behind included."""
        with self._lock:
            self._fresh = set(self._arriving)
        known = named()
        for path in self._directory.iterdir():
            sha256 = path.name.removeprefix(".").partition(".")[0]
            if path.name in known:
                continue
            with self._lock:
                if sha256 not in self._fresh:
                    path.unlink(missing_ok=True)

    def copy(self, target: Path) -> None:
        """Copy everything, durably."""
        for path in self._directory.iterdir():
            if not path.name.startswith("."):
                shutil.copyfile(path, target / path.name)
                _sync(target / path.name)
        sync_directory(target)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
