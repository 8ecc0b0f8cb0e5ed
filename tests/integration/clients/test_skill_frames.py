"""The types of the Skills client's frames against what the server makes of runs: every frame fits, and no field is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from holdfast.agents.skill.model import Confirm, Foreach, Gate, Retry, Router, Scatter, While
from holdfast.api.skills.projection import Frames, gap_frame
from holdfast.client.skills import Done, Gap, SkillEvent, UnknownEvent
from holdfast.client.skills.events import decoder
from holdfast.model import Run
from tests.support.kernel import CALLER
from tests.support.skills import Skilled, capability, skill, skilled

TIMES = {"timestamp", "retry_at", "expires_at"}
KINDS = """
    skill_start step_start step_completed step_failed step_skipped step_degraded safety_gate_warning progress token
    interrupt interrupt_resolved skill_completed done
"""


async def tell(value: Any, context: Any) -> Any:
    await context.progress(0.5, "half")
    await context.token("é")
    return value


class Flaky:
    """Fails the first time."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, value: Any) -> Any:
        self.calls += 1
        if self.calls == 1:
            raise OSError("not yet")
        return value


def fail(value: Any) -> Any:
    raise OSError("never")


def refuse(value: Any) -> dict[str, Any]:
    return {"allowed": False, "reason": f"I say so of {value}"}


def everything() -> Any:
    def step(id: str, uses: str = "note", **config: Any) -> dict[str, Any]:
        return {"id": id, "uses": uses, "input": {"value": 1}, **config}

    deny = Gate(capability="deny", on_fail="warn")
    return skill(
        "everything",
        step("skipped", condition="1 == 2"),
        step("each", "flaky", foreach=Foreach(items="[1, 2]"), retry=Retry(backoff_seconds=0)),
        step("turns", while_=While(condition="true", max_iterations=2)),
        step("routed", router=Router(on="1", cases={"1": "note"})),
        step("scattered", scatter=Scatter(capabilities=("note", "broken"))),
        step("told", "tell", stream=True),
        step("warned", post_gates=(deny,)),
        step("degraded", pre_gates=(msgspec.structs.replace(deny, on_fail="degrade"),)),
        step("asked", confirm=Confirm(question="Go on?", expires_in=0.05, default="approve")),
        step("broken", "broken", depends_on=()),
    )


async def frames_of(running: Skilled, run: Run) -> list[str]:
    """The data of all frames, as the server sends them."""
    current = await running.kernel.runs.get(CALLER, run.run_id)
    segments = await running.kernel.store.segments(current.number, after=-1, bytes_max=1 << 30)
    frames = Frames(current)
    return [frames.data(line.decode()) for segment in segments for line in segment.body.splitlines()]


def lost_of(data: str) -> list[str]:
    """What a frame says and its event does not."""
    frame, event = json.loads(data), decoder.decode(data)
    assert not isinstance(event, UnknownEvent), data
    fields = {name: value for name, value in frame.items() if name not in ("type", "data", "error")}
    lost = _lost(fields, event)
    for name in ("data", "error"):
        if frame.get(name) is not None:
            own = {key: value for key, value in frame[name].items() if (key, value) != ("message", frame["message"])}
            lost += _lost(own, getattr(event, name))
    return lost


def _lost(fields: dict[str, Any], holder: SkillEvent | msgspec.Struct) -> list[str]:
    return [
        name
        for name, value in fields.items()
        if name not in holder.__struct_fields__
        or (name not in TIMES and msgspec.to_builtins(getattr(holder, name)) != value)
    ]


async def test_every_frame_of_a_run_fits_its_type_and_loses_no_field(tmp_path: Path) -> None:
    parts = [capability(name, "value", "value") for name in ("note", "flaky", "broken", "tell")]
    deny = capability("deny", "value", "allowed reason")
    functions: dict[str, Any] = {
        "note": lambda value: value,
        "flaky": Flaky(),
        "broken": fail,
        "tell": tell,
        "deny": refuse,
    }
    async with skilled(tmp_path, [everything()], [*parts, deny], functions) as running:
        run, _ = await running.run("skill:everything", fail_fast=False, include_trace=True)
        data = await frames_of(running, run)

    assert {json.loads(one)["type"] for one in data} == set(KINDS.split())
    assert [one for one in data if lost_of(one)] == []
    assert isinstance(decoder.decode(data[-1]), Done)
    gap = gap_frame(run, requested=1, first=3, reason="pruned", timestamp="2026-03-25T12:00:00.000874Z")
    shown = gap.decode().partition("data: ")[2]
    assert isinstance(decoder.decode(shown), Gap)
    assert lost_of(shown) == []
