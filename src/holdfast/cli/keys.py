"""`holdfast keys …`: the API keys of a server."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from holdfast.cli.options import DataOption, JsonOption
from holdfast.cli.screen import note, out, print_json, print_table

app = typer.Typer(
    help="Add, list, rotate and revoke API keys.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ROLES = "reader, executor, operator or admin"


@app.command("add", epilog="Example:  KEY=$(holdfast keys add web --role executor)")
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the key is for.", show_default=False)],
    role: Annotated[str, typer.Option(help=f"What it may do: {ROLES}.")] = "executor",
    tenant: Annotated[str, typer.Option(help="Whose runs it sees.")] = "default",
    json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Make a key and print it, once: only its hash is kept."""
    from holdfast.cli.access import open_access, settings_for

    with open_access(settings_for(data), create=True) as access:
        made = access.add_key(name, role, tenant)
    if json:
        print_json(made)
        return
    out().print(made["key"], markup=False, soft_wrap=True)
    note(f"Key {name} ({made['role']}, tenant {made['tenant']}). Keep it now; it cannot be shown again.")


@app.command("list")
def list_keys(json: JsonOption = False, data: DataOption = None) -> None:
    """List the keys of the store, revoked ones too. Keys of the environment are not among them."""
    from holdfast.cli.access import open_access, settings_for
    from holdfast.cli.times import local_time

    with open_access(settings_for(data)) as access:
        found = access.keys()
    if json:
        print_json(found)
    elif not found:
        note("no keys")
    else:
        rows = [
            (
                key["name"],
                key["role"],
                key["tenant"],
                local_time(key["created_at"]),
                _state(key["revoked_at"]),
            )
            for key in found
        ]
        print_table(("NAME", "ROLE", "TENANT", "CREATED", "STATE"), rows)


@app.command("rotate", epilog="Example:  KEY=$(holdfast keys rotate web --overlap 60)")
def rotate(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The key's name.", show_default=False)],
    overlap: Annotated[
        float | None, typer.Option(help="Seconds for which the old key stays good; by default as long as may be.")
    ] = None,
    json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Put a new key in the place of one and print it, once."""
    from holdfast.cli.access import open_access, settings_for

    with open_access(settings_for(data)) as access:
        made = access.rotate_key(name, overlap)
    if json:
        print_json(made)
        return
    out().print(made["key"], markup=False, soft_wrap=True)
    note(f"Key {name} is new. The old one is good for {made['overlap_seconds']:g} more seconds.")


@app.command("revoke")
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The key's name.", show_default=False)],
    data: DataOption = None,
) -> None:
    """Put a key out of force. A running server refuses it at once and ends its streams within 30 seconds."""
    from holdfast.cli.access import open_access, settings_for

    with open_access(settings_for(data)) as access:
        access.revoke_key(name)
    out().print(f"{name} is revoked", markup=False)


def _state(revoked_at: str | None) -> str:
    if revoked_at is None:
        return "in force"
    return "revoked" if datetime.fromisoformat(revoked_at) <= datetime.now(UTC) else "rotated"
