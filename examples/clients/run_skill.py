"""
Execute a skill by the Skills API: show its steps, ask at the terminal what a person must approve.

    python examples/clients/run_skill.py http://localhost:8000 KEY my.skill "One thing. Another thing."
"""

import sys
from typing import assert_never

from holdfast.client import SkillsClient
from holdfast.client.errors import ApiError
from holdfast.client.skills import (
    Done,
    Gap,
    Interrupt,
    InterruptResolved,
    Progress,
    Restarted,
    SafetyGateWarning,
    SkillCompleted,
    SkillEvent,
    SkillStart,
    StepCompleted,
    StepDegraded,
    StepFailed,
    StepSkipped,
    StepStart,
    Token,
    UnknownEvent,
)


def line_of(event: SkillEvent) -> str | None:
    """A frame for people. A type that is forgotten here is found by the type checker."""
    match event:
        case Token(content=text):
            return text
        case StepStart(step_id=step, attempt=attempt):
            return f"[{step}, attempt {attempt}]"
        case StepFailed(step_id=step, data=data):
            return f"[{step} failed: {data.error}{'; again' if data.will_retry else ''}]"
        case StepDegraded(step_id=step, data=data) | SafetyGateWarning(step_id=step, data=data):
            return f"[{step}: {data.gate} says {data.reason}]"
        case Progress(step_id=step, data=data):
            return f"[{step} {data.progress:.0%}]"
        case Interrupt(data=data):
            return f"[{data.question}]"
        case SkillStart() | StepCompleted() | StepSkipped() | SkillCompleted() | Done():
            return f"[{event.message}]"
        case Restarted() | Gap():
            return "[some of this is void]"
        case InterruptResolved() | UnknownEvent():
            return None
        case _:
            assert_never(event)


def main(url: str, key: str, skill_id: str, text: str) -> object:
    """The outputs of the skill, or why there are none."""
    with SkillsClient(url, key) as client, client.stream(skill_id, {"text": text}) as events:
        try:
            for event in events:
                if line := line_of(event):
                    print(line)
                if isinstance(event, Interrupt) and event.data.kind == "approval":
                    decide = client.approve if input("approve? ") == "yes" else client.deny
                    decide(event.run_id, interrupt_id=event.data.interrupt_id)
            return events.result()
        except ApiError as failure:
            return failure.code


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    print(main(*sys.argv[1:]))
