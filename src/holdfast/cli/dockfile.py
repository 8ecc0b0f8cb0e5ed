"""`holdfast init`, `holdfast add` and `holdfast validate`: Dockfiles, written and checked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from holdfast.cli.screen import CliError, note, out

if TYPE_CHECKING:
    from holdfast.cli.served import Served

DEFAULT: Final = Path("Dockfile.yaml")
INIT_EXAMPLES = "Example:  holdfast init tutor; cd tutor; holdfast dev Dockfile.yaml"
ADD_EXAMPLES = "Example:  holdfast add streaming; holdfast add auth --file agents/Dockfile.yaml"
VALIDATE_EXAMPLES = "Example:  holdfast validate; holdfast validate a/Dockfile.yaml b/Dockfile.yaml"
# The names of `editing.SECTIONS`, which would load YAML for `--help`; a test holds them together.
SECTION_NAMES: Final = "auth, streaming, policies, arguments, secrets, observability, metadata, build, holdfast"


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Where to; it is made. \\[default: here]", show_default=False)
    ] = Path(),
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The agent's name. \\[default: that of the folder]", show_default=False),
    ] = None,
) -> None:
    """Write a Dockfile.yaml and an agent to start from. Files that exist are left alone."""
    from holdfast.dockfile.templates import agent_name_of, is_agent_name, project

    agent = name if name is not None else agent_name_of(folder.resolve().name)
    if not is_agent_name(agent):
        raise CliError(f"{agent!r} is no agent name: 1 to 63 of a-z, 0-9 and -, without a hyphen at the ends")
    files = project(agent)
    if there := [item for item in files if (folder / item).exists()]:
        raise CliError(f"{folder / there[0]} exists already; nothing was written")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for item, text in files.items():
            (folder / item).write_text(text, "utf-8")
    except OSError as error:
        raise CliError(f"{folder} cannot be written to: {error.strerror}") from None
    out().print(f"Wrote {', '.join(str(folder / item) for item in files)}.", markup=False, soft_wrap=True)
    note(f"Start it:  holdfast dev {folder / DEFAULT}")


def add(
    section: Annotated[str, typer.Argument(metavar="SECTION", help=f"One of {SECTION_NAMES}.", show_default=False)],
    file: Annotated[Path, typer.Option(metavar="FILE", help="The Dockfile.")] = DEFAULT,
) -> None:
    """Add a section to a Dockfile, or what a section lacks. What stands there, comments too, stays as it is."""
    from holdfast.dockfile.editing import SECTIONS, Edited, add_section

    if section not in SECTIONS:
        raise CliError(f"there is no section {section!r} to add; there are {', '.join(SECTIONS)}")
    try:
        before = file.read_bytes().decode("utf-8")
        text, added = add_section(before, section, str(file))
    except OSError as error:
        raise CliError(f"{file} cannot be read: {error.strerror}; holdfast init writes one") from None
    except UnicodeDecodeError:
        raise CliError(f"{file} is not UTF-8") from None
    except Edited as error:
        raise CliError(f"{file}: {error}; nothing was written") from None
    _replace(file, text)
    out().print(f"Added {', '.join(added)} to {file}.", markup=False, soft_wrap=True)
    note("See docs/dockfile.md for what it means; holdfast validate checks it.")


def validate(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]...", help="Dockfiles. \\[default: Dockfile.yaml]", show_default=False),
    ] = None,
    env_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Variables, as for serve.", show_default=False)
    ] = None,
) -> None:
    """Check Dockfiles as `serve` does, the agents' code included, and start nothing. Exit status 0 if all fits, else 1."""
    from holdfast.cli.served import read_served

    served = read_served([str(file) for file in files or [DEFAULT]], env_file=env_file)
    programs = served.load()
    for notice in served.notices:
        note(notice, "yellow")
    out().print(f"valid: {', '.join(programs.names())} on {_place(served)}", markup=False, soft_wrap=True)


def _place(served: Served) -> str:
    settings = served.settings
    who = {"api_key": "API keys", "jwt": "tokens", None: "API keys"}.get(served.access.mode, "API keys")
    return f"{settings.host}:{settings.port}, {'open to this machine' if settings.no_auth else f'by {who}'}"


def _replace(file: Path, text: str) -> None:
    """All of the new text or all of the old one, whatever happens meanwhile."""
    new = file.with_name(f".{file.name}.new")
    try:
        new.write_bytes(text.encode())
        new.chmod(file.stat().st_mode & 0o777)
        os.replace(new, file)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise CliError(f"{file} cannot be written: {error.strerror}") from None
