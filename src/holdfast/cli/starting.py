"""
Starting a server in this process: settings, agents, and what is said when it is up.

Everything that can be wrong with either is found before the port is opened.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.markup import escape

from holdfast.access import Access
from holdfast.agents.assistant.program import AssistantProgram
from holdfast.agents.registry import Registry
from holdfast.api.http.auth import DEVELOPMENT_KEY
from holdfast.cli.screen import command, note, out
from holdfast.cli.served import Served, read_served
from holdfast.execution.program import spec_of
from holdfast.server import Listening, serve, work
from holdfast.settings import Settings

PARENT_SECONDS: Final = 0.5
OFFLINE: Final = (
    "The assistant answers from the built-in offline model: a few fixed rules, an aid for development. "
    "For a real one set HOLDFAST_MODEL (for example anthropic:claude-sonnet-4-5) and HOLDFAST_MODEL_KEY."
)


def start_server(
    targets: Sequence[str], flags: Mapping[str, Any], *, env_file: Path | None, parent: int | None, brief: bool
) -> int:
    """
    Serve until a signal says stop; the exit status comes back.

    Args:
        parent: the pid without which this process shall not live on.
        brief: say only where it listens.

    Raises:
        TargetError, InvalidDockfile, InvalidSetting, ModelNotConfigured, CannotListen, StoreError: nothing was started.
    """
    served = read_served(targets, flags, env_file=env_file)
    settings = served.settings
    if parent is not None:
        threading.Thread(target=end_with, args=(parent,), name="parent", daemon=True).start()
    if settings.workers > 1:
        from holdfast.cli.workers import Workers

        tell_notices(served)
        return Workers(settings, targets, env_file).run()
    programs = served.load()
    tell_notices(served)

    def announce(listening: Listening) -> None:
        say(
            f"[green]ready[/green] {listening.url}"
            if brief
            else announcement(settings, programs, listening, served.access)
        )

    serve(settings, programs, on_listening=announce, access=served.access)
    return 0


def start_worker(targets: Sequence[str], flags: Mapping[str, Any], *, env_file: Path | None) -> None:
    """
    Execute runs until a signal says stop.

    Raises:
        TargetError, InvalidDockfile, InvalidSetting, ModelNotConfigured, StoreError: nothing was started.
    """
    served = read_served(targets, flags, env_file=env_file)
    settings, programs = served.settings, served.load()

    def announce(listening: Listening) -> None:
        lines = [
            f"[bold]Holdfast[/bold] works on [bold]{escape(listening.location)}[/bold]",
            f"  agents  {', '.join(programs.listed())}",
        ]
        say("\n".join([*lines, *_told_of_model(programs)]))

    work(settings, programs, on_ready=announce)


def tell_notices(served: Served) -> None:
    """What a Dockfile has that its author should know does nothing, or something else than it seems."""
    for notice in served.notices:
        note(notice, "yellow")


def say(text: str) -> None:
    """What is said when it is up: in one go, for whoever reads along; and commands stay one line on any terminal."""
    out().print(text, soft_wrap=True)


def end_with(parent: int) -> None:
    """Stop this process when its parent is gone: whoever started it can not do so any more."""
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(PARENT_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def announcement(settings: Settings, programs: Registry, listening: Listening, access: Access) -> str:
    """Where it listens, what it serves and where it keeps it; and what its user has to know."""
    names = [f"{name} (default)" if name == programs.default else name for name in programs.listed()]
    lines = [
        f"[bold]Holdfast[/bold] listens on [bold]{listening.url}[/bold]",
        f"  agents  {', '.join(names)}",
        f"  data    {escape(str(Path(settings.data).resolve()))}",
    ]
    if settings.store is not None:
        lines.append(f"  store   {escape(listening.location)}")
    if settings.workers > 1:
        lines.append(f"  workers {settings.workers}")
    lines += _told_of_model(programs)
    if settings.no_worker:
        lines += ["", "[yellow]Runs are executed by other processes of this store: holdfast worker[/yellow]"]
    if settings.no_auth:
        lines += ["", "[yellow]No key is asked for: every program on this machine can call this server.[/yellow]"]
    if listening.first_key is not None:
        lines += ["", "Your API key, shown only now:", "", f"    [bold]{listening.first_key}[/bold]", ""]
        lines.append(f"More of them: {escape(command())} keys add NAME")
    elif not (settings.no_auth or settings.keys or settings.key_hashes or access.mode):
        lines += ["", f"Keys: those that were made before. If yours is lost: {escape(command())} keys add NAME"]
    key = listening.first_key or (DEVELOPMENT_KEY if DEVELOPMENT_KEY in settings.keys else None)
    if key is not None or settings.no_auth:
        lines += ["", "Try it:", "", escape(example(settings, programs, listening.url, key)), ""]
    return "\n".join(lines)


def _first_input(programs: Registry) -> str:
    """An input with the texts that the default agent's schema requires."""
    program = programs.get(programs.default or "")
    schema = (spec_of(program).input_schema if program is not None else None) or {}
    names = [name for name in schema.get("required", []) if isinstance(name, str)] or ["message"]
    return json.dumps(dict.fromkeys(names, "Hello!"))


def _told_of_model(programs: Registry) -> list[str]:
    if any(isinstance(program, AssistantProgram) and program.is_offline for program in programs):
        return ["  model   offline", "", f"[yellow]{OFFLINE}[/yellow]"]
    return []


def example(settings: Settings, programs: Registry, url: str, key: str | None) -> str:
    """A first call, to be copied: with curl and with Python's httpx."""
    is_conversation = "engine" in settings.apis and isinstance(programs.get(programs.default or ""), AssistantProgram)
    path = "/execute" if is_conversation else "/invoke/stream" if settings.expose_streams != "none" else "/invoke"
    body = '{"message": "Hello!", "task_id": "demo-001"}' if is_conversation else _first_input(programs)
    header = f" -H 'X-API-Key: {key}'" if key else ""
    headers = f', headers={{"X-API-Key": "{key}"}}' if key else ""
    return (
        f"    curl -N {url}{path}{header} -H 'Content-Type: application/json' -d '{body}'\n\n"
        f"    import httpx\n"
        f'    with httpx.stream("POST", "{url}{path}"{headers}, json={body}, timeout=None) as reply:\n'
        f"        for line in reply.iter_lines():\n"
        f"            print(line)"
    )
