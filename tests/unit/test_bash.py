"""The tool `bash`: what it gives, where its limits are, and what is left when it ended."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.agents.assistant import AssistantProgram
from holdfast.agents.assistant.permission import wanted
from holdfast.agents.tools import Ground, Tool, Tools
from holdfast.agents.tools.bash import BashInput, bash_tool
from holdfast.agents.tools.cages import kinds
from holdfast.agents.tools.gate import Gate
from holdfast.agents.tools.policy import Allowed, Ask
from holdfast.agents.tools.processes import BothEnds, Limits, run
from holdfast.agents.tools.sandbox import Sandbox
from holdfast.testing.model import Calls, Response, Says, ScriptedModel
from tests.support.one_run import OneRun
from tests.support.sandboxes import SANDBOX, nap, processes_with, require_sandbox, workspace

MISSING = Sandbox(program="no-such-bubblewrap")
OPEN = Sandbox(program="no-such-bubblewrap", is_unsandboxed=True)


ONE = OneRun(AssistantProgram(), "Hello?").run


class Shell:
    """A turn of the assistant whose model calls `bash`."""

    def __init__(self, ground: Ground, *script: Response, sandbox: Sandbox = SANDBOX) -> None:
        self.model = ScriptedModel(*script, [Says("Done.")])
        program = AssistantProgram(self.model, tools=Tools(bash_tool(sandbox)))
        program.use_gate(Gate(ground=ground))
        self.run = OneRun(program, {"message": "Hello?"}, thread_id="t")

    @property
    def results(self) -> list[dict[str, Any]]:
        return [event.fields for event in self.run.seen("tool_result")]


def call(command: str, call_id: str = "c1", **more: Any) -> Calls:
    return Calls("bash", {"command": command, **more}, call_id)


async def result_of(path: Path, command: str, *, sandbox: Sandbox = SANDBOX, **more: Any) -> dict[str, Any]:
    shell = Shell(Ground((path,)), [call(command, **more)], sandbox=sandbox)
    await shell.run.execute()
    return shell.results[0]


async def output_of(path: Path, command: str, *, ground: Ground | None = None, **more: Any) -> dict[str, Any]:
    shell = Shell(ground or Ground((path,)), [call(command, **more)])
    await shell.run.execute()
    output: dict[str, Any] = shell.results[0]["output"]
    return output


async def until_gone(text: str) -> None:
    async with asyncio.timeout(20):
        while processes_with(text):  # noqa: ASYNC110 - the system tells nobody of a process that is not its child
            await asyncio.sleep(0.02)


# Where there is no sandbox


async def test_without_bubblewrap_the_shell_is_refused_with_the_reason(tmp_path: Path) -> None:
    result = await result_of(workspace(tmp_path), f"touch {tmp_path}/harm", sandbox=MISSING)

    assert result["error"] == "sandbox_unavailable"
    assert "no-such-bubblewrap (bubblewrap) is not installed" in result["message"]
    assert not (tmp_path / "harm").exists()
    assert MISSING.health == "error"


async def test_a_bubblewrap_that_does_not_work_is_none(tmp_path: Path) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'no namespaces for you' >&2\nexit 1\n")
    broken.chmod(0o755)

    result = await result_of(workspace(tmp_path), "true", sandbox=Sandbox(program=str(broken)))

    assert result["error"] == "sandbox_unavailable"
    assert "no namespaces for you" in result["message"]


async def test_a_run_without_a_workspace_has_no_shell() -> None:
    shell = Shell(Ground(), [call("true")])
    await shell.run.execute()

    assert shell.results[0]["error"] == "not_configured"


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
async def test_an_unsandboxed_shell_has_none_of_the_servers_variables_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_KEY", "canary-of-the-server")
    path = workspace(tmp_path)

    result = await result_of(path, "setsid sleep 7361.25 & pwd; env", sandbox=OPEN)

    assert result["output"]["exit_code"] == 0
    assert result["output"]["stdout"].startswith(str(path))
    assert "canary" not in result["output"]["stdout"]
    assert OPEN.health == "off"
    await until_gone("7361.25")


# What it gives


async def test_a_command_gives_its_status_and_both_streams(tmp_path: Path) -> None:
    require_sandbox()
    path = workspace(tmp_path)

    result = await result_of(path, "echo out; echo err >&2; echo kept > file; exit 3")

    assert result["output"] == {"exit_code": 3, "stdout": "out\n", "stderr": "err\n"}
    assert result["truncated"] is False
    assert (path / "file").read_text() == "kept\n"


async def test_of_much_output_both_ends_are_kept(tmp_path: Path) -> None:
    require_sandbox()

    result = await result_of(workspace(tmp_path), "echo first; head -c 9000000 /dev/zero | tr '\\0' x; echo last")

    stdout = result["output"]["stdout"]
    assert result["truncated"] is True
    assert (stdout[:6], stdout[-5:]) == ("first\n", "last\n")
    assert 64 * 1024 < len(stdout) < 64 * 1024 + 100
    assert "[… 8,934,475 bytes left out …]" in stdout


async def test_what_takes_too_long_is_ended_and_its_output_told(tmp_path: Path) -> None:
    require_sandbox()

    result = await result_of(workspace(tmp_path), "echo begun; sleep 7362.25", timeout_seconds=0.5)

    assert result["error"] == "tool_timeout"
    assert "0.5 s" in result["message"]
    assert "begun" in result["message"]
    await until_gone("7362.25")


@pytest.mark.parametrize("arguments", [{}, {"command": ""}, {"command": "ls", "timeout_seconds": 601}])
async def test_what_does_not_fit_is_not_run(tmp_path: Path, arguments: dict[str, Any]) -> None:
    shell = Shell(Ground((workspace(tmp_path),)), [Calls("bash", arguments)])
    await shell.run.execute()

    assert shell.results[0]["error"] == "invalid_input"


# Walls


async def test_a_shell_sees_programs_and_its_roots_and_nothing_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_sandbox()
    monkeypatch.setenv("MY_API_KEY", "canary-of-the-server")
    (tmp_path / "foreign").write_text("canary of somebody else")
    path = workspace(tmp_path)
    (path / "link").symlink_to(tmp_path / "foreign")

    output = await output_of(
        path,
        f"cat {tmp_path}/foreign link; ls -a {tmp_path}; ls /root /home /var; cat /proc/*/environ; env; cat /etc/shadow; ps aux",
    )

    assert "canary" not in output["stdout"]
    assert f"{path.name}\n" in output["stdout"]
    assert "foreign" not in output["stdout"].replace(f"cat {tmp_path}/foreign", "")
    assert "No such file or directory" in output["stderr"]


async def test_only_the_roots_can_be_written(tmp_path: Path) -> None:
    require_sandbox()
    path, root = workspace(tmp_path), workspace(tmp_path, "root")
    hidden, kept = root / "data", root / "catalog"
    for directory in (kept, hidden):
        directory.mkdir()
        (directory / "file").write_text("canary")
    ground = Ground((path, root), hidden=(hidden,), kept=(kept,))

    output = await output_of(
        path,
        f"for d in / /usr /etc /dev {kept}; do touch $d/x; done; cat {hidden}/file {kept}/file; "
        f"rm -f {kept}/file; echo y > {hidden}/file; touch {root}/x {path}/x; cp /bin/true /tmp/t && /tmp/t && echo ran",
        ground=ground,
    )

    assert output["stdout"] == "canaryran\n"
    assert output["stderr"].count("Read-only file system") == 6
    assert (root / "x").exists()
    assert (path / "x").exists()
    assert [(kept / "file").read_text(), (hidden / "file").read_text()] == ["canary", "canary"]


async def test_a_workspace_in_what_is_hidden_is_the_only_thing_seen_of_it(tmp_path: Path) -> None:
    require_sandbox()
    data = workspace(tmp_path, "data")
    (data / "store").write_text("canary")
    path = data / "workspaces" / "one"
    path.mkdir(parents=True)

    output = await output_of(
        path,
        f"ls {data} {data}/workspaces; echo kept > file",
        ground=Ground((path, data.parent), hidden=(data,)),
    )

    assert output["stdout"].split() == [f"{data}:", "workspaces", f"{data}/workspaces:", "one"]
    assert (path / "file").read_text() == "kept\n"


async def test_a_shell_has_no_network(tmp_path: Path) -> None:
    require_sandbox()
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async with server:
        output = await output_of(
            workspace(tmp_path), f"echo > /dev/tcp/127.0.0.1/{port} && echo reached; ls /sys/class/net"
        )

    assert "reached" not in output["stdout"]
    assert "Connection refused" in output["stderr"]


# What is left


async def test_background_processes_end_with_their_command(tmp_path: Path) -> None:
    require_sandbox()

    output = await output_of(
        workspace(tmp_path),
        "setsid sleep {0} & (sleep {0} &) ; nohup sleep {0} >/dev/null & echo begun".format(nap(7363)),
    )

    assert output["stdout"] == "begun\n"
    await until_gone(nap(7363))


async def test_a_cancelled_call_leaves_no_process(tmp_path: Path) -> None:
    require_sandbox()
    shell = Shell(Ground((workspace(tmp_path),)), [call(f"setsid sleep {nap(7364)} & sleep {nap(7364)}")])
    turn = asyncio.create_task(shell.run.execute())
    async with asyncio.timeout(20):
        while not processes_with(f"sleep\x00{nap(7364)}"):  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.02)

    turn.cancel()
    await asyncio.gather(turn, return_exceptions=True)

    await until_gone(nap(7364))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell which processes there are")
async def test_too_many_processes_and_too_much_memory_are_noticed_without_control_groups(tmp_path: Path) -> None:
    many = ["bash", "-c", f"for i in 1 2 3 4 5; do sleep {nap(7365)} & done; wait"]
    big = ["python3", "-c", f"x = b'x' * (64 << 20); import time; time.sleep({nap(7365)})"]
    common: dict[str, Any] = {"cwd": tmp_path, "environment": {"PATH": os.environ["PATH"]}}

    crowded = await run(many, limits=Limits(60, processes=3), **common)
    heavy = await run(big, limits=Limits(60, memory_bytes=32 << 20), **common)

    assert [crowded.ended, heavy.ended] == ["processes", "memory"]
    assert [crowded.exit_code, heavy.exit_code] == [128 + signal.SIGKILL] * 2
    await until_gone(nap(7365))


async def test_a_disk_that_fills_is_noticed_also_when_its_directory_is_gone(tmp_path: Path) -> None:
    ground = tmp_path / "ground"
    ground.mkdir()
    room = os.statvfs(tmp_path)
    limits = Limits(60, free_bytes=2 * room.f_bavail * room.f_frsize)  # so that less is free from the start
    filling = (
        "import os, time; os.rmdir('../ground')\n"
        "with open('../big', 'w') as big: os.posix_fallocate(big.fileno(), 0, 200 << 20)\n"
        f"time.sleep({nap(7367)})"
    )

    filled = await run(
        [sys.executable, "-c", filling], cwd=ground, environment={"PATH": os.environ["PATH"]}, limits=limits
    )

    assert filled.ended == "disk"
    await until_gone(nap(7367))


async def test_a_fork_bomb_is_held_and_ended(tmp_path: Path) -> None:
    require_sandbox()
    if os.geteuid() == 0 and not kinds():
        pytest.skip("root is held by control groups alone, and there are none here")
    began = time.monotonic()

    result = await result_of(workspace(tmp_path), f"f() {{ f | f & }}; f; sleep {nap(7366)}", timeout_seconds=1)

    assert result["error"] in ("tool_timeout", "limit_exceeded")
    assert time.monotonic() - began < 60
    await until_gone(nap(7366))


# Rules


@pytest.mark.parametrize(
    ("command", "rule"),
    [
        ("rm -rf /srv/old", "destructive_shell"),
        ("rm -rf $x", "unparsed_shell"),
        ("rm -rf build", None),
    ],
)
async def test_what_destroys_is_asked_about_and_never_remembered(
    tmp_path: Path, command: str, rule: str | None
) -> None:
    found = await Gate().decide(bash_tool(MISSING), BashInput(command), ONE, Ground((workspace(tmp_path),)))

    if rule is None:
        assert isinstance(found, Allowed)
    else:
        assert isinstance(found, Ask)
        assert (found.rule, found.may_remember) == (rule, False)


def test_the_question_shows_the_command_as_it_is() -> None:
    want = wanted(bash_tool(MISSING), {"command": 'rm -rf "/srv/old"'})

    assert want.question(None) == 'Allow bash to run: rm -rf "/srv/old"'


def test_no_approval_widens_the_sandbox(tmp_path: Path) -> None:
    """The command line of bubblewrap depends on the ground alone."""
    tool: Tool[BashInput] = bash_tool(SANDBOX)

    assert tool.at_most_once
    assert "passed" not in msgspec.structs.asdict(Ground())
    shelter = msgspec.structs.replace(SANDBOX.shelter(), health="ok")
    command = SANDBOX.command(shelter, Ground((tmp_path,)), ["true"], {})
    assert "--unshare-net" in command
    assert [command[at + 1] for at, word in enumerate(command) if word == "--bind"] == [str(tmp_path)]


# Parts


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_both_ends_are_those_of_the_whole(pieces: list[bytes]) -> None:
    ends, whole = BothEnds(20), b"".join(pieces)

    for piece in pieces:
        ends.add(piece)

    assert ends.is_cut == (len(whole) > 20)
    if not ends.is_cut:
        assert ends.text == whole.decode(errors="replace")
    else:
        assert ends.text.startswith(whole[:10].decode(errors="replace"))
        assert ends.text.endswith(whole[-10:].decode(errors="replace"))
        assert f"{len(whole) - 20:,} bytes left out" in ends.text
