"""
Dockfiles and the files of variables beside them, read from disk; several Dockfiles as one plan.

Variables come, highest first, from the environment of the process, `--env-file`, and from `.env.local`, `.env`, `env.yaml`
and `env.yml` in the folder of the Dockfile. A lower one never replaces a higher one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from holdfast.access import Access
from holdfast.dockfile.env_files import parse_env, parse_env_yaml
from holdfast.dockfile.meaning import AgentPlan, Plan, read_dockfile
from holdfast.dockfile.problems import InvalidDockfile, Problem, refusal


class _Parse(Protocol):
    """From the text of a file of variables to these; `file` is its name."""

    def __call__(self, text: str, file: str) -> dict[str, str]: ...


_ENV_FILES: Final[tuple[tuple[str, _Parse], ...]] = (
    (".env.local", parse_env),
    (".env", parse_env),
    ("env.yaml", parse_env_yaml),
    ("env.yml", parse_env_yaml),
)


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What all Dockfiles together ask for."""

    agents: tuple[tuple[AgentPlan, Path, str], ...]  # each with the folder of its code, and its file
    access: Access
    settings: dict[str, Any]
    environment: dict[str, str]  # variables to be set in the process; none of them is set there yet
    notices: tuple[str, ...]


def load_dockfiles(
    paths: Sequence[Path],
    environment: Mapping[str, str],
    *,
    env_file: Path | None = None,
    has_keys: bool = False,
) -> Loaded:
    """
    Read Dockfiles, each with the variables of its folder.

    Raises:
        InvalidDockfile: with every problem of every file.
    """
    problems: list[Problem] = []
    plans: list[tuple[Plan, Path, dict[str, str]]] = []
    for path in paths:
        try:
            more = _variables(path.resolve().parent, environment, env_file)
            text = _text_of(path, str(path))
            plan = read_dockfile(text, {**more, **environment}, str(path), has_keys=has_keys)
        except InvalidDockfile as exc:
            problems += exc.problems
        else:
            plans.append((plan, path, more | plan.environment))
    if not problems:
        problems = _disagreements([plan for plan, _, _ in plans]) + _conflicts(plans)
    if problems:
        raise refusal(problems)
    return _merged(plans)


def _variables(folder: Path, environment: Mapping[str, str], env_file: Path | None) -> dict[str, str]:
    """What the files add to the environment."""
    found: dict[str, str] = {}
    layers: list[tuple[Path, _Parse]] = []
    if env_file is not None:
        is_yaml = env_file.suffix in (".yaml", ".yml")
        layers.append((env_file, parse_env_yaml if is_yaml else parse_env))
    layers += [(folder / name, parse) for name, parse in _ENV_FILES if (folder / name).is_file()]
    for path, parse in layers:
        for name, text in parse(_text_of(path, str(path)), str(path)).items():
            if name not in environment:
                found.setdefault(name, text)
    return found


def read_env(path: Path) -> dict[str, str]:
    """
    The variables of a `.env` file.

    Raises:
        InvalidDockfile: a line is no assignment, or the file cannot be read.
    """
    return parse_env(_text_of(path, str(path)), str(path))


def _text_of(path: Path, name: str) -> str:
    try:
        return path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise refusal([Problem(file=name, path="", expected="a file", found="none of that name")]) from None
    except UnicodeDecodeError:
        raise refusal([Problem(file=name, path="", expected="UTF-8", found="other bytes")]) from None
    except OSError as exc:
        found = exc.strerror or str(exc)
        raise refusal([Problem(file=name, path="", expected="a file that can be read", found=found)]) from None


def _disagreements(plans: Sequence[Plan]) -> list[Problem]:
    """What one server can be told once, and two files tell differently."""
    found: list[Problem] = []
    names: dict[str, str] = {}
    first = plans[0]
    for plan in plans:
        if (other := names.setdefault(plan.agent.name, plan.file)) != plan.file or plans.count(plan) > 1:
            expected = f"a name of its own; {other} has it too"
            found.append(Problem(file=plan.file, path="agent.name", expected=expected, found=f'"{plan.agent.name}"'))
        differing = [path for path, value in plan.shared.items() if value != first.shared[path]]
        covered = tuple(differing)
        differing += sorted(
            path
            for name, value in plan.settings.items()
            if first.settings.get(name, value) != value and not (path := plan.paths[name]).startswith(covered)
        )
        found += [
            Problem(file=plan.file, path=path, expected=f"the same as in {first.file}", found="something else")
            for path in differing
        ]
    return found


def _conflicts(plans: Sequence[tuple[Plan, Path, dict[str, str]]]) -> list[Problem]:
    """A process has one environment; folders that give a variable two values cannot share it."""
    found: list[Problem] = []
    values: dict[str, tuple[str, str]] = {}
    for plan, _, variables in plans:
        for name, text in variables.items():
            known, where = values.setdefault(name, (text, plan.file))
            if known != text:
                expected = f"the variable {name} to be what it is beside {where}"
                found.append(Problem(file=plan.file, path="", expected=expected, found="another value in its folder"))
    return found


def _merged(plans: Sequence[tuple[Plan, Path, dict[str, str]]]) -> Loaded:
    settings: dict[str, Any] = {}
    environment: dict[str, str] = {}
    for plan, _, variables in plans:
        settings = {**plan.settings, **settings}
        environment = {**variables, **environment}
    return Loaded(
        agents=tuple((plan.agent, path.resolve().parent, plan.file) for plan, path, _ in plans),
        access=plans[0][0].access,
        settings=settings,
        environment=environment,
        notices=tuple(dict.fromkeys(f"{plan.file}: {notice}" for plan, _, _ in plans for notice in plan.notices)),
    )
