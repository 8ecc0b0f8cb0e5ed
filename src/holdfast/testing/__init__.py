"""Test doubles that behave like the real thing: a server in the process, scripted agents and models, recorded runs."""

from holdfast.testing.fake_server import FakeServer
from holdfast.testing.recording import Difference, Recording, record, replay
from holdfast.testing.script import (
    Approve,
    Ask,
    CallTool,
    Drop,
    Emit,
    Fail,
    Progress,
    Restart,
    Return,
    ScriptedAgent,
    Step,
    Thinking,
    Token,
    Tool,
    Wait,
    scripted,
)

__all__ = [
    "Approve",
    "Ask",
    "CallTool",
    "Difference",
    "Drop",
    "Emit",
    "Fail",
    "FakeServer",
    "Progress",
    "Recording",
    "Restart",
    "Return",
    "ScriptedAgent",
    "Step",
    "Thinking",
    "Token",
    "Tool",
    "Wait",
    "record",
    "replay",
    "scripted",
]
