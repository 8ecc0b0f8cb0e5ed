"""The real command line, in processes of its own. Servers say when they listen; processes are ended by their pids."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import httpx
import msgspec

from tests.support.forks import Forked, shared_nursery
from tests.support.server import NO_CERTIFICATES

AGENTS = Path(__file__).with_name("agents.py")
KEY = "test-key"
# What the developer's own shell has set must not decide about a test.
_FOREIGN = ("HOLDFAST_", "ENGINE_", "LLM_")


def environment(**more: str) -> dict[str, str]:
    """Ours, without settings; as wide as no terminal is."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return {**inherited, "NO_COLOR": "1", **more}


def holdfast(
    *arguments: object, folder: Path, stdin: str = "", seconds: float = 60, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in this folder."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin.encode())
        given.seek(0)
        process = _start(arguments, folder, given, out, err, more)
        try:
            status = process.wait(seconds)
        finally:
            process.kill()
        texts = [_read(file) for file in (out, err)]
    return subprocess.CompletedProcess(["holdfast", *map(str, arguments)], status, *texts)


def _start(
    arguments: Sequence[object], folder: Path, given: IO[bytes], out: IO[bytes], err: IO[bytes], more: Mapping[str, str]
) -> Forked:
    return shared_nursery().start(
        "holdfast.cli",
        [str(argument) for argument in arguments],
        environment=environment(**more),
        stdin=given.fileno(),
        stdout=out.fileno(),
        stderr=err.fileno(),
        folder=folder,
    )


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def succeeded(*arguments: object, folder: Path, **more: Any) -> str:
    """The standard output of a command that must succeed."""
    done = holdfast(*arguments, folder=folder, **more)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


class Started:
    """A command that goes on, such as `serve`; its output is in files."""

    def __init__(self, *arguments: object, folder: Path, **more: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        with _fresh(folder, "out") as out, _fresh(folder, "err") as err:
            self._paths = Path(out.name), Path(err.name)
            with Path(os.devnull).open("rb") as nothing:
                self.popen = _start(arguments, folder, nothing, out, err, more)

    @property
    def stdout(self) -> str:
        return self._paths[0].read_text()

    @property
    def stderr(self) -> str:
        return self._paths[1].read_text()

    def until(self, condition: Callable[[], Any], seconds: float = 30) -> Any:
        """What `condition` gives once it is true, as long as the process lives."""
        return until(condition, lambda: f"{self.popen.args!r}\n{self.stdout}\n{self.stderr}", seconds)

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def wait(self, seconds: float = 30) -> int:
        return self.popen.wait(seconds)

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()


class Server(Started):
    """`holdfast serve` on a free port, listening. Its data are in `.holdfast`, where commands look by default."""

    def __init__(self, folder: Path, *arguments: object, target: object = AGENTS, **more: str) -> None:
        keys = {"HOLDFAST_KEYS": KEY, **more}
        named = () if target is None else (target,)
        super().__init__("serve", *named, "--port", "0", *arguments, folder=folder, **keys)
        try:
            found = self.until(lambda: re.search(r"listens on (http://\S+)", self.stdout) or self.popen.poll())
        except BaseException:
            self.kill()
            raise
        assert isinstance(found, re.Match), self.stderr
        self.url: str = found[1]

    def client(self, key: str = KEY) -> httpx.Client:
        return httpx.Client(
            base_url=self.url, headers={"X-API-Key": key}, timeout=40, trust_env=False, verify=NO_CERTIFICATES
        )

    def start_run(self, agent: str, **input: Any) -> str:
        """The id of a new run."""
        with self.client() as client:
            reply = client.post("/runs", params={"agent": agent}, json=input)
        assert reply.status_code == 202, reply.text
        run_id: str = reply.json()["run_id"]
        return run_id

    def finished(self, run_id: str) -> dict[str, Any]:
        """The run, once it waits or is over."""
        with self.client() as client:
            run: dict[str, Any] = client.get(f"/runs/{run_id}", params={"wait": "20"}).json()
        return run

    def working(self, run_id: str) -> None:
        """Wait until the run has said something."""
        with self.client() as client, client.stream("GET", f"/runs/{run_id}/events") as reply:
            assert any("event: token" in line for line in reply.iter_lines())

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()


@contextlib.contextmanager
def serving(folder: Path, *arguments: object, **more: Any) -> Iterator[Server]:
    """A server that is gone when the test is over."""
    server = Server(folder, *arguments, **more)
    try:
        yield server
    finally:
        server.kill()


def until(condition: Callable[[], Any], told: Callable[[], str] = str, seconds: float = 30) -> Any:
    """What `condition` gives once it is true: for what other processes do, and nobody tells us."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"it did not come true in {seconds:g} s: {told()}"
        time.sleep(0.01)
    return found


def server_file(folder: Path) -> dict[str, Any] | None:
    """What the server in this folder says of itself, if there is one."""
    try:
        found: dict[str, Any] = msgspec.json.decode((folder / ".holdfast" / "server.json").read_bytes())
    except FileNotFoundError:
        return None
    return found


def _fresh(folder: Path, kind: str) -> IO[bytes]:
    number = sum(1 for path in folder.glob(f"*.{kind}"))
    return (folder / f"{number}.{kind}").open("xb")
