"""
What the CLI writes, and where: answers to stdout, so that they can be piped; everything about them to stderr.

Colours and moving things appear on a terminal only (rich sees to that, and to NO_COLOR).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any

from holdfast.errors import HoldfastError

if TYPE_CHECKING:
    from rich.console import Console

# Where no terminal cuts lines, a table shall not either.
PIPE_WIDTH = 400


class CliError(HoldfastError):
    """What was asked cannot be done; the message is one sentence that says why and, if possible, what to do."""


@cache
def out() -> Console:
    """The console for answers."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


@cache
def notes() -> Console:
    """The console for everything about the answer: progress, hints, what happened meanwhile."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def note(text: str, style: str = "dim") -> None:
    """Say something beside the answer. The text is taken as it is: no markup."""
    notes().print(text, style=style, markup=False)


def fail(error: HoldfastError) -> None:
    """Say why nothing came of it."""
    notes().print(f"[red]holdfast:[/red] {_escaped(error.message)}{_escaped(_winner(error))}")


def _winner(error: HoldfastError) -> str:
    """Of an answer that came too late: which one counts."""
    if not {"answer", "by"} <= error.details.keys():
        return ""
    return f"; the answer is {error.details['answer']!r}, by {error.details['by']}"


def write(text: str) -> None:
    """A piece of an answer, at once and without a line end."""
    sys.stdout.write(text)
    sys.stdout.flush()


def command() -> str:
    """How this command is called in this shell: by its name if it is on the PATH, else by the path that was typed."""
    typed = Path(sys.argv[0])
    return "holdfast" if which("holdfast") or typed.name != "holdfast" else str(typed)


def print_json(value: Any) -> None:
    """A value as JSON, for programs."""
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows under headings; on a terminal long cells are folded, in a pipe they stay whole."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=not sys.stdout.isatty(), overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    out().print(table)


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Names and values, one line each."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, Text(value, style=_STYLES.get(value, "")))
    out().print(table)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


_STYLES = {
    "accepted": "cyan",
    "running": "cyan",
    "waiting": "yellow",
    "completed": "green",
    "failed": "red",
    "cancelled": "magenta",
    "revoked": "red",
}
