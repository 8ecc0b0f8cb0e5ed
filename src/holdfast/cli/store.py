"""`holdfast store …`: backups of an embedded store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli.options import DataOption
from holdfast.cli.screen import CliError, note, out

app = typer.Typer(
    help="Back up the store and put a backup into place.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("backup", epilog="Example:  holdfast store backup /backups/holdfast-$(date +%F)")
def backup(
    target: Annotated[Path, typer.Argument(metavar="DIR", help="A new directory.", show_default=False)],
    data: DataOption = None,
) -> None:
    """Copy the store into a new directory, consistently, while the server goes on with its work."""
    from holdfast.cli.access import open_access, settings_for
    from holdfast.cli.progress import growing
    from holdfast.cli.restoring import size_of

    directory = target.absolute()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise CliError(f"{target} exists already; a backup goes to a new directory")
    with open_access(settings_for(data)) as access, growing(f"backing up to {target}", lambda: size_of(directory)):
        access.backup(directory)
    out().print(f"{target}: {size_of(directory):,} bytes", markup=False)


@app.command("restore", epilog="Example:  holdfast store restore /backups/holdfast-2026-11-20")
def restore(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="What `backup` made.", show_default=False)],
    data: DataOption = None,
) -> None:
    """
    Put a backup into the place of the store. No server may run on it.

    What is there now is kept beside it. Readers that had seen more than the backup holds are told so.
    """
    from holdfast.cli.access import settings_for
    from holdfast.cli.restoring import restore_store

    settings = settings_for(data)
    if "://" in (settings.store or ""):
        raise CliError("only an embedded store is restored like this; a database has tools of its own")
    directory = Path(settings.store or settings.data)
    kept = restore_store(source, directory)
    out().print(f"{directory} holds the backup {source} now", markup=False)
    if kept is not None:
        note(f"What was there before is in {kept}; delete it when it is not needed any more.")
