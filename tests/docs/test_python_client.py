"""The guide to the Python client: its snippets are run as they stand, in one server's life."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from holdfast.client import RunsClient
from holdfast.client.runtime import Started
from tests.support.server import KEY, running_server

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/guides/python-client.md").read_text()
AGENT, FOLLOW, SYNC, REST, DISCARD, CHAT, SKILL = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


def names_of(snippet: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "guide"}
    exec(snippet, names)
    return names


def test_the_guide_and_the_examples_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "payer.py"
    target.write_text(AGENT)
    with running_server(tmp_path / "data", agents=target) as server:
        assert asyncio.run(names_of(FOLLOW)["main"](server.url, KEY)) == {"paid": True}
        assert capsys.readouterr().out == "Reading the invoice now. Pay?\n"

        assert names_of(SYNC)["paid"](server.url, KEY, 7) == "{'paid': False}"
        with RunsClient(server.url, KEY) as client:
            run_id = client.list(limit=1).runs[0].run_id
        first, *rest = asyncio.run(names_of(REST)["rest"](server.url, KEY, run_id, None))
        assert isinstance(first, Started)
        assert asyncio.run(names_of(REST)["rest"](server.url, KEY, run_id, "0")) == rest
        assert asyncio.run(names_of(DISCARD)["shown"](server.url, KEY, run_id)) == "Reading the invoice now. "

        assert names_of(CHAT)["say"](server.url, KEY, "Hello") == "Reading the invoice now. "

        followed = names_of((ROOT / "examples/clients/follow_run.py").read_text())
        assert asyncio.run(followed["main"](server.url, KEY, "payer", "x")) == {"paid": True}
        chat = names_of((ROOT / "examples/clients/chat.py").read_text())
        monkeypatch.setitem(chat, "input", lambda: "no")
        with chat["EngineClient"](server.url, KEY) as engine:
            assert chat["say"](engine, "chat", "Hello") == "Reading the invoice now. \nPay? \n"

        assert names_of(SKILL)["shortened"](server.url, KEY, "It rains.") == "It rains."
        assert capsys.readouterr().out.splitlines()[-1].startswith("analyze ")
        skill = names_of((ROOT / "examples/clients/run_skill.py").read_text())
        assert skill["main"](server.url, KEY, "my.skill", "It rains.") == {"result": "It rains."}
        assert skill["main"](server.url, KEY, "nope", "It rains.") == "NOT_FOUND"
