"""
The tool `bash`: a command in the sandbox, with limits.

It must not run twice: after a crash in the middle a person is asked. Its processes end with it, and it ends with its turn.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final

import msgspec

from holdfast.agents.tools import sandbox as walls
from holdfast.agents.tools.cages import caged
from holdfast.agents.tools.processes import Finished, Limits, run
from holdfast.agents.tools.sandbox import Sandbox
from holdfast.agents.tools.shell_rules import classify
from holdfast.agents.tools.shell_syntax import CHARACTERS_MAX
from holdfast.agents.tools.tool import Call, Cut, Ground, Reason, Tool, ToolError

SECONDS: Final = 120.0
SECONDS_MAX: Final = 600.0
# What the tool may take beyond the command: it ends itself, and tells what was written until then.
MARGIN_SECONDS: Final = 30.0

# The server comes first.
_NICE: Final = ("nice", "-n", "10")

# Of what was written before a limit ended the command.
TOLD_CHARACTERS_MAX: Final = 4_000

# Set in the shell, for they hold in the sandbox's own namespace: data in KiB for each process, processes, no core files.
# Where less is allowed already, that stays.
_LIMITED: Final = (
    "ulimit -c 0; ulimit -d {data} 2>/dev/null; ulimit -u {processes} 2>/dev/null; "
    'exec bash --noprofile --norc -c "$1" bash'
)
_UNSANDBOXED: Final = 'ulimit -c 0; ulimit -d {data} 2>/dev/null; exec bash --noprofile --norc -c "$1" bash'

_WHY: Final = {
    "memory": "its processes took more than {memory} MiB of memory together",
    "processes": "it had more than {processes} processes at once",
    "disk": "it left less than {free} MiB free on the disk of the workspace",
}


class BashInput(msgspec.Struct, forbid_unknown_fields=True):
    command: Annotated[str, msgspec.Meta(description="What bash is to run.", min_length=1, max_length=CHARACTERS_MAX)]
    timeout_seconds: Annotated[
        float, msgspec.Meta(description="After so many seconds it is ended.", gt=0, le=SECONDS_MAX)
    ] = SECONDS


def bash_tool(sandbox: Sandbox) -> Tool[BashInput]:
    """Runs commands in a task's workspace; `sandbox_unavailable` where nothing would hold them in it."""
    return Tool(
        name="bash",
        description=(
            "Runs a command with bash in the workspace of this conversation, without network. Files in the workspace "
            "stay; processes end with the command."
        ),
        input=BashInput,
        function=_Bash(sandbox),
        says=lambda wanted: wanted.command,
        guard=guard,
        uses_files=True,
        at_most_once=True,
        timeout_seconds=SECONDS_MAX + MARGIN_SECONDS,
    )


def guard(input: BashInput, ground: Ground) -> Reason | None:
    """Why a person is asked about a command; it looks at the disk."""
    rule = classify(input.command, [str(root) for root in ground.roots])
    return None if rule is None else Reason(rule)


class _Bash:
    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def __call__(self, call: Call, input: BashInput) -> Any:
        if "\0" in input.command:
            raise ToolError("invalid_input", "a command has no zero bytes")
        if not call.ground.roots:
            raise ToolError("not_configured", "there is no workspace: a shell needs a server that keeps one")
        shelter = await asyncio.to_thread(self._sandbox.shelter)
        if shelter.health == "error":
            raise ToolError("sandbox_unavailable", f"{shelter.reason}; without it no shell is run")
        limits = Limits(seconds=input.timeout_seconds)
        finished = await self._run(call.ground, shelter, input.command, limits)
        if finished.ended == "exit":
            value = {"exit_code": finished.exit_code, "stdout": finished.stdout, "stderr": finished.stderr}
            return Cut(value, truncated=finished.truncated)
        raise _fault(finished, limits)

    async def _run(self, ground: Ground, shelter: walls.Shelter, command: str, limits: Limits) -> Finished:
        workspace = ground.roots[0]
        template = _UNSANDBOXED if shelter.health == "off" else _LIMITED
        text = template.format(data=limits.memory_bytes // 1024, processes=limits.processes)
        inner = ["bash", "--noprofile", "--norc", "-c", text, "bash", command]
        environment = walls.environment(workspace)
        mark = None
        if shelter.health == "off":
            mark = f"HOLDFAST_CALL={secrets.token_hex(16)}"
            environment["HOLDFAST_CALL"] = mark.partition("=")[2]
        limited = {"memory_bytes": limits.memory_bytes, "processes": limits.processes}
        with caged(**limited) as cage, _filled(walls.people(workspace)) as data:
            outer = [*_NICE, *self._sandbox.command(shelter, ground, inner, data)]
            if cage is not None:
                outer = cage.command(outer)
                limits = msgspec.structs.replace(limits, is_held=True)
            try:
                return await run(
                    outer,
                    cwd=workspace,
                    environment=environment,
                    limits=limits,
                    descriptors=list(data.values()),
                    mark=mark,
                )
            except OSError as exc:
                raise ToolError("tool_failed", f"bash cannot be started: {exc}") from exc


def _fault(finished: Finished, limits: Limits) -> ToolError:
    written = finished.stdout + finished.stderr
    told = f"; it had written: {written[-TOLD_CHARACTERS_MAX:]}" if written else ""
    if finished.ended == "timeout":
        return ToolError("tool_timeout", f"it took more than {limits.seconds:g} s and was ended{told}")
    why = _WHY[finished.ended].format(
        memory=limits.memory_bytes // 1024**2, processes=limits.processes, free=limits.free_bytes // 1024**2
    )
    return ToolError("limit_exceeded", f"{why} and was ended{told}")


@contextmanager
def _filled(files: dict[str, str]) -> Iterator[dict[str, int]]:
    """Open files with these texts, by the same names."""
    opened: dict[str, int] = {}
    try:
        for name, text in files.items():
            reading, writing = os.pipe()
            opened[name] = reading
            # A line each: it fits into the pipe.
            os.write(writing, text.encode())
            os.close(writing)
        yield opened
    finally:
        for descriptor in opened.values():
            os.close(descriptor)
