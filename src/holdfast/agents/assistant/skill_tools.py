"""
Prompt skills as tools of a turn: `skill.<name>`, and those that the catalog declares as tools.

Which there are is recorded with the turn. A skill of the agent's definition is used as it was when the turn began; a
tenant's own as it is when it is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.agents.assistant.kit import Kit, Skills, SkillTool
from holdfast.agents.prompt_skill import SKILL, PromptSkill
from holdfast.agents.tools import Call, Tool, ToolError
from holdfast.agents.tools.described import DescribedTool, check_arguments, model_name
from holdfast.errors import HoldfastError, ModelFailed, PromptSkillNotFound

if TYPE_CHECKING:
    from holdfast.agents.assistant.prompting import Prompted, Prompter
    from holdfast.agents.assistant.turn import Turn

KEY: Final = "prompt_skills"

# More of them than these would be more than a model can choose from.
SKILLS_MAX: Final = 100


class _Found(msgspec.Struct, frozen=True):
    """A skill as the model is told of it, as it is recorded."""

    name: str
    description: str
    parameters: dict[str, Any]


async def skill_tools_of(turn: Turn, kit: Kit, skills: Skills | None, prompter: Prompter) -> Mapping[str, Tool[Any]]:
    """By the names that the model knows: providers take no dots."""
    tools = {declared.name: _declared(turn, declared, prompter) for declared in kit.skill_tools}
    for name, skill in (kit.skills or {}).items():
        if kit.may_use(f"{SKILL}{name}"):
            tools[model_name(f"skill__{name}")] = _own(turn, skill, prompter)
    for found in await _found(turn, kit, skills):
        assert skills is not None
        tools.setdefault(model_name(f"skill__{found.name}"), _foreign(turn, found, skills, prompter))
    return tools


async def _found(turn: Turn, kit: Kit, skills: Skills | None) -> list[_Found]:
    """Those that are not in the definition."""
    context = turn.context
    if skills is None or not any(name.startswith((SKILL, "*")) for name in kit.names):
        return []
    usable: list[_Found] = []
    if context.recorded(context.step_key(KEY, key=KEY)) is None:  # a sub-agent's is its own
        listed = await context.execution.insist(
            lambda: skills.usable(context.tenant, custom_only=kit.skills is not None)
        )
        known = kit.skills or {}
        usable = [
            _Found(skill.name, skill.description, skill.parameters)
            for skill in listed
            if kit.may_use(f"{SKILL}{skill.name}") and skill.name not in known
        ][:SKILLS_MAX]
        if not usable:
            return []

    async def found() -> Any:
        return msgspec.to_builtins(usable)

    recorded = await context.step(KEY, found, key=KEY, side_effects=False, visible=False)
    return msgspec.convert(recorded, list[_Found])


def _own(turn: Turn, skill: PromptSkill, prompter: Prompter) -> Tool[Any]:
    async def use(call: Call, params: dict[str, Any]) -> Any:
        return await _use(turn, call, skill.filled(params), prompter)

    return _tool(f"{SKILL}{skill.name}", skill.description, skill.parameters, use)


def _declared(turn: Turn, declared: SkillTool, prompter: Prompter) -> Tool[Any]:
    async def use(call: Call, params: dict[str, Any]) -> Any:
        check_arguments(declared.skill.parameters, params)
        return await _use(turn, call, declared.skill.filled(params), prompter)

    tool = _tool(declared.name, declared.description, declared.schema, use)
    return msgspec.structs.replace(tool, requires_permission=declared.requires_permission, high_cost=declared.high_cost)


def _foreign(turn: Turn, found: _Found, skills: Skills, prompter: Prompter) -> Tool[Any]:
    async def use(call: Call, params: dict[str, Any]) -> Any:
        context = turn.context
        if is_answered(call):  # whatever became of the skill
            return await _use(turn, call, "", prompter)
        try:
            skill = await context.execution.insist(lambda: skills.get(context.tenant, found.name))
        except PromptSkillNotFound as exc:
            raise ToolError(exc.code, exc.message) from None
        check_arguments(skill.parameters, params)  # it may have changed since
        return await _use(turn, call, skill.filled(params), prompter)

    return _tool(f"{SKILL}{found.name}", found.description, found.parameters, use)


def _tool(name: str, description: str, schema: dict[str, Any], function: Any) -> Tool[Any]:
    # Its request to the model is a step by itself, so that it is paid once.
    return DescribedTool(name=name, description=description, input=dict, function=function, asks=True, schema=schema)


async def _use(turn: Turn, call: Call, prompt: str, prompter: Prompter) -> str:
    async with turn.slots:
        made = await prompted(prompter, call, prompt)
    turn.add_usage(made.usage)
    return made.output


async def prompted(prompter: Prompter, call: Call, prompt: str) -> Prompted:
    """
    What the model makes of a skill's prompt.

    Raises:
        ToolError: the model did not answer.
    """
    try:
        return await prompter.ask(call.context, prompt, key=_prompt_key(call))
    except ModelFailed as exc:
        error: HoldfastError = exc
        raise ToolError(error.code, error.message) from exc


def is_answered(call: Call) -> bool:
    """Whether the answer to the skill's prompt is on record."""
    return call.context.is_begun(_prompt_key(call))


def _prompt_key(call: Call) -> str:
    # Inside of the key of the call's result, with which it counts as asked for.
    return f"tool:{call.key}/prompt"
