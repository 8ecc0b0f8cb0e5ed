"""
A turn whose parts are done by prompt skills and by another agent dies after every step and is executed again: whatever was
recorded of a part is not asked of the model again, and counts as before.
"""

from __future__ import annotations

from collections import Counter

import pytest

from holdfast.agents.assistant import AssistantProgram
from holdfast.agents.prompt_skill import PromptSkill
from holdfast.errors import PromptSkillNotFound
from holdfast.testing.model import Calls, Says, ScriptedModel
from tests.support.one_run import Died, OneRun

BRIEF = PromptSkill(name="brief", description="Says it briefly.", prompt="Brief: {{text}}")


class Skills:
    """One tenant's own skill, until it is deleted."""

    def __init__(self) -> None:
        self.is_there = True

    async def usable(self, tenant: str, *, custom_only: bool) -> list[PromptSkill]:
        return [BRIEF] if self.is_there else []

    async def get(self, tenant: str, name: str) -> PromptSkill:
        if not self.is_there:
            raise PromptSkillNotFound("it is gone", name=name)
        return BRIEF


def story() -> tuple[OneRun, ScriptedModel, Skills]:
    """Two prompts at once, then an agent that uses one too, then an answer."""
    model = ScriptedModel(
        [Calls("skill__brief", {"text": "a"}, "c1"), Calls("skill__brief", {"text": "b"}, "c2")],
        [Calls("delegate", {"agent": "helper", "task": "Help."}, "d1")],
        [Says("All "), Says("done.")],
    )
    model.parts = {
        "Brief: a": [[Says("A.")]],
        "Brief: b": [[Says("B.")]],
        "Brief: c": [[Says("C.")]],
        "Help.": [[Calls("skill__brief", {"text": "c"}, "c1")], [Says("Helped.")]],
    }
    skills = Skills()
    lead, helper = AssistantProgram(model), AssistantProgram(model)
    for program in (lead, helper):
        program.use_skills(skills)
    lead.use_sub_agents({"helper": "Helps."}, lambda _: helper)
    return OneRun(lead, {"message": "Go."}), model, skills


def asked(model: ScriptedModel) -> Counter[str]:
    """How often each response was asked for, by what stood before it."""
    return Counter(str(messages[-1].parts[-1].content) for messages in model.messages)  # type: ignore[union-attr]


STEPS = 14


async def test_the_story_as_it_should_be() -> None:
    run, model, _ = story()

    result = await run.execute()

    assert sum(step.is_recorded for step in run.steps.values()) == STEPS
    assert result.output == "All done."
    assert set(asked(model).values()) == {1}


@pytest.mark.parametrize(
    ("steps", "is_deleted"), [*((steps, False) for steps in range(1, STEPS + 1)), (4, True), (5, True), (7, True)]
)
async def test_what_was_answered_is_not_asked_again_whatever_becomes_of_the_skill(steps: int, is_deleted: bool) -> None:
    whole, _, _ = story()
    expected = await whole.execute()
    run, model, skills = story()
    with pytest.raises(Died):
        await run.start(die_after=steps).result()
    before, certain = asked(model), {key for key, step in run.steps.items() if step.is_recorded}
    skills.is_there = not is_deleted

    result = await run.execute()

    prompts = {"Brief: a": "tool:c1/prompt", "Brief: b": "tool:c2/prompt"}
    for prompt, key in prompts.items():
        again = asked(model)[prompt] - before[prompt]
        assert again == (key not in certain and not is_deleted)
    assert result.output == expected.output == "All done."
    if not is_deleted:
        assert (result.usage, Counter(run.types())) == (expected.usage, Counter(whole.types()))
