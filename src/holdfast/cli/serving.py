"""`holdfast serve`, `holdfast dev` and `holdfast worker`: starting a server, or what executes for others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli.options import DataOption

SERVE_EXAMPLES = """Examples:

    holdfast serve                        the built-in assistant

    holdfast serve agent.py               every agent in a file

    holdfast serve app.agents:invoice     one agent of a module

    holdfast serve Dockfile.yaml          what a Dockfile declares: holdfast init writes one

    holdfast serve agent.py --agent assistant     the file's agents, and the assistant by default

    holdfast serve --store postgresql://db/holdfast --workers 4     four processes on one port

Every setting is also a variable: HOLDFAST_PORT, HOLDFAST_KEYS, HOLDFAST_MODEL … (docs/settings.md)."""

WORKER_EXAMPLES = """Examples:

    HOLDFAST_STORE=postgresql://db/holdfast holdfast worker agent.py

    holdfast serve agent.py --store postgresql://db/holdfast --no-worker     what takes the calls"""

DEV_EXAMPLES = "Example:  holdfast dev agent.py"

TargetArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TARGET",
        help="file.py, module or module:agent, or Dockfile.yaml, also several; without it, the assistant.",
        show_default=False,
    ),
]
OneTarget = Annotated[
    str | None,
    typer.Argument(
        metavar="TARGET",
        help="file.py, module, module:agent or Dockfile.yaml; without it, the assistant.",
        show_default=False,
    ),
]
EnvFileOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Variables for a Dockfile and its agent, behind those that are set.", show_default=False
    ),
]
AgentOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="The agent that answers where none is named. \\[default: the first]", show_default=False
    ),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        metavar="DIR|URL",
        help="Keep runs here instead of in the data directory: a directory, or postgresql://… (a URL with a password "
        "better by HOLDFAST_STORE: arguments can be seen).",
        show_default=False,
    ),
]
LogLevelOption = Annotated[
    str | None, typer.Option(help="debug, info, warning or error. \\[default: info]", show_default=False)
]


def serve(
    target: TargetArgument = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. \\[default: 127.0.0.1]", show_default=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port; 0 takes a free one. \\[default: 8000]", show_default=False),
    ] = None,
    data: DataOption = None,
    store: StoreOption = None,
    key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="An API key of an admin; may be given several times. Better by HOLDFAST_KEYS: arguments can be seen.",
            show_default=False,
        ),
    ] = None,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="Ask for no key; only on a loopback host.")] = False,
    agent: AgentOption = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=256,
            help="Processes that share the port, on a Postgres store. \\[default: 1]",
            show_default=False,
        ),
    ] = None,
    no_worker: Annotated[
        bool, typer.Option("--no-worker", help="Execute nothing: other processes of the Postgres store do.")
    ] = False,
    log_level: LogLevelOption = None,
    env_file: EnvFileOption = None,
    with_parent: Annotated[int | None, typer.Option(hidden=True)] = None,
    brief: Annotated[bool, typer.Option("--brief", hidden=True)] = False,
) -> None:
    """
    Serve agents over HTTP. Without a TARGET, that is the built-in assistant.

    Without any key, the first start makes one and shows it once. Ctrl-C stops cleanly, a second one at once.
    """
    from holdfast.cli.starting import start_server

    flags = {
        "host": host,
        "port": port,
        "data": None if data is None else str(data),
        "store": store,
        "keys": tuple(key) if key else None,
        "no_auth": no_auth or None,
        "agent": agent,
        "workers": workers,
        "no_worker": no_worker or None,
        "log_level": log_level,
    }
    if status := start_server(target or [], flags, env_file=env_file, parent=with_parent, brief=brief):
        raise typer.Exit(status)


def worker(
    target: TargetArgument = None,
    store: StoreOption = None,
    agent: AgentOption = None,
    runs_max: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Runs at once. \\[default: 1000]", show_default=False)
    ] = None,
    log_level: LogLevelOption = None,
    env_file: EnvFileOption = None,
) -> None:
    """
    Execute runs that servers on the same Postgres store accepted; without HTTP.

    Any number may run, on any machines. SIGTERM or Ctrl-C hands over what is being executed.
    """
    from holdfast.cli.starting import start_worker

    flags = {"store": store, "agent": agent, "runs_max": runs_max, "log_level": log_level}
    start_worker(target or [], flags, env_file=env_file)


def dev(
    target: OneTarget = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port. \\[default: 8000]", show_default=False)
    ] = None,
    data: DataOption = None,
    agent: AgentOption = None,
) -> None:
    """
    Serve on 127.0.0.1 with the key dev-engine-key, and start anew whenever a Python file beside TARGET changes.

    Runs go on across restarts as they do after a crash; a run that cannot (restart "waiting" or "never") ends.
    """
    from holdfast.cli.reloading import Reloader

    options = {"--port": port, "--data": data, "--agent": agent}
    given = [word for name, value in options.items() if value is not None for word in (name, str(value))]
    raise typer.Exit(Reloader(target, given).run())
