"""Skills made in code for the tests of the Skills API, with functions that wait for gates of the test."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from holdfast.agents.skill.model import Capability, Client, Confirm, Field, Gate, Safety, Skill
from tests.support.skills import capability, skill
from tests.support.skills_server import SkillsServer, skills_server


class Functions:
    """What fulfils the capabilities: `wait` returns when its gate is open; all calls are counted."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """As at the beginning."""
        self.calls: Counter[str] = Counter()
        self.gate = asyncio.Event()
        self.began = asyncio.Event()
        self.is_broken = False

    def shout(self, text: str) -> dict[str, Any]:
        self.calls[f"shout {text}"] += 1
        return {"text": text.upper()}

    async def wait(self, text: str) -> dict[str, Any]:
        self.calls[f"wait {text}"] += 1
        self.began.set()
        await self.gate.wait()
        return {"text": text}

    def fail(self, text: str) -> dict[str, Any]:
        self.calls[f"fail {text}"] += 1
        if self.is_broken:
            raise ValueError("refused")
        return {"text": text}

    def judge(self, text: str) -> dict[str, Any]:
        """`text` true or false is its verdict; anything else is none."""
        return {"allowed": {"true": True, "false": False}.get(text, text), "reason": "I say so"}


def _text(id: str, **facts: Any) -> Capability:
    return capability(id, "text:string", "text:string", **facts)


CAPABILITIES = (
    _text("text.shout", side_effects=False),
    _text("test.wait"),
    _text("test.fail"),
    _text("test.trusted", safety=Safety(trust_level="privileged")),
    capability("test.gate", "text:string", "allowed:any"),
    _text("test.called", bind=Client(tool="crm.find")),
    _text("test.careful", safety=Safety(requires_confirmation=True)),
)


def _one(id: str, uses: str = "text.shout", **config: Any) -> Skill:
    step = {"id": "work", "uses": uses, "input": {"text": "inputs.text"}, "output": {"text": "outputs.result"}}
    made = skill(id, {**step, **config}, outputs="result:string", required=True)
    return msgspec.structs.replace(made, inputs={"text": Field(type="string", required=True)})


def _chain() -> Skill:
    """`first`, beside it `apart`; then `second`, which can fail, then `third`."""
    return skill(
        "chain",
        {"id": "first", "uses": "text.shout", "input": {"text": "inputs.text"}, "output": {"text": "vars.first"}},
        {"id": "apart", "uses": "text.shout", "input": {"text": "apart"}, "depends_on": ()},
        {
            "id": "second",
            "uses": "test.fail",
            "input": {"text": "vars.first"},
            "output": {"text": "vars.second"},
            "depends_on": ("first",),
        },
        {"id": "third", "uses": "text.shout", "input": {"text": "vars.second"}, "output": {"text": "outputs.result"}},
        inputs="text:string",
        outputs="result:string",
    )


def _pair() -> Skill:
    """`first` is done at once, `second` waits for the gate."""
    return skill(
        "pair",
        {"id": "first", "uses": "text.shout", "input": {"text": "inputs.text"}, "output": {"text": "vars.first"}},
        {"id": "second", "uses": "test.wait", "input": {"text": "vars.first"}, "output": {"text": "outputs.result"}},
        inputs="text:string",
        outputs="result:string",
    )


def _asks_twice() -> Skill:
    """`left` and `right`, both of which a person has to approve."""
    step = {"uses": "text.shout", "input": {"text": "x"}, "depends_on": (), "confirm": Confirm(question="Go on?")}
    return skill("asks.twice", {"id": "left", **step}, {"id": "right", **step})


def _attachable() -> Skill:
    made = _one("attachable")
    classification = {"invocation": "both", "attach_targets": ["run", "ticket"]}
    target = skill("x", inputs="target:object").inputs
    return msgspec.structs.replace(
        made, metadata={"classification": classification, "status": "stable"}, inputs=made.inputs | target
    )


SKILLS = (
    msgspec.structs.replace(_one("my.skill"), metadata={"status": "stable", "tags": ["text"]}, domain="my"),
    _one("slow", "test.wait"),
    _one("broken", "test.fail"),
    _one("asks", confirm=Confirm(question="Go on?")),
    _one("expires", confirm=Confirm(question="Go on?", expires_in=0.05, default="deny")),
    _one("careful", "test.careful"),
    _one("called", "test.called"),
    _one("late", "test.wait", timeout_seconds=0.05),
    _one("wrong", input={"text": 5}),
    _one("gated", pre_gates=(Gate(capability="test.gate"),)),
    _asks_twice(),
    _chain(),
    _pair(),
    _attachable(),
)


@contextlib.asynccontextmanager
async def serving(directory: Path, **settings: Any) -> AsyncIterator[tuple[SkillsServer, Functions]]:
    """A server of these skills, and what fulfils them."""
    functions = Functions()
    by_name = {"text.shout": functions.shout, "test.wait": functions.wait, "test.fail": functions.fail}
    by_name["test.gate"] = functions.judge
    by_name |= dict.fromkeys(("test.trusted", "test.careful"), functions.shout)
    async with skills_server(directory, SKILLS, CAPABILITIES, by_name, **settings) as server:
        try:
            yield server, functions
        finally:
            functions.gate.set()
