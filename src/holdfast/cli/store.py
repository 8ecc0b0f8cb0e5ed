"""`holdfast store …`: its schema, copies between stores, and backups of an embedded one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli.options import DataOption, JsonOption
from holdfast.cli.screen import CliError, note, out

app = typer.Typer(
    help="The store: its schema, copies of it, backups.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


StoreOption = Annotated[
    str | None,
    typer.Option(
        metavar="DIR|URL",
        help="A directory, or postgresql://… \\[default: HOLDFAST_STORE, or the data directory]",
        show_default=False,
    ),
]
PLACE_HELP = "A directory, or postgresql://…; - stands for HOLDFAST_STORE."


@app.command("status", epilog="Example:  holdfast store status --store postgresql://db/holdfast")
def status(store: StoreOption = None, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Say where the store is, how old its schema is, and how many runs it holds. Nothing is changed."""
    from holdfast.cli.access import settings_for
    from holdfast.cli.screen import print_facts, print_json
    from holdfast.cli.storing import status_of

    found = status_of(settings_for(data, store))
    if as_json:
        print_json(found)
        return
    runs = ", ".join(f"{count} {name}" for name, count in found["runs"].items()) or "none"
    waiting = f" (this version writes {found['schema_known']}: holdfast store migrate)" if found["pending"] else ""
    facts = [
        ("kind", found["kind"]),
        ("location", found["location"]),
        ("schema", f"{found['schema_found'] or 'none yet'}{waiting}"),
        ("store id", found["store_id"] or "none yet"),
        ("runs", runs),
    ]
    print_facts(facts)


@app.command("migrate", epilog="Example:  HOLDFAST_STORE=postgresql://db/holdfast holdfast store migrate")
def migrate(store: StoreOption = None, data: DataOption = None) -> None:
    """
    Bring the schema up to this version. Every server does so at its start; this does it beforehand.

    Of many that do it at once on a database, one does the work and the others wait for it.
    """
    from holdfast.cli.access import settings_for
    from holdfast.cli.storing import migrate_store

    location, done = migrate_store(settings_for(data, store))
    out().print(f"{location}: {', '.join(done) if done else 'nothing to do'}", markup=False)


@app.command(
    "copy",
    epilog="Example:  holdfast store copy .holdfast postgresql://db/holdfast\n\n"
    "with a password:  HOLDFAST_STORE=postgresql://… holdfast store copy .holdfast -",
)
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help=PLACE_HELP, show_default=False)],
    target: Annotated[str, typer.Argument(metavar="TO", help=f"Empty. {PLACE_HELP}", show_default=False)],
) -> None:
    """
    Copy everything into an empty store, between SQLite and Postgres or within a kind. No server may run on either.

    Journals are the same byte for byte, and readers go on with the cursors that they have.
    """
    from holdfast.cli.access import settings_for
    from holdfast.cli.storing import copy_store

    location, counts = copy_store(settings_for(None), source, target)
    told = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items() if count)
    out().print(f"{location}: {told or 'nothing'}", markup=False)


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
