"""What the calls of this API ask of the library: skills and capabilities as the files on disk have them now."""

from __future__ import annotations

from typing import Any

from holdfast.agents.skill.lookup import Lookup, SkillInvalid, SkillNotFound
from holdfast.agents.skill.model import Capability, Definition, Problem
from holdfast.api.http.call import Call
from holdfast.api.skills.refusals import SkillsRefusal
from holdfast.api.skills.runs import subject_of
from holdfast.model import Run


def library_of(request: Call) -> Lookup:
    """The library of this server, as it is on disk."""
    return request.services.skills


def definition_of(request: Call, target: str) -> Definition:
    """
    All that a run of this target needs.

    Raises:
        SkillsRefusal: there is no such skill or capability, or it has errors.
    """
    kind, _, name = target.partition(":")
    try:
        return library_of(request).definition(target)
    except SkillNotFound:
        raise SkillsRefusal("not_found", f"There is no {kind} '{name}'.") from None
    except SkillInvalid as error:
        raise invalid(kind, name, error.problems) from None


def capability_of(request: Call, name: str) -> Capability:
    """
    A capability that can be executed.

    Raises:
        SkillsRefusal
    """
    return definition_of(request, f"capability:{name}").capabilities[name]


def invalid(kind: str, name: str, problems: list[Problem]) -> SkillsRefusal:
    """The refusal of what has errors, with all of them."""
    first = problems[0]
    where = f"{first.file}:{first.line}:{first.column}"
    message = f"The {kind} '{name}' has errors; the first is {first.code} at {where}: {first.message}"
    return SkillsRefusal("invalid_configuration", message, problems=[problem_view(problem) for problem in problems])


def problem_view(problem: Problem) -> dict[str, Any]:
    """A problem of a file."""
    return {name: getattr(problem, name) for name in Problem.__struct_fields__}


def may_be_legacy(request: Call) -> None:
    """Let an error of this call be answered with 200, where the settings want it."""
    if request.services.settings.skills_legacy_status_200:
        request.exchange.facts["is_legacy"] = True


def version_of(request: Call, run: Run) -> str | None:
    """The version of what a run executes, as far as the library has it now."""
    kind, name = subject_of(run.agent)
    library = library_of(request)
    found = library.capability(name) if kind == "capability" else library.skill(name)
    return None if found is None else found.version
