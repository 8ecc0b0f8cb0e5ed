"""The tree of commands: each explains itself, and help is quick because it loads next to nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from holdfast.cli.app import app

COMMANDS = (
    "",
    "serve",
    "worker",
    "dev",
    "demo",
    "verify",
    "version",
    "runs",
    *(f"runs {name}" for name in ("list", "show", "follow", "cancel", "answer", "export", "verify")),
    "skills",
    *(f"skills {name}" for name in ("list", "validate", "new", "run", "graph")),
    "keys",
    *(f"keys {name}" for name in ("add", "list", "revoke")),
    "store",
    *(f"store {name}" for name in ("status", "migrate", "copy", "backup", "restore")),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    done = CliRunner().invoke(app, [*command.split(), "--help"])

    assert done.exit_code == 0
    assert "Usage:" in done.output


@pytest.mark.parametrize("command", ["serv", "runs lost", "serve --port many", "keys add"])
def test_wrong_usage_is_told_and_has_a_status_of_its_own(command: str) -> None:
    assert CliRunner().invoke(app, command.split()).exit_code == 2


@pytest.mark.slow
def test_help_loads_neither_a_server_nor_a_client() -> None:
    program = (
        "import sys\nfrom holdfast.cli.app import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('litestar', 'uvicorn', 'httpx2', 'apsw', 'pydantic_ai') if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.stdout.splitlines()[-1] == "[]", done.stderr
