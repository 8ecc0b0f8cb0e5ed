"""`holdfast demo`: the product in twenty seconds."""

from __future__ import annotations

import typer


def demo() -> None:
    """
    See it: a server is killed in the middle of an answer, started again, and its reader misses nothing.

    Everything happens in a temporary directory and on a free port; nothing is left. Exit status 0 if all of it held.
    """
    from holdfast.cli.demonstration import demonstrate

    raise typer.Exit(0 if demonstrate() else 1)
