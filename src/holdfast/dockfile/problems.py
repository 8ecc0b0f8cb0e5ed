"""
What is wrong with a Dockfile: every problem with its place, what was expected, what was found, and what to do. No I/O.

* HoldfastError
  + InvalidDockfile       at least one problem; nothing was started
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from holdfast.errors import HoldfastError

FOUND_MAX: Final = 60


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that does not fit. `path` is the key's, such as `auth.roles[0].name`; empty: the whole file."""

    file: str
    path: str
    expected: str
    found: str
    line: int | None = None
    todo: str = ""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        what = f"{self.path}: " if self.path else ""
        todo = f"; {self.todo}" if self.todo else ""
        return f"{place}: {what}expected {self.expected}, found {self.found}{todo}"


class InvalidDockfile(HoldfastError):
    """A Dockfile does not fit. Nothing was started. `problems` has all that is wrong, in the order of the file."""

    code = "invalid_dockfile"

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class Report:
    """Collects the problems of one file."""

    def __init__(self, file: str, lines: Mapping[str, int]) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._lines = lines

    def add(self, path: str, expected: str, found: str, todo: str = "") -> None:
        """Note a problem; its line is that of the key, or of the nearest key above it."""
        line, above = self._lines.get(path), path
        while line is None and above:
            above = above.rpartition("[" if above.endswith("]") else ".")[0]
            line = self._lines.get(above)
        self.problems.append(Problem(file=self.file, path=path, expected=expected, found=found, line=line, todo=todo))

    def has(self, path: str) -> bool:
        """Whether something is wrong with this key, or below it."""
        return any(item.path == path or item.path.startswith((f"{path}.", f"{path}[")) for item in self.problems)

    def raise_if_any(self) -> None:
        """
        Raises:
            InvalidDockfile
        """
        if self.problems:
            raise refusal(self.problems)


def refusal(problems: Sequence[Problem]) -> InvalidDockfile:
    """All of them in one error, each on its line."""
    ordered = sorted(problems, key=lambda item: (item.file, item.line or 0))
    return InvalidDockfile("\n".join(map(str, ordered)), ordered)


def shown(value: Any) -> str:
    """A value as a problem names it. What `${…}` gave may be a secret and is not shown."""
    source = getattr(value, "source", None)
    if source is not None:
        return f"what {source} gives"
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= FOUND_MAX else text[:FOUND_MAX] + "…"
