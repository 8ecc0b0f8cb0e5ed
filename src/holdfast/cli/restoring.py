"""
Putting a backup into the place of an embedded store.

The copy is made and synced beside the store first, and marked as restored there, so that whatever fails or dies
until then has changed nothing. Then, under the store's own lock, the old files move into a directory of their own and
the copies into their place. `holdfast.newest` stays where it is: it tells how far the lost history had come.
"""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

from holdfast.cli.progress import growing
from holdfast.cli.screen import CliError
from holdfast.errors import StoreLocked
from holdfast.store.sqlite import mark_restored
from holdfast.store.sqlite.place import Place, sync_directory

DATABASE = "holdfast.db"
FILES = "files"
STAGE = ".restoring"


def restore_store(source: Path, directory: Path) -> Path | None:
    """
    Replace the store in `directory` by the backup in `source`; where the old one is kept comes back, if there was one.

    Raises:
        CliError: there is no backup in `source`, or it is the store itself; a server runs; a file cannot be written.
        StoreTooNew, StoreRefused: this version cannot open the backup.
    """
    if not (source / DATABASE).is_file():
        raise CliError(f"{source} is no backup: it holds no {DATABASE}")
    if source.resolve() == directory.resolve():
        raise CliError(f"{source} is the store itself")
    place = Place(directory)
    try:
        place.take()
    except StoreLocked as error:
        pid = error.details.get("pid")
        raise CliError(f"a server{f' (pid {pid})' if pid else ''} runs on {directory}; stop it first") from None
    try:
        return _replace(source, directory)
    except OSError as error:
        raise CliError(f"{error.filename or directory}: {error.strerror}; the store is as it was") from error
    finally:
        place.release()


def size_of(directory: Path) -> int:
    """The bytes of all files in a directory; those that vanish meanwhile count nothing."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.stat(os.path.join(folder, name)).st_size
            except OSError:
                continue
    return total


def _replace(source: Path, directory: Path) -> Path | None:
    stage = directory / STAGE
    shutil.rmtree(stage, ignore_errors=True)
    try:
        with growing(f"copying {source}", lambda: size_of(stage)):
            _copy(source, stage)
        mark_restored(stage)
        _sync(stage)
        return _swap(stage, directory)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _copy(source: Path, stage: Path) -> None:
    stage.mkdir(mode=0o700)
    for part in _parts(source):
        if part.is_dir():
            shutil.copytree(part, stage / part.name)
        else:
            shutil.copy2(part, stage / part.name)


def _swap(stage: Path, directory: Path) -> Path | None:
    """Move the old files out and the new ones in; where that fails half-way, move back what was moved."""
    old, new = _parts(directory), _parts(stage)
    kept = directory / f"before-restore-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}" if old else None
    if kept is not None:
        kept.mkdir(mode=0o700)
    # Without a database, a start would make an empty store: so it goes last and comes first.
    moves = [(file, kept / file.name) for file in reversed(old) if kept is not None]
    moves += [(file, directory / file.name) for file in new]
    done: list[tuple[Path, Path]] = []
    try:
        for move in moves:
            move[0].rename(move[1])
            done.append(move)
        sync_directory(directory)
    except BaseException:  # Ctrl-C too
        for before, after in reversed(done):
            after.rename(before)
        if kept is not None:
            kept.rmdir()
        raise
    return kept


def _parts(directory: Path) -> list[Path]:
    """What of a directory is the store itself, the database first."""
    return [path for name in (DATABASE, f"{DATABASE}-wal", FILES) if (path := directory / name).exists()]


def _sync(directory: Path) -> None:
    for folder, _, names in os.walk(directory):
        for name in names:
            descriptor = os.open(os.path.join(folder, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(Path(folder))
