"""The command line: a caller of the running server like anybody else, and what starts that server."""

from __future__ import annotations


def main() -> None:
    """The script `holdfast`. Refusals are one sentence on stderr and exit status 1; wrong usage is 2."""
    from holdfast.cli.app import run

    run()
