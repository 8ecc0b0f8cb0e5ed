"""
Workspaces: a directory for the files of each task, made with its first use and removed with the task.

    <data>/workspaces/<digest>/        what the task's tools work in
    <data>/workspaces/<digest>.json    whose it is

The digest is over the task and the time of its creation: a task that is made anew under an old id never sees what was
left of the old one, even if a crash came before the removal. What is left over is found by `sweep`. A run without a
task has a workspace of its own, until it is over.

A process finds only the workspaces below its own data directory; processes on several machines have to share it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
from pathlib import Path
from typing import Final

import msgspec

from holdfast.model import Run
from holdfast.store.base import Store

FOLDER: Final = "workspaces"
_TRASH: Final = ".trash-"
_OWNER_ONLY: Final = 0o700


class _Owner(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whose a workspace is: a task's, or without `created_at` a run's."""

    tenant: str
    id: str
    created_at: int | None = None

    @property
    def digest(self) -> str:
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:32]


class Workspaces:
    """The workspaces below a data directory."""

    def __init__(self, data: Path, store: Store) -> None:
        self._folder = Path(os.path.realpath(data)) / FOLDER
        self._store = store

    async def of(self, run: Run) -> Path:
        """
        The workspace in which the tools of a run work; it is there when this returns.

        Raises:
            StoreUnavailable
        """
        owner = _Owner(run.tenant, run.run_id)
        if run.thread_id is not None:
            thread = await self._store.thread(run.tenant, run.thread_id)
            if thread is not None:
                owner = _Owner(run.tenant, run.thread_id, thread.created_at)
        return await asyncio.to_thread(self._make, owner)

    async def remove(self, tenant: str, thread_id: str, created_at: int) -> None:
        """Remove that of a task which was created then, if there is one. The task has to be gone."""
        await asyncio.to_thread(self._remove, _Owner(tenant, thread_id, created_at))

    async def sweep(self) -> int:
        """Remove those whose task is gone or whose run is over; their number."""
        gone = 0
        for owner in await asyncio.to_thread(self._owners):
            if not await self._is_needed(owner):
                await asyncio.to_thread(self._remove, owner)
                gone += 1
        return gone

    async def _is_needed(self, owner: _Owner) -> bool:
        if owner.created_at is None:
            run = await self._store.run(owner.tenant, owner.id)
            return run is not None and not run.status.is_final
        thread = await self._store.thread(owner.tenant, owner.id)
        return thread is not None and thread.created_at == owner.created_at

    # On the disk

    def _make(self, owner: _Owner) -> Path:
        path = self._folder / owner.digest
        if not path.is_dir():
            self._folder.mkdir(mode=_OWNER_ONLY, parents=True, exist_ok=True)
            # First whose it is: a directory that nobody knows of would never be removed.
            self._file(owner).write_bytes(msgspec.json.encode(owner))
            path.mkdir(mode=_OWNER_ONLY, exist_ok=True)
        return path

    def _owners(self) -> list[_Owner]:
        for left in self._folder.glob(f"{_TRASH}*"):
            remove_tree(left)
        found = []
        for path in self._folder.glob("*.json"):
            # Another process removes it just now, or one died while it wrote it: then there is no directory yet.
            with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
                found.append(msgspec.json.decode(path.read_bytes(), type=_Owner))
        return found

    def _remove(self, owner: _Owner) -> None:
        path, trash = self._folder / owner.digest, self._folder / f"{_TRASH}{secrets.token_hex(8)}"
        try:
            path.rename(trash)
        except FileNotFoundError:
            pass
        else:
            remove_tree(trash)
        self._file(owner).unlink(missing_ok=True)

    def _file(self, owner: _Owner) -> Path:
        return self._folder / f"{owner.digest}.json"


def remove_tree(top: Path) -> None:
    """
    Remove a directory with all that is in it, links as links.

    Directories are moved up to the top before they are emptied, so that no depth of them exhausts the stack or the
    length of a path.
    """
    waiting = [top.name]
    with _opened(str(top.parent)) as parent:
        while waiting:
            # Another process may be at it, too.
            with contextlib.suppress(FileNotFoundError):
                waiting += _emptied(waiting.pop(), parent)


def _emptied(name: str, parent: int) -> list[str]:
    """Remove a directory but for those in it; the names below the parent that these have now."""
    moved = []
    os.chmod(name, _OWNER_ONLY, dir_fd=parent)  # tools may have left it closed
    with _opened(name, parent) as directory:
        for entry in os.listdir(directory):
            try:
                os.unlink(entry, dir_fd=directory)
            except (IsADirectoryError, PermissionError):  # which of them, is the system's choice
                os.chmod(entry, _OWNER_ONLY, dir_fd=directory)
                moved.append(f"{_TRASH}{secrets.token_hex(8)}")
                os.rename(entry, moved[-1], src_dir_fd=directory, dst_dir_fd=parent)
    os.rmdir(name, dir_fd=parent)
    return moved


class _opened:  # noqa: N801 - reads like a function
    """A directory's descriptor for a while; no link is followed."""

    def __init__(self, path: str, parent: int | None = None) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if parent is None else os.O_NOFOLLOW)
        self._descriptor = os.open(path, flags, dir_fd=parent)

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
