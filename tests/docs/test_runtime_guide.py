"""The guide from a function to a served agent, followed as it stands: each command, and what it says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

import msgspec
import pytest

GUIDE: Final = (Path(__file__).parents[2] / "docs/guides/runtime.md").read_text()


class Command(msgspec.Struct, frozen=True):
    """What a reader types, and what the guide says that it prints; `…` stands for anything."""

    typed: str
    printed: str


def commands() -> list[Command]:
    found = []
    for block in re.findall(r"```console\n(.*?)```", GUIDE, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            typed, _, printed = part.partition("\n")
            found.append(Command(typed, printed.strip()))
    return found


class Reader:
    """Somebody at a terminal: a folder, variables, and a server once it is started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOLDFAST_DATA": str(folder / "data"),
            "COLUMNS": "200",
        }
        self.server: subprocess.Popen[str] | None = None
        self.url = ""

    def type(self, command: str) -> str:
        """What the command prints; `cd`, `export` and the server keep their effect."""
        if command.startswith("cd "):
            self.folder /= command[3:]
            return ""
        if command.startswith("export "):
            name, _, value = command[7:].partition("=")
            self.environment[name] = value
            return ""
        if command.startswith("holdfast serve"):
            return self._serve(command)
        # The guide's port may be taken here.
        typed = command.replace("localhost:8080", self.url)
        done = subprocess.run(
            typed, shell=True, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def _serve(self, command: str) -> str:
        self.server = subprocess.Popen(
            [*command.split(), "--port", "0"],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.server.stdout is not None
        line = _line_with(self.server.stdout, "listens on ")
        self.url = line.partition("http://")[2].strip()
        return line.replace(self.url, "127.0.0.1:8080")


def _line_with(stream: IO[str], words: str) -> str:
    for line in stream:
        if words in line:
            return line
    raise AssertionError(f"the server ended without saying {words!r}")


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    made = Reader(tmp_path)
    yield made
    if made.server is not None:
        made.server.send_signal(signal.SIGKILL)
        made.server.communicate()


@pytest.mark.slow
def test_each_command_prints_what_the_guide_says(reader: Reader) -> None:
    for command in commands():
        printed = reader.type(command.typed)

        said = "(?s:.*)".join(map(re.escape, command.printed.split("…")))
        assert re.match(said, printed.strip()), f"$ {command.typed}\n{printed}"


def test_the_guide_shows_the_agent_that_init_writes(reader: Reader) -> None:
    reader.type("holdfast init tutor")
    written = (reader.folder / "tutor/service.py").read_text()

    shown = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)[0]
    # The file explains more; what it does is the same.
    for line in (line.partition("  #")[0].strip() for line in shown.splitlines()):
        assert line in written
