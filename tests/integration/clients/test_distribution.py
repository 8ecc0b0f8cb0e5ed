"""The clients stand alone: what they load, and the slim distribution that holds nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tomllib
import venv
from importlib.metadata import files, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.server import KEY, ServerProcess

ROOT = Path(__file__).parents[3]
SLIM = ROOT / "clients/python"

# Everything that is public, loaded and used; and how long the first import took.
LOOK = """
import sys, time
before = time.process_time()
import holdfast.client
seconds = time.process_time() - before
for name in holdfast.client.__all__:
    getattr(holdfast.client, name)
import json, holdfast.client.engine, holdfast.client.runtime, holdfast.client.skills, holdfast.client.workflow
output = None
if len(sys.argv) > 1:
    with holdfast.client.RunsClient(*sys.argv[1:]) as client:
        output = client.invoke({"n": 1}, agent="count").to_dict()["output"]
print(json.dumps({"seconds": seconds, "modules": sorted(sys.modules), "output": output}))
"""


def looked(python: str, *arguments: str) -> dict[str, object]:
    done = subprocess.run([python, "-I", "-c", LOOK, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def strangers(found: dict[str, object]) -> list[str]:
    """What was loaded of the server, and of libraries that only it needs."""
    modules = found["modules"]
    assert isinstance(modules, list)
    ours = [name for name in modules if name.startswith("holdfast.") and not name.startswith("holdfast.client")]
    parts = {name.partition(".")[0] for name in modules}
    return ours + sorted(
        parts & {"apsw", "asyncpg", "litestar", "uvicorn", "pydantic", "pydantic_ai", "typer", "httpx2"}
    )


def test_the_clients_load_neither_server_nor_drivers_and_no_http_library_before_it_is_needed() -> None:
    found = looked(sys.executable)

    assert strangers(found) == []
    seconds = found["seconds"]
    assert isinstance(seconds, float)
    assert seconds < 0.1


def test_the_slim_distribution_needs_what_the_clients_import_and_no_other_version_of_it() -> None:
    slim = tomllib.loads((SLIM / "pyproject.toml").read_text())["project"]["dependencies"]
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    imported = {
        line.split()[1].partition(".")[0]
        for file in (ROOT / "src/holdfast/client").rglob("*.py")
        for line in file.read_text().splitlines()
        if line.strip().startswith(("import ", "from "))
    }
    # `referencing` comes with jsonschema, which is built on it.
    foreign = imported - set(sys.stdlib_module_names) - {"holdfast", "referencing"}

    assert set(slim) <= set(whole)
    assert {Requirement(text).name for text in slim} == foreign


@pytest.mark.faults
def test_the_slim_distribution_works_in_an_environment_that_holds_nothing_else(
    server: ServerProcess, tmp_path: Path
) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(build, cwd=SLIM, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    environment = tmp_path / "env"
    venv.create(environment, with_pip=True)
    python = str(environment / "bin/python")
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", str(wheel)], check=True)
    # Its dependencies from here, so that no registry is asked: those that it names, and what these need in turn.
    packages = next((environment / "lib").glob("python*/site-packages"))
    here = Path(sysconfig.get_path("purelib"))
    for name in _needed(tomllib.loads((SLIM / "pyproject.toml").read_text())["project"]["dependencies"]):
        for top in {file.parts[0] for file in files(name) or ()} - {"..", "__pycache__"}:
            if not (packages / top).exists():  # some share a part
                (packages / top).symlink_to(here / top)

    found = looked(python, server.url, KEY)

    assert [name for name in strangers(found) if name != "httpx2"] == []
    assert found["output"] == {"n": 1}
    assert not (packages / "holdfast/api").exists()


def _needed(named: list[str]) -> set[str]:
    names: set[str] = set()
    waiting = [Requirement(text) for text in named]
    while waiting:
        requirement = waiting.pop()
        if requirement.name in names or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        names.add(requirement.name)
        waiting += [Requirement(text) for text in requires(requirement.name) or ()]
    return names
