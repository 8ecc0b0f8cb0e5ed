"""
The directory of an embedded store: whose it is, on what it lies, and how far it had come.

    holdfast.db         the database
    holdfast.lock       locked while a process has the store open; holds its id
    holdfast.newest     the id of the store and the newest timestamp that it committed. A database that is older than
                        this was restored from a backup. It is not synced: it may lag behind, and that is harmless
    files/<sha256>      contents of files
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from holdfast.errors import StoreLocked, StoreRefused

# Here locks and memory maps do not reach other machines, or a sync does not reach a disk.
NETWORK_FILE_SYSTEMS: Final = re.compile(
    r"9p|afpfs|afs|beegfs|ceph|cifs|coda|davfs|gfs2|glusterfs|gpfs|lustre|ncpfs|nfs4?|ocfs2|orangefs|panfs|smb[23]?|smbfs|webdav"
    r"|fuse\.(cephfs|davfs2|gcsfuse|glusterfs|rclone|s3fs|smbnetfs|sshfs)"
)


class Place:
    """The paths of a store, and the lock on it."""

    def __init__(self, directory: Path, mounts: Callable[[], str] | None = None) -> None:
        self.directory = directory
        self.database = directory / "holdfast.db"
        self.files = directory / "files"
        self._lock = directory / "holdfast.lock"
        self._newest = directory / "holdfast.newest"
        self._mounts = mounts or _proc_mounts
        self._locked: int | None = None
        self._mark: int | None = None
        self._marked = b""

    def take(self) -> None:
        """
        Make the directory if it is not there, and lock it for this process.

        Raises:
            StoreRefused: it lies on a network file system, or cannot be written.
            StoreLocked: another process (or another store of this one) has it.
        """
        kind = file_system_of(self.directory, self._mounts())
        if kind is not None and NETWORK_FILE_SYSTEMS.fullmatch(kind):
            raise StoreRefused(
                f"{self.directory} lies on a network file system ({kind}), where SQLite can neither lock nor sync "
                "reliably; use a local disk, or Postgres",
                file_system=kind,
            )
        try:
            if not self.directory.is_dir():
                self.directory.mkdir(mode=0o700, parents=True)
                sync_directory(self.directory.parent)
            self._locked = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreRefused(
                f"the data directory {self.directory} cannot be used: {error.strerror}; take one that can be written"
            ) from error
        try:
            # flock, not lockf: that one would let two stores of the same process in, and closing either would
            # release both.
            fcntl.flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._locked, 32, 0).decode("ascii", "replace").strip()
            os.close(self._locked)
            self._locked = None
            raise StoreLocked(
                f"{self.directory} is open in another process{f' (pid {holder})' if holder else ''}; an embedded "
                "store belongs to exactly one: end that one first, or take another data directory",
                pid=int(holder) if holder.isdigit() else None,
            ) from error
        os.ftruncate(self._locked, 0)
        os.pwrite(self._locked, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let others in."""
        for descriptor in (self._mark, self._locked):
            if descriptor is not None:
                os.close(descriptor)
        self._mark = self._locked = None

    def make_files_directory(self) -> None:
        if not self.files.is_dir():
            self.files.mkdir(mode=0o700)
            sync_directory(self.directory)

    def newest(self, store_id: str) -> int:
        """The newest timestamp that this store is known to have committed; 0 if nothing is known."""
        try:
            known, _, timestamp = self._newest.read_text("ascii").partition(" ")
            return int(timestamp) if known == store_id else 0
        except (OSError, ValueError):
            return 0

    def note_newest(self, store_id: str, timestamp: int) -> None:
        """Remember the newest timestamp. Losing this with the power is harmless, so it costs no sync."""
        if self._mark is None:
            self._mark = os.open(self._newest, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        line = b"%s %020d\n" % (store_id.encode(), timestamp)
        try:
            os.pwrite(self._mark, line, 0)
        except OSError:
            return  # a full disk: the mark lags behind, and the commits go on


def file_system_of(path: Path, mounts: str) -> str | None:
    """The type of the file system that `path` lies, or will lie, on; None where the table does not tell."""
    found: str | None = None
    longest = -1
    real = os.path.realpath(path)
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = fields[1].encode().decode("unicode_escape").rstrip("/")  # blanks are \040 there
        if (real == point or real.startswith(point + "/")) and len(point) >= longest:
            longest, found = len(point), fields[2]
    return found


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _proc_mounts() -> str:
    try:
        return Path("/proc/self/mounts").read_text("utf-8", "surrogateescape")
    except OSError:
        return ""
