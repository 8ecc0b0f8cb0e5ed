"""
A disk that loses its cache: a SQLite VFS that remembers what each file held when it was synced last.

Everything goes to the real files as well, so the store under test works as ever. `survivors` are what a machine finds
after its power failed: of each file the bytes of its last sync, and nothing of what was only written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw


class PowerCut(apsw.VFS):
    """While registered, every connection that is opened without a VFS of its own uses this one."""

    def __init__(self) -> None:
        self.survivors: dict[str, bytes] = {}
        self.below = apsw.vfs_names()[0]
        super().__init__("power", self.below, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> _File:  # noqa: N802  SQLite's name
        return _File(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802  SQLite's name
        super().xDelete(filename, syncdir)
        if syncdir:
            self.survivors.pop(Path(filename).name, None)

    def restore(self, directory: Path) -> None:
        """Write what survived into a directory, as it would be found after the power came back."""
        directory.mkdir()
        for name, content in self.survivors.items():
            (directory / name).write_bytes(content)


class _File(apsw.VFSFile):
    def __init__(self, vfs: PowerCut, name: Any, flags: list[int]) -> None:
        self._survivors = vfs.survivors
        self._path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name or "unnamed")
        if flags[0] & apsw.SQLITE_OPEN_MAIN_DB and self._path.exists():
            # The store makes its database under another name, syncs it and renames it: that much is on disk.
            self._survivors.setdefault(self._path.name, self._path.read_bytes())
        super().__init__(vfs.below, name, flags)

    def xSync(self, flags: int) -> None:  # noqa: N802  SQLite's name
        super().xSync(flags)
        if self._path.exists():
            self._survivors[self._path.name] = self._path.read_bytes()
