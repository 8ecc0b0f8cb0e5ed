"""Test doubles that behave like the real thing: a server in the process, scripted agents and models, recorded runs."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
else:
    # Where each public name is, if not in `script`. They are loaded with their first use: `plugin` is a part of this
    # package, is loaded by every start of pytest, and must not load the server with it.
    _MODULES = {
        "FakeServer": "fake_server",
        "Difference": "recording",
        "Recording": "recording",
        "record": "recording",
        "replay": "recording",
    }

    def __getattr__(name):
        from importlib import import_module

        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = import_module(f"{__name__}.{_MODULES.get(name, 'script')}")
        value = globals()[name] = getattr(module, name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})


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
