"""Agents that a real server and a fake one serve alike."""

from __future__ import annotations

from holdfast.testing import Approve, Ask, CallTool, Emit, Fail, Progress, Return, Step, Thinking, Token, Tool, scripted

story = scripted(
    "story",
    Thinking("hm"),
    Token("Once "),
    Token("upon"),
    Progress(0.5, "half"),
    Step("fetch", {"rows": 3}),
    Tool("find", {"name": "x"}, output=["x.md"]),
    Emit("weather", {"sun": True}),
    Return({"done": True}),
)
asks = scripted("asks", Token("before "), Ask("Which?", choices=("a", "b")), Approve("May I?"), Token("after"))
calls = scripted("calls", CallTool("look.up", {"word": "tide"}), Token("found"))
fails = scripted("fails", Token("so far"), Fail("it broke"))
tide = scripted("tide", *(Token(f"{number} ") for number in range(200)))

AGENTS = (story, asks, calls, fails, tide)
