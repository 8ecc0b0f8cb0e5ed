"""`holdfast serve`: what it says, what it refuses before the port opens, how it stops; and the help."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.integration.cli.commands import (
    AGENTS,
    Server,
    Started,
    holdfast,
    server_file,
    serving,
    succeeded,
    until,
)

pytestmark = pytest.mark.slow


def test_the_first_start_makes_a_key_and_shows_it_once(tmp_path: Path) -> None:
    with serving(tmp_path, target=None, HOLDFAST_KEYS="") as server:
        keys = re.findall(r"^ +(hf_\S+)$", server.stdout, re.MULTILINE)
        server.stop()
    with serving(tmp_path, target=None, HOLDFAST_KEYS="") as again, again.client(keys[0]) as client:
        status = client.get("/runs").status_code

    assert len(keys) == 1
    assert status == 200
    assert "hf_" not in again.stdout
    assert keys[0] not in server.stderr


def test_the_examples_that_are_shown_with_a_key_stream_an_answer(tmp_path: Path) -> None:
    with serving(tmp_path, target=None, HOLDFAST_KEYS="") as server:
        curl = next(line.strip() for line in server.stdout.splitlines() if line.strip().startswith("curl"))
        python = server.stdout[server.stdout.index("import httpx") :]
        program = "\n".join(line.removeprefix("    ") for line in python.splitlines())
        commands = [["bash", "-c", curl], [sys.executable, "-c", program]]
        done = [subprocess.run(command, capture_output=True, text=True, timeout=60) for command in commands]

    assert [item.returncode for item in done] == [0, 0], [item.stderr for item in done]
    assert all("event: text_delta" in item.stdout for item in done)


def test_it_says_where_it_listens_what_it_serves_and_where_it_keeps_it(server: Server) -> None:
    assert "agents  greeter (default), asker, walker, stubborn" in server.stdout
    assert f"data    {server.folder / '.holdfast'}" in server.stdout
    assert "offline" not in server.stdout


def test_the_assistant_says_that_its_model_is_an_aid_for_development(tmp_path: Path) -> None:
    with serving(tmp_path, "--agent", "assistant") as server:
        assert "assistant (default)" in server.stdout
        assert server.stdout.count("offline model") == 1


def test_the_server_file_is_for_its_owner_alone_and_gone_after_the_stop(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        file = tmp_path / ".holdfast" / "server.json"
        assert file.stat().st_mode & 0o777 == 0o600
        assert json.loads(file.read_bytes())["pid"] == server.popen.pid

        assert server.stop() == 0

    assert not file.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.py"], "there is no file nothing.py"),
        (["broken.py"], "ZeroDivisionError: division by zero ({folder}/broken.py, line 2)"),
        ([str(AGENTS), "--agent", "nobody"], "there is no agent 'nobody'"),
        (["--host", "0.0.0.0", "--no-auth"], "loopback"),
    ],
)
def test_what_cannot_be_served_is_refused_before_anything_starts(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "broken.py").write_text("x = 1\ny = x / 0\n")

    done = holdfast("serve", *arguments, "--port", "0", folder=tmp_path)

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("holdfast: ")
    assert said.format(folder=tmp_path) in done.stderr
    assert not (tmp_path / ".holdfast").exists()


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        done = holdfast("serve", "--port", port, folder=tmp_path)

    assert done.returncode == 1
    assert f"holdfast: cannot listen on 127.0.0.1:{port}" in done.stderr


def test_a_store_in_use_is_told_with_who_has_it(server: Server) -> None:
    done = holdfast("serve", "--port", "0", folder=server.folder)

    assert done.returncode == 1
    assert f"(pid {server.popen.pid})" in done.stderr
    assert server_file(server.folder) is not None


def test_settings_come_from_variables_and_flags_win(tmp_path: Path) -> None:
    data = tmp_path / "elsewhere"
    (tmp_path / ".env").write_text(f"HOLDFAST_DATA={data}\nHOLDFAST_KEYS=hidden\n")
    variables = {"HOLDFAST_KEYS": "variable-key", "ENGINE_API_KEY": "engine-key"}
    with serving(tmp_path, "--key", "flag-key", **variables) as server:
        statuses = [
            httpx.get(f"{server.url}/runs", headers={"X-API-Key": key}).status_code
            for key in ("flag-key", "engine-key", "variable-key")
        ]

    assert statuses == [200, 200, 401]
    assert (data / "holdfast.db").exists()


def test_a_flag_that_is_neither_true_nor_false_refuses_the_start(tmp_path: Path) -> None:
    done = holdfast("serve", "--port", "0", folder=tmp_path, REACTIVE_COMPACT_ENABLED="yes")

    assert done.returncode == 1
    assert "REACTIVE_COMPACT_ENABLED is true or false" in done.stderr
    assert not (tmp_path / ".holdfast").exists()


def test_a_first_interrupt_stops_cleanly_and_a_second_one_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, HOLDFAST_DRAIN_SECONDS="600") as server:
        server.working(server.start_run("stubborn", gate=str(tmp_path / "never")))
        server.signal(signal.SIGINT)
        server.until(lambda: "stopping" in server.stderr)
        server.signal(signal.SIGINT)

        assert server.wait(60) == 130


def test_a_child_ends_when_its_parent_is_gone(tmp_path: Path) -> None:
    """A server that `dev` or `demo` started does not outlive it, however that ends."""
    with Developing(tmp_path) as developing:
        pid = developing.ready()["pid"]
        developing.kill()

        until(lambda: not is_running(pid))


def test_the_module_is_the_command(tmp_path: Path) -> None:
    assert succeeded("version", folder=tmp_path).startswith("holdfast 0.")


# dev


class Developing(Started):
    """`holdfast dev` on a free port."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        (folder / "agent.py").write_text(source("one"))
        super().__init__("dev", "agent.py", "--port", "0", *arguments, folder=folder)

    def __enter__(self) -> Developing:
        return self

    def __exit__(self, *_: object) -> None:
        self.signal(signal.SIGTERM)
        try:
            self.wait()
        finally:
            self.kill()

    def ready(self, *, after: int | None = None) -> dict[str, object]:
        """What the server says of itself; with `after`, another one than that of this pid."""

        def found() -> dict[str, object] | None:
            told = server_file(self.folder)
            return told if told is not None and told["pid"] != after else None

        told: dict[str, object] = self.until(found)
        return told

    def answer(self, url: object) -> str:
        reply = httpx.post(f"{url}/invoke", json={}, headers={"X-API-Key": "dev-engine-key"}, timeout=20)
        assert reply.status_code == 200, reply.text
        said: str = reply.json()["output"]["said"]
        return said


def source(word: str) -> str:
    return f"from holdfast import agent\n\n@agent\ndef echo(input):\n    return {{'said': {word!r}}}\n"


def is_running(pid: object) -> bool:
    import psutil

    assert isinstance(pid, int)
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_development_starts_anew_when_a_file_changes(tmp_path: Path) -> None:
    with Developing(tmp_path) as developing:
        first = developing.ready()
        before = developing.answer(first["url"])
        (tmp_path / "agent.py").write_text(source("number two"))
        second = developing.ready(after=int(str(first["pid"])))

        assert before == "one"
        assert developing.answer(second["url"]) == "number two"
        assert "agent.py changed; starting anew." in developing.stderr


def test_development_waits_for_a_change_when_the_file_is_broken(tmp_path: Path) -> None:
    with Developing(tmp_path) as developing:
        first = developing.ready()
        (tmp_path / "agent.py").write_text("def broken(:\n")
        developing.until(lambda: "starts again when a file changes" in developing.stderr)
        (tmp_path / "agent.py").write_text(source("mended"))
        second = developing.ready(after=int(str(first["pid"])))

        assert "invalid syntax" in developing.stderr
        assert developing.answer(second["url"]) == "mended"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_development_ends_with_its_server(tmp_path: Path, number: int) -> None:
    with Developing(tmp_path) as developing:
        pid = developing.ready()["pid"]
        developing.signal(number)

        assert developing.wait() == 0
        assert not is_running(pid)


def test_keys_are_checked_by_default(server: Server) -> None:
    assert httpx.get(f"{server.url}/runs").status_code == 401
