"""
The tree of commands. Modules with commands import what they need inside of them, so that `--help` stays quick.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli import demo, dockfile, keys, runs, serving, skills, store
from holdfast.cli.screen import CliError, fail
from holdfast.errors import HoldfastError

INTERRUPTED = 130  # what shells say of a program that Ctrl-C ended

app = typer.Typer(
    name="holdfast",
    help="Run agents behind HTTP so that dropped connections, restarts and crashes do not matter.",
    epilog="Try it:  [bold]holdfast demo[/bold]   Start:  [bold]holdfast serve[/bold]   "
    "Your own agent:  [bold]holdfast dev agent.py[/bold]",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve", epilog=serving.SERVE_EXAMPLES)(serving.serve)
app.command("worker", epilog=serving.WORKER_EXAMPLES)(serving.worker)
app.command("dev", epilog=serving.DEV_EXAMPLES)(serving.dev)
app.command("init", epilog=dockfile.INIT_EXAMPLES)(dockfile.init)
app.command("add", epilog=dockfile.ADD_EXAMPLES)(dockfile.add)
app.command("validate", epilog=dockfile.VALIDATE_EXAMPLES)(dockfile.validate)
app.command("demo")(demo.demo)
app.add_typer(runs.app, name="runs")
app.add_typer(skills.app, name="skills")
app.add_typer(keys.app, name="keys")
app.add_typer(store.app, name="store")


@app.command("verify", epilog="Example:  holdfast runs export RUN -o run.ndjson; holdfast verify run.ndjson")
def verify(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="An export of a run; - reads stdin.", show_default=False)
    ],
) -> None:
    """Check an exported journal: every byte, by its hash chain. Exit status 0 if it is whole, 1 if not."""
    from holdfast.cli.verify import check_export

    try:
        if str(file) == "-":
            checked = check_export(sys.stdin.buffer)
        else:
            with file.open("rb") as lines:
                checked = check_export(lines)
    except OSError as error:
        raise CliError(f"{file} cannot be read: {error.strerror}") from None
    runs.print_verified(checked.run_id, checked.ok, checked.events, checked.segments, checked.hash, checked.problem)


@app.command("version")
def version() -> None:
    """Print the version."""
    from holdfast import __version__

    typer.echo(f"holdfast {__version__} (Python {sys.version.split()[0]})")


def run() -> None:
    """Run the command of this process's arguments, and end the process."""
    try:
        app()
    except HoldfastError as error:
        fail(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has enough. Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
