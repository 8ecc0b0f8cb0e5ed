"""The types of the clients' events against what the server sends: every frame fits its type, and no field is lost."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from holdfast.agents.skill.model import Confirm, Foreach, Gate, Retry, Router, Scatter, While
from holdfast.api.skills.projection import Frames, gap_frame
from holdfast.client import AsyncEngineClient, AsyncRunsClient
from holdfast.client.engine import HitlRequest
from holdfast.client.engine import UnknownEvent as UnknownFrame
from holdfast.client.engine.events import decoder as engine_decoder
from holdfast.client.events import Event
from holdfast.client.runtime import Interrupt
from holdfast.client.runtime import UnknownEvent as UnknownRunEvent
from holdfast.client.runtime.events import decoder as runtime_decoder
from holdfast.client.skills import Done, Gap, UnknownEvent
from holdfast.client.skills.events import decoder
from holdfast.client.sse import SSEDecoder
from holdfast.model import Run
from holdfast.testing import FakeServer
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


def _lost(fields: dict[str, Any], holder: Event | msgspec.Struct) -> list[str]:
    return [
        name
        for name, value in fields.items()
        if name not in holder.__struct_fields__
        or (name not in TIMES and msgspec.json.decode(msgspec.json.encode(getattr(holder, name))) != value)
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


async def data_of(client: httpx2.AsyncClient, path: str, **query: str) -> list[str]:
    """The data of all frames of a stream."""
    reply = await client.get(path, params=query)
    assert reply.status_code == 200, reply.text
    return [frame.data for frame in SSEDecoder().feed(reply.content)]


@pytest.fixture
async def raw(fake: FakeServer) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"X-API-Key": fake.key}
    async with httpx2.AsyncClient(base_url=fake.url, headers=headers, transport=fake.transport()) as client:
        yield client


def lost_fields(data: list[str], decode: Any, unknown: type[Event]) -> list[tuple[str, list[str]]]:
    """Of each frame that says more than its event, its type and what the event does not say."""
    found = []
    for one in data:
        fields, event = json.loads(one), decode(one)
        kind = fields.pop("type")
        if kind != "own" and not kind.startswith("step_"):  # the agent's own, and what the Engine API passes on
            assert not isinstance(event, unknown), one
        lost = [] if isinstance(event, unknown) else _lost(fields, event)
        found += [(kind, lost)] if lost else []
    return found


EVERYTHING = [
    ("tokens", ["a"]),
    ("thinking", "b"),
    ("progress", 0.5),
    ("checkpoint", "c"),
    ("step", "d"),
    ("emit", "own"),
]
RUNS: list[tuple[str, dict[str, Any]]] = [
    ("script", {"do": EVERYTHING}),
    ("fail", {}),
    ("approve", {"expires_in": 60, "default": False}),
    ("ask", {"choices": ["yes", "no"]}),
    ("tools", {}),
]


@pytest.mark.parametrize(("agent", "input"), RUNS, ids=[agent for agent, _ in RUNS])
async def test_every_event_of_the_runtime_api_fits_its_type(
    fake: FakeServer, raw: httpx2.AsyncClient, agent: str, input: dict[str, Any]
) -> None:
    answers: dict[str, Any] = {"approve": {"approved": True, "note": "fine"}, "ask": "yes"}
    async with AsyncRunsClient(fake.url, fake.key, transport=fake.transport()) as client:
        stream = client.stream(input, agent=agent)
        async for event in stream:
            if isinstance(event, Interrupt) and agent == "tools":
                await client.cancel(event.run_id, reason="enough")
            elif isinstance(event, Interrupt):
                await client.answer(event.run_id, event.interrupt_id, answers[agent])

    data = await data_of(raw, f"/runs/{stream.run_id}/events")

    assert len(data) > 1
    assert lost_fields(data, runtime_decoder.decode, UnknownRunEvent) == []


@pytest.mark.parametrize("agent", ["tutor", "fail", "ask", "step"])
async def test_every_frame_of_the_engine_api_fits_its_type(
    fake: FakeServer, raw: httpx2.AsyncClient, agent: str
) -> None:
    async with AsyncEngineClient(fake.url, fake.key, transport=fake.transport()) as client:
        stream = client.stream("Hello", f"frames-{agent}", agent=agent)
        async for event in stream:
            if isinstance(event, HitlRequest):
                await client.hitl_respond(event.task_id, "yes", request_id=event.request_id, feedback="fine")

    assert stream.run_id is not None
    data = await data_of(raw, "/execute/replay", turn_id=stream.run_id)

    assert len(data) > 1
    assert lost_fields(data, engine_decoder.decode, UnknownFrame) == []
