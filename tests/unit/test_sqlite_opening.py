"""What an embedded store checks, changes and refuses when it is opened."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from pathlib import Path

import apsw
import pytest

from holdfast.errors import StoreLocked, StoreRefused, StoreTooNew
from holdfast.store.base import SCHEMA_VERSION
from holdfast.store.sql import migrations
from holdfast.store.sqlite import SQLiteStore, connection, schema
from holdfast.store.sqlite.place import file_system_of
from tests.contract.making import journal, started

MOUNTS = """\
/dev/vda / ext4 rw 0 0
server:/export /mnt/nfs nfs4 rw 0 0
/dev/vdb /mnt/nfs/local ext4 rw 0 0
//pc/share /mnt/my\\040share cifs rw 0 0
host: /mnt/ssh fuse.sshfs rw 0 0
overlay /mnt/overlay overlay rw 0 0
"""


@pytest.fixture
async def directory(tmp_path: Path) -> Path:
    """The directory of a store that has a run, and is closed."""
    store = SQLiteStore(tmp_path / "data")
    await store.open()
    await started(store)
    await store.close()
    return tmp_path / "data"


def contents(directory: Path) -> dict[str, bytes]:
    """All that could tell of a change, but for the lock file and SQLite's shared memory."""
    return {
        path.name: path.read_bytes()
        for path in directory.iterdir()
        if path.is_file() and path.suffix not in (".lock", ".db-shm")
    }


# Whose it is


async def test_a_second_store_on_the_same_directory_is_refused(directory: Path) -> None:
    first, second = SQLiteStore(directory), SQLiteStore(directory)
    await first.open()

    with pytest.raises(StoreLocked) as caught:
        await second.open()

    assert caught.value.details == {"pid": os.getpid()}
    await second.close()
    await started(first, "r2")
    await first.close()


async def test_a_store_that_was_closed_can_be_opened_again(directory: Path) -> None:
    for _ in range(2):
        store = SQLiteStore(directory)
        await store.open()
        await store.close()


@pytest.mark.slow
async def test_another_process_is_named_and_its_death_frees_the_store(directory: Path) -> None:
    program = (
        "import asyncio, pathlib, sys; from holdfast.store.sqlite import SQLiteStore\n"
        "store = SQLiteStore(pathlib.Path(sys.argv[1])); asyncio.run(store.open()); print('open', flush=True)\n"
        "sys.stdin.read()"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(directory), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"open\n"
    store = SQLiteStore(directory)

    with pytest.raises(StoreLocked, match=f"pid {process.pid}"):
        await store.open()

    process.kill()
    await process.wait()
    await store.open()
    await store.close()


async def test_a_store_that_failed_to_open_leaves_the_lock_to_others(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(connection, "SYNCHRONOUS", "NORMAL")
        with pytest.raises(StoreRefused):
            await SQLiteStore(directory).open()

    store = SQLiteStore(directory)
    await store.open()
    await store.close()


async def test_nobody_else_can_read_what_a_store_writes(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "a" / "data")
    await store.open()
    await started(store)

    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert mode(tmp_path / "a" / "data") == 0o700
    assert mode(tmp_path / "a" / "data" / "files") == 0o700
    for path in (tmp_path / "a" / "data").iterdir():
        if path.is_file():
            assert mode(path) == 0o600, path
    await store.close()


# What it lies on


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/mnt/nfs/data", "nfs4"),
        ("/mnt/nfs", "nfs4"),
        ("/mnt/nfsx", "ext4"),
        ("/mnt/nfs/local/data", "ext4"),
        ("/mnt/my share/data", "cifs"),
        ("/mnt/ssh/a/b/c", "fuse.sshfs"),
        ("/mnt/overlay/x", "overlay"),
        ("/home", "ext4"),
    ],
)
def test_the_file_system_is_that_of_the_innermost_mount(path: str, kind: str) -> None:
    assert file_system_of(Path(path), MOUNTS) == kind


def test_without_a_table_of_mounts_nothing_is_known() -> None:
    assert file_system_of(Path("/home"), "") is None
    assert file_system_of(Path("/home"), "nonsense\n\n") is None


def test_of_two_mounts_on_one_place_the_last_counts() -> None:
    assert file_system_of(Path("/mnt/x"), MOUNTS + "tmpfs /mnt/nfs tmpfs rw 0 0\ns: /mnt nfs rw 0 0\n") == "nfs"


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "fuse.glusterfs", "ceph", "lustre"]
)
async def test_a_network_file_system_is_refused_before_anything_is_made(tmp_path: Path, kind: str) -> None:
    store = SQLiteStore(tmp_path / "data", mounts=lambda: f"/dev/vda / ext4 rw 0 0\nserver: {tmp_path} {kind} rw 0 0\n")

    with pytest.raises(StoreRefused, match="network file system") as caught:
        await store.open()

    assert caught.value.details == {"file_system": kind}
    assert contents(tmp_path) == {}
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "overlay", "tmpfs", "fuseblk", "apfs"])
async def test_a_local_file_system_is_fine(tmp_path: Path, kind: str) -> None:
    store = SQLiteStore(tmp_path, mounts=lambda: f"x {tmp_path} {kind} rw 0 0\n")

    await store.open()
    await store.close()


async def test_a_place_that_cannot_be_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreRefused, match="cannot be used"):
        await SQLiteStore(tmp_path / "file" / "data").open()


# What it is


async def test_a_store_of_a_newer_version_stays_untouched(directory: Path) -> None:
    with apsw.Connection(str(directory / "holdfast.db")) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    before = contents(directory)

    with pytest.raises(StoreTooNew) as caught:
        await SQLiteStore(directory).open()

    assert caught.value.details == {"found": SCHEMA_VERSION + 1, "known": SCHEMA_VERSION}
    assert contents(directory) == before


async def test_a_newer_version_that_only_the_log_tells_of_is_noticed(directory: Path, tmp_path: Path) -> None:
    """A newer version that was killed right after its migration leaves the new number in the log alone."""
    db = apsw.Connection(str(directory / "holdfast.db"))
    db.execute("PRAGMA user_version = 77")
    torn = tmp_path / "torn"
    torn.mkdir()
    for name in ("holdfast.db", "holdfast.db-wal"):
        (torn / name).write_bytes((directory / name).read_bytes())
    db.close()
    before = contents(torn)
    assert len(before["holdfast.db-wal"]) > 0

    with pytest.raises(StoreTooNew):
        await SQLiteStore(torn).open()

    assert contents(torn) == before


@pytest.mark.parametrize("content", [b"", b"SQLite format", b"no database\n" * 100, bytes(4096)])
async def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "holdfast.db").write_bytes(content)

    with pytest.raises(StoreRefused, match="not a store of Holdfast"):
        await SQLiteStore(tmp_path).open()

    assert (tmp_path / "holdfast.db").read_bytes() == content


async def test_a_database_of_somebody_else_is_refused(tmp_path: Path) -> None:
    db = apsw.Connection(str(tmp_path / "holdfast.db"))
    db.execute("CREATE TABLE theirs (a)")
    db.close()
    before = contents(tmp_path)

    with pytest.raises(StoreRefused, match="not a store of Holdfast"):
        await SQLiteStore(tmp_path).open()

    assert contents(tmp_path) == before


async def test_what_a_crash_left_of_making_a_store_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "holdfast.new").write_bytes(b"half")
    (tmp_path / "holdfast.new-journal").write_bytes(b"half")
    store = SQLiteStore(tmp_path)

    info = await store.open()
    await store.close()

    assert info.schema_version == SCHEMA_VERSION
    assert not (tmp_path / "holdfast.new").exists()
    assert not (tmp_path / "holdfast.new-journal").exists()


async def test_a_failed_migration_leaves_the_schema_as_it_was(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = [
        migrations("sqlite")[0]._replace(
            version=SCHEMA_VERSION + 1, text="CREATE TABLE half (a); CREATE TABLE half (a)"
        )
    ]
    with monkeypatch.context() as patch:
        patch.setattr(schema, "migrations", lambda _: broken)
        with pytest.raises(Exception, match="half"):
            await SQLiteStore(directory).open()

    with apsw.Connection(str(directory / "holdfast.db")) as db:
        assert db.execute("PRAGMA user_version").get == SCHEMA_VERSION
        assert not db.table_exists("main", "half")
    db.close()


async def test_migrations_are_numbered_without_gaps() -> None:
    assert [migration.version for migration in migrations("sqlite")] == list(range(1, SCHEMA_VERSION + 1))


# How it writes


async def test_every_commit_is_synced_and_the_setting_was_read_back(directory: Path) -> None:
    store = SQLiteStore(directory)
    await store.open()

    assert await store._change(connection.pragma, "synchronous") == 2
    assert await store._change(connection.pragma, "journal_mode") == "wal"
    await store.close()


async def test_a_setting_that_did_not_hold_is_noticed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SYNCHRONOUS", "NORMAL")

    with pytest.raises(StoreRefused, match=r"expected synchronous=FULL \(2\), SQLite gave 1"):
        await SQLiteStore(directory).open()


async def test_readers_cannot_write(directory: Path) -> None:
    store = SQLiteStore(directory)
    await store.open()

    with pytest.raises(Exception, match="readonly"):
        await store._read(lambda reader: reader.execute("DELETE FROM runs"))

    assert await store.run_by_number(1) is not None
    assert len(await journal(store, 1)) == 1
    await store.close()
