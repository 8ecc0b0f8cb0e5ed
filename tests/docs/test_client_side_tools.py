"""The guide to tools in the caller's process: its snippets are run as they stand."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from tests.support.server import KEY, running_server
from tests.support.tasks import start

GUIDE = (Path(__file__).parents[2] / "docs/guides/client-side-tools.md").read_text()
AGENT, CLIENT, SYNC, REGISTER, CRASH = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


def names_of(snippet: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "guide"}
    exec(snippet, names)
    return names


def test_the_guide_as_printed(tmp_path: Path, monkeypatch: Any) -> None:
    target = tmp_path / "clock.py"
    target.write_text(AGENT)
    paying = target.read_text() + '\n\n@agent("payer", restart="always")\nasync def payer(context: Context) -> str:\n'
    target.write_text(paying + '    return await context.call_tool("pay")\n')
    monkeypatch.chdir(tmp_path)
    with running_server(tmp_path / "data", agents=target) as server:
        first = asyncio.run(names_of(CLIENT)["main"](server.url, KEY))
        second = names_of(SYNC)["ask"](server.url, KEY)
        tool = names_of(REGISTER)["register"](server.url, KEY)
        with server.client() as client:
            task = start(client, "payer")
            task.paused()
            third = asyncio.run(names_of(CRASH)["go_on"](server.url, KEY, "payer", task.number))
            schemas = client.get("/api/tools").json()["schemas"]

    assert first.startswith("It is 20")
    assert second == "It is noon."
    assert third == "completed"
    assert [schema["id"] for schema in schemas] == [tool]
    assert (tmp_path / "tools.db").exists()
