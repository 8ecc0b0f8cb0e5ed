"""
What a skill file says, and what is wrong with it as far as the file alone tells. No I/O.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final

from holdfast.agents.skill.flow import check_flow, check_graph
from holdfast.agents.skill.model import Json, Skill, Step
from holdfast.agents.skill.reading import ID, Report, Table, named, read_fields
from holdfast.agents.skill.step_reading import read_step

STEPS_MAX: Final = 500
_KEYS: Final = ("id", "version", "name", "description", "inputs", "outputs", "steps", "metadata", "triggers")
_TEXT_LISTS: Final = ("tags", "use_cases")
# What has no part in how data flows: with other errors, the flow would be looked for in what is not there.
_HARMLESS: Final = frozenset({"bad_expression", "bad_control", "bad_reference", "unknown_type", "triggers_ignored"})


def read_skill(report: Report, value: Json, place: PurePosixPath) -> Skill | None:
    """
    The skill of a file, with all that could be read of it; the report has what could not. None: it is no mapping.

    Args:
        place: of the file, from its root on.
    """
    table = Table(report, (), value, missing="field_missing")
    if not isinstance(value, dict):
        return None
    report.skill_id = read_id(table)
    table.check_keys(_KEYS)
    texts = {key: table.text(key, is_required=True) or "" for key in ("version", "name", "description")}
    if table.has("triggers"):
        report.warn(
            "triggers_ignored", ("triggers",), "triggers have no effect here: start the skill by a call", on_key=True
        )
    inputs = read_fields(report, ("inputs",), table.mapping("inputs", is_required=True), is_strict=True)
    outputs = read_fields(report, ("outputs",), table.mapping("outputs", is_required=True), is_strict=True)
    steps = _steps(table)
    channel, domain = _channel_and_domain(report.skill_id or "", place)
    skill = Skill(
        id=report.skill_id or "",
        **texts,
        inputs=inputs,
        outputs=outputs,
        steps=tuple(step for step in steps if step is not None),
        channel=channel,
        domain=domain,
        metadata=_metadata(table),
    )
    if len(skill.steps) == len(steps) and check_graph(report, skill) and _may_flow(report):
        check_flow(report, skill)
    return skill


def read_id(table: Table) -> str | None:
    """The id of a file."""
    found = table.text("id", is_required=True)
    if found is None or ID.match(found):
        return found
    table.wrong("id", "lower-case letters, digits, _ and -, in parts with dots between them")
    return None


def _steps(table: Table) -> list[Step | None]:
    value = table.values.get("steps")
    if value is None:
        table.lacks("steps", f"a list of 1 to {STEPS_MAX} steps")
        return []
    if not isinstance(value, list):
        table.wrong("steps", f"a list of 1 to {STEPS_MAX} steps")
        return []
    if not 1 <= len(value) <= STEPS_MAX:
        message = f"steps: expected 1 to {STEPS_MAX} of them, found {len(value)}"
        table.report.error("field_invalid", ("steps",), message)
        return []
    known: dict[str, int] = {}
    found: list[Step | None] = []
    for index, item in enumerate(value):
        previous = found[-1].id if found and found[-1] else None
        found.append(read_step(table.report, index, item, known, previous))
    return found


def _metadata(table: Table) -> dict[str, Json]:
    """Lists of texts and the classification are what they must be; all else is kept as it stands."""
    value = table.values.get("metadata")
    if value is None:
        return {}
    metadata = table.inside("metadata")
    metadata.text("status")
    for key in _TEXT_LISTS:
        _check_texts(metadata, key)
    if metadata.has("classification"):
        classification = metadata.inside("classification")
        for key in ("role", "invocation", "effect_mode"):
            classification.text(key)
        _check_texts(classification, "attach_targets")
    return metadata.values


def _check_texts(table: Table, key: str) -> None:
    value = table.values.get(key, [])
    if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
        message = f"{key}: expected a list of texts, found {named(value)}"
        table.report.error("field_invalid", (*table.path, key), message)


def _channel_and_domain(skill_id: str, place: PurePosixPath) -> tuple[str, str]:
    parts = place.parts
    if len(parts) == 5 and parts[0] == "skills" and parts[4] == "skill.yaml":
        return parts[1], parts[2]
    return "local", skill_id.partition(".")[0]


def _may_flow(report: Report) -> bool:
    return all(problem.code in _HARMLESS or problem.step_id is None for problem in report.problems)
