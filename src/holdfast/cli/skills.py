"""`holdfast skills …`: skills in files, looked at, checked, begun, run and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from holdfast.cli.options import DataOption, JsonOption
from holdfast.cli.screen import CliError, note, out, print_json, print_table, write

if TYPE_CHECKING:
    from holdfast.agents.skill.library import Library
    from holdfast.agents.skill.model import Problem

app = typer.Typer(help="Look at skills, check them, begin, run and draw them.", no_args_is_help=True)

RootOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--root",
        metavar="DIR",
        help="Folder with skills and capabilities; may be repeated. \\[default: HOLDFAST_SKILLS_ROOTS, or here]",
        show_default=False,
    ),
]
SkillArgument = Annotated[str, typer.Argument(metavar="SKILL", help="The skill's id.", show_default=False)]

_TEMPLATE: Final = """\
id: {id}
version: 1.0.0
name: {name}
description: Says in one sentence what it does and when to use it.
inputs:
  text: {{type: string, required: true, description: "what is shortened"}}
outputs:
  result: {{type: string, required: true}}
steps:
  - id: shorten
    uses: text.content.summarize
    input: {{text: inputs.text, max_length: 200}}
    output: {{summary: outputs.result}}
"""


@app.command("list", epilog="Example:  holdfast skills list --root ./my-skills --json")
def list_skills(root: RootOption = None, json: JsonOption = False) -> None:
    """List the skills in the files, what is built in included. Those with errors are listed by `validate`."""
    library = _library(root)
    skills = library.skills()
    if json:
        keys = ("id", "version", "name", "description", "channel", "domain")
        print_json([{key: getattr(skill, key) for key in keys} for skill in skills])
    else:
        rows = [
            (skill.id, skill.version, str(skill.metadata.get("status", "")), str(len(skill.steps)), skill.description)
            for skill in skills
        ]
        print_table(("id", "version", "status", "steps", "description"), rows)
    broken = sum(problem.severity == "error" for problem in library.problems())
    if broken:
        note(f"{broken} errors keep others from being listed: holdfast skills validate", "yellow")


@app.command(
    "validate",
    epilog="Examples:  holdfast skills validate     holdfast skills validate skills/my.skill.yaml ./other-root",
)
def validate(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="Files, or folders. \\[default: HOLDFAST_SKILLS_ROOTS, or here]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """
    Check files of skills and capabilities as the server does, without starting anything.

    Each problem is a line FILE:LINE:COLUMN: SEVERITY CODE: MESSAGE. Exit status 1 if there is an error, else 0.
    """
    problems, checked = _checked(paths or [])
    for problem in problems:
        write(f"{shown(problem)}\n")
    errors = sum(problem.severity == "error" for problem in problems)
    note(f"files: {checked}, errors: {errors}, warnings: {len(problems) - errors}", "red" if errors else "green")
    raise typer.Exit(1 if errors else 0)


def shown(problem: Problem) -> str:
    """A problem as compilers tell theirs."""
    place = f"{problem.file}:{problem.line}:{problem.column}"
    return f"{place}: {problem.severity} {problem.code}: {problem.message}"


@app.command(
    "new", epilog="Example:  holdfast skills new notes.shorten; holdfast skills run notes.shorten --input text=…"
)
def new(
    skill: SkillArgument,
    root: Annotated[Path, typer.Option(metavar="DIR", help="The folder that holds the folder skills.")] = Path(),
) -> None:
    """Write a skill to start from, which can be run as it is. A file that exists is left alone."""
    from holdfast.agents.skill.reading import ID

    if not ID.match(skill):
        raise CliError(f"{skill!r} is no id of a skill: a-z, 0-9, _ and -, in parts with dots between them")
    # An id such as my.skill needs no second `.skill` in its file's name.
    file = root / "skills" / (f"{skill}.yaml" if skill.endswith(".skill") else f"{skill}.skill.yaml")
    name = skill.replace(".", " ").replace("_", " ").replace("-", " ").capitalize()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as written:
            written.write(_TEMPLATE.format(id=skill, name=name))
    except FileExistsError:
        raise CliError(f"{file} exists already; nothing was written") from None
    except OSError as error:
        raise CliError(f"{file} cannot be written: {error.strerror}") from None
    out().print(f"Wrote {file}.", markup=False, soft_wrap=True)
    note(f"Run it:  holdfast skills run {skill} --input text='Some text.'")


@app.command(
    "run",
    epilog="Examples:  holdfast skills run my.skill --input text='Hello world'     "
    "holdfast skills run news.briefing --inputs @articles.json",
)
def run(
    skill: SkillArgument,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NAME=VALUE",
            help="One input; text as it is, else JSON. May be repeated.",
            show_default=False,
        ),
    ] = None,
    whole: Annotated[
        str | None,
        typer.Option("--inputs", metavar="JSON", help="All inputs as a JSON object, or @FILE.", show_default=False),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Write each frame of the stream as JSON, one a line.")] = False,
    data: DataOption = None,
) -> None:
    """
    Run a skill on the running server, or on one that is started for it, and show its steps. Its outputs go to stdout.

    What a person must approve is asked on a terminal. Exit status 1 if the run failed, or waits for somebody.
    """
    from holdfast.cli.skill_running import run_skill

    raise typer.Exit(run_skill(skill, inputs or [], whole, as_json=json, data=data))


@app.command("graph", epilog="Example:  holdfast skills graph news.briefing > briefing.mmd")
def graph(skill: SkillArgument, root: RootOption = None) -> None:
    """Draw the steps of a skill and what they wait for, as a Mermaid flowchart."""
    from holdfast.agents.skill.drawing import mermaid
    from holdfast.agents.skill.lookup import SkillInvalid, SkillNotFound

    library = _library(root)
    try:
        definition = library.definition(f"skill:{skill}")
    except SkillNotFound:
        known = ", ".join(one.id for one in library.skills())
        raise CliError(f"there is no skill {skill!r}; there are {known}") from None
    except SkillInvalid as error:
        for problem in error.problems:
            note(shown(problem), "red")
        raise CliError(f"the skill {skill!r} has errors") from None
    write(mermaid(definition.skills[skill]))


def _library(roots: list[Path] | None) -> Library:
    from holdfast.agents.skill.library import Library
    from holdfast.cli.access import settings_for

    library = Library(roots or settings_for(None).skills_roots)
    library.refresh()
    return library


def _checked(paths: list[Path]) -> tuple[list[Problem], int]:
    """The problems of files and of all files in folders, and how many files these are."""
    from holdfast.agents.skill.library import Library, files_in
    from holdfast.cli.access import settings_for

    for path in paths:
        if not path.exists():
            raise CliError(f"{path} does not exist")
    roots = [
        path for path in paths if path.is_dir() and any((path / name).is_dir() for name in ("skills", "capabilities"))
    ]
    files = [file for path in paths if path not in roots for file in ([path] if path.is_file() else files_in(path))]
    others = [Path(root) for root in settings_for(None).skills_roots]
    library = Library([*roots, *others], files=files)
    library.refresh()
    wanted = library.files() if not paths else {str(file) for file in files}
    wanted |= {name for name in library.files() for root in roots if Path(name).is_relative_to(root)}
    return [problem for problem in library.problems() if problem.file in wanted], len(wanted)
