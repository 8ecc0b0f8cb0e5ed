"""
SQL as files: statements by name, and migrations by number, one directory for each kind of store.

A statement begins with a line `-- name: its_name` and ends with the next such line. `{rows}` in it stands for one
parenthesis of placeholders for each row (`rows_of`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_MIGRATION = re.compile(r"(\d{4})_(\w+)\.sql")


class Migration(NamedTuple):
    """One step from a schema version to the next."""

    version: int  # the one that it leads to
    name: str
    text: str


@cache
def statements(kind: str, file: str) -> Mapping[str, str]:
    """The named statements of one file."""
    _, *pieces = _NAME.split(_directory(kind).joinpath(f"{file}.sql").read_text("utf-8"))
    return dict(zip(pieces[::2], (piece.strip() for piece in pieces[1::2]), strict=True))


def migrations(kind: str) -> Sequence[Migration]:
    """All migrations of a kind of store, in order."""
    return sorted(
        Migration(int(match[1]), match[2], entry.read_text("utf-8"))
        for entry in _directory(kind).iterdir()
        if (match := _MIGRATION.fullmatch(entry.name))
    )


def rows_of(statement: str, columns: int, count: int) -> str:
    """The statement for `count` rows of so many columns each."""
    row = f"({', '.join('?' * columns)})"
    return statement.replace("{rows}", ", ".join([row] * count))


def _directory(kind: str) -> Traversable:
    return files(__package__).joinpath(kind)
