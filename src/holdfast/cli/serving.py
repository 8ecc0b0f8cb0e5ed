"""`holdfast serve` and `holdfast dev`: starting a server."""

from __future__ import annotations

from typing import Annotated

import typer

from holdfast.cli.options import DataOption

SERVE_EXAMPLES = """Examples:

    holdfast serve                        the built-in assistant

    holdfast serve agent.py               every agent in a file

    holdfast serve app.agents:invoice     one agent of a module

    holdfast serve agent.py --agent assistant     the file's agents, and the assistant by default

Every setting is also a variable: HOLDFAST_PORT, HOLDFAST_KEYS, HOLDFAST_MODEL … (docs/settings.md)."""

DEV_EXAMPLES = "Example:  holdfast dev agent.py"

TargetArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="TARGET", help="file.py, module or module:agent; without it, the assistant.", show_default=False
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
    typer.Option(metavar="DIR", help="Keep runs here instead of in the data directory.", show_default=False),
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
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error. \\[default: info]", show_default=False)
    ] = None,
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
        "log_level": log_level,
    }
    start_server(target, flags, parent=with_parent, brief=brief)


def dev(
    target: TargetArgument = None,
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
