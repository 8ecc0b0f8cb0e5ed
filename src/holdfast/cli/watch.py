"""Which Python files and Dockfiles of a folder changed: a look at their times and sizes, without help of the operating system."""

from __future__ import annotations

import os
from pathlib import Path

# What is no source of the agent: tools' folders, and environments with thousands of files.
SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "env", "build", "dist"})
# What a Dockfile is, or what it reads beside it.
WATCHED = frozenset({"Dockfile.yaml", "Dockfile.yml", ".env", ".env.local", "env.yaml", "env.yml"})


class Watch:
    """Remembers how the Python files of a folder were at the last look."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen = self._look()

    def changed(self) -> list[Path]:
        """The files that were written, made or deleted since the last look, by name."""
        before, self._seen = self._seen, self._look()
        if before == self._seen:
            return []
        names = before.keys() | self._seen.keys()
        return sorted(Path(name) for name in names if before.get(name) != self._seen.get(name))

    def _look(self) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        for folder, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if not name.startswith(".") and name not in SKIPPED]
            for name in names:
                if name.endswith(".py") or name in WATCHED:
                    path = os.path.join(folder, name)
                    try:
                        status = os.stat(path)
                    except OSError:
                        continue  # an editor that replaces the file is in the middle of it
                    found[path] = (status.st_mtime_ns, status.st_size)
        return found
