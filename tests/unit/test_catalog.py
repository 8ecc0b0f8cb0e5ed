"""Reading a catalog: what it may say, and what is told of one that does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from holdfast.agents.assistant import AssistantProgram
from holdfast.agents.catalog import Catalog, Catalogs, read_catalog
from holdfast.agents.catalog.model import definition_of
from holdfast.agents.catalog.reading import Known
from holdfast.agents.registry import Registry, registry_with
from holdfast.agents.tools import MEMORY_TOOLS, memory_tools
from holdfast.clock import HeldClock
from holdfast.errors import AgentNotFound, CatalogInvalid, ModelNotConfigured
from holdfast.memory import Memory
from holdfast.model import Record
from tests.support.catalogs import write, write_agent, write_skill, write_tool

KNOWN = Known(tools=("sum", "ask_human"), agents=("served",))


def errors_of(root: Path, known: Known = KNOWN) -> dict[str, str]:
    with pytest.raises(CatalogInvalid) as caught:
        read_catalog(root, known)
    assert caught.value.details == {"errors": caught.value.errors}
    return {error["file"]: error["message"] for error in caught.value.errors}


def test_a_catalog_says_who_may_do_what(tmp_path: Path) -> None:
    write_agent(
        tmp_path, "clerk", "Be exact.", tools=["sum", "skill.*", "brief", "tickets.open"], sub_agents=["helper"]
    )
    write_agent(tmp_path, "helper", default=True)
    write_skill(tmp_path, "summarize", scripts={"run.sh": "echo hi"})
    write_tool(tmp_path, "brief", "skill", "summarize", high_cost=True)
    write_tool(tmp_path, "sum", "platform", "sum", requires_permission=True)
    write(tmp_path / "policy.json", [{"tool": "sum", "action": "deny"}])
    servers = {"tickets": {"transport": "sse", "url": "https://tickets.example/mcp"}}
    write(tmp_path / "mcp_servers.json", {"mcpServers": servers})
    write(tmp_path / "core_soul.json", {"identity": "The clerk."})

    catalog = read_catalog(tmp_path, KNOWN)

    assert catalog.agents["clerk"].system_prompt == "Be exact."
    assert catalog.default == "helper"
    assert catalog.skills["summarize"].prompt == "Summarize: {{text}}"
    assert catalog.skills["summarize"].scripts == {"run.sh": "echo hi"}
    assert catalog.tools["brief"].implementation.ref == "summarize"
    assert catalog.policy.entries[0].action == "deny"
    assert list(catalog.servers) == ["tickets"]
    assert catalog.soul == {"identity": "The clerk.", "values": [], "patterns": []}


def test_an_empty_directory_is_an_empty_catalog(tmp_path: Path) -> None:
    write(tmp_path / "README.md", "Nothing here yet.")
    (tmp_path / "agents" / ".hidden").mkdir(parents=True)

    assert read_catalog(tmp_path, KNOWN) == Catalog()


def test_paths_may_also_be_seen_from_the_root(tmp_path: Path) -> None:
    write(tmp_path / "prompts" / "clerk.md", "From the root.")
    write_agent(tmp_path, "clerk", system_prompt_path="prompts/clerk.md")

    assert read_catalog(tmp_path, KNOWN).agents["clerk"].system_prompt == "From the root."


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    write_agent(tmp_path, "one", name="other")
    write_agent(tmp_path, "two", tools=["nothing"])
    write_agent(tmp_path, "three", sub_agents=["nobody"])
    write_agent(tmp_path, "four", system_prompt_path="missing.md")
    write_agent(tmp_path, "five", more=1)
    write_agent(tmp_path, "served")
    (tmp_path / "agents" / "six").mkdir()
    write(tmp_path / "agents" / "seven" / "agent.json", "{")
    write(tmp_path / "agents" / "eight.json", "{")
    write(tmp_path / "agents" / "README.md", "Agents.")
    write(tmp_path / "skills" / "flat.json", {"name": "flat"})
    write_skill(tmp_path, "No-Name")
    write_skill(tmp_path, "empty", None)
    write_tool(tmp_path, "t1", "platform", "nothing")
    write_tool(tmp_path, "t2", "skill", "nothing")
    write_tool(tmp_path, "t3", "mcp", "nothing.at_all")
    write_tool(tmp_path, "t4", "other", "sum")
    write_tool(tmp_path, "t5", "platform", "sum", input_schema={"type": "nonsense"})
    write_tool(tmp_path, "ask_human", "platform", "sum")
    write(tmp_path / "policy.json", [{"tool": "x", "action": "perhaps"}])
    write(tmp_path / "mcp_servers.json", {"mcpServers": {"UPPER": {"transport": "sse", "url": "https://a.example"}}})
    write(tmp_path / "core_soul.json", {"identity": 5})

    errors = errors_of(tmp_path)

    expected = {
        "agents/one/agent.json": "has to be 'one'",
        "agents/two/agent.json": "no tool 'nothing'",
        "agents/three/agent.json": "no agent 'nobody'",
        "agents/four/agent.json": "no file missing.md",
        "agents/five/agent.json": "unknown field `more`",
        "agents/served/agent.json": "served already",
        "agents/six/agent.json": "no file agents/six/agent.json",
        "agents/seven/agent.json": "truncated",
        "agents/eight.json": "belongs into agents/eight/agent.json",
        "skills/flat.json": "belongs into skills/flat/skill.json",
        "skills/No-Name/skill.json": "is no name",
        "skills/empty/skill.json": "prompt_path is missing",
        "tools/t1.json": "no platform tool 'nothing'",
        "tools/t2.json": "no skill 'nothing'",
        "tools/t3.json": "no <server>.<action>",
        "tools/t4.json": "Invalid enum value 'other'",
        "tools/t5.json": "input_schema",
        "tools/ask_human.json": "is a platform tool",
        "policy.json": "Invalid enum value 'perhaps' - at `$[0].action`; an action is allow, ask or deny",
        "mcp_servers.json": "lower-case letters",
        "core_soul.json": "Expected `str`",
    }
    assert set(errors) == set(expected)
    assert [file for file, text in expected.items() if text not in errors[file]] == []


@pytest.mark.parametrize("path", ["../../../secret.md", "/etc/hostname", "link.md"])
def test_no_path_leads_outside(tmp_path: Path, path: str) -> None:
    (secret := tmp_path / "secret.md").write_text("secret")
    write_agent(root := tmp_path / "catalog", "one", system_prompt_path=path)
    (root / "agents" / "one" / "link.md").symlink_to(secret)

    assert "outside" in errors_of(root)["agents/one/agent.json"]


def test_one_agent_is_the_default_one(tmp_path: Path) -> None:
    write_agent(tmp_path, "one", default=True)
    write_agent(tmp_path, "two", default=True)

    assert list(errors_of(tmp_path)) == ["agents/one/agent.json", "agents/two/agent.json"]


def test_a_model_that_cannot_work_is_told(tmp_path: Path) -> None:
    def check_model(name: str) -> None:
        raise ModelNotConfigured(f"{name} needs a key", setting="HOLDFAST_MODEL")

    write_agent(tmp_path, "one", model="anthropic:test")

    assert errors_of(tmp_path, Known(check_model=check_model)) == {
        "agents/one/agent.json": "model: anthropic:test needs a key"
    }


def test_no_directory_is_no_catalog(tmp_path: Path) -> None:
    assert "no such directory" in str(errors_of(tmp_path / "nothing"))


def test_a_definition_has_what_its_agent_reaches_and_nothing_else(tmp_path: Path) -> None:
    write_agent(tmp_path, "one", sub_agents=["two"], tools=["skill.a"])
    write_agent(tmp_path, "two", sub_agents=["one"], tools=["brief"])
    write_agent(tmp_path, "three", tools=["skill.c"])
    for name in ("a", "b", "c"):
        write_skill(tmp_path, name)
    write_tool(tmp_path, "brief", "skill", "b")
    catalog = read_catalog(tmp_path, KNOWN)

    definition = definition_of("one", catalog.agents, catalog.tools, catalog.skills)

    assert (set(definition.agents), set(definition.tools), set(definition.skills)) == (
        {"one", "two"},
        {"brief"},
        {"a", "b"},
    )
    again = read_catalog(tmp_path, KNOWN)
    assert definition_of("one", again.agents, again.tools, again.skills).encode() == definition.encode()


def test_the_memory_tools_have_the_names_that_a_catalog_may_use() -> None:
    memory: Any = Memory
    assert tuple(tool.name for tool in memory_tools(memory)) == MEMORY_TOOLS


# The agents that are served


def served(root: Path, *, default: str | None = None) -> Registry:
    return registry_with([], AssistantProgram, default=default, catalog=str(root), has_assistant=True)


def test_the_default_agent_is_the_named_one_then_the_catalogs_then_the_assistant(tmp_path: Path) -> None:
    write_agent(tmp_path, "clerk")
    write_agent(tmp_path, "other")
    assert served(tmp_path).default == "assistant"
    write_agent(tmp_path, "clerk", default=True)
    assert served(tmp_path).default == "clerk"
    assert served(tmp_path, default="other").default == "other"
    with pytest.raises(CatalogInvalid, match="nobody"):
        served(tmp_path, default="nobody")


def test_an_agent_of_the_catalog_may_take_the_place_of_the_assistant(tmp_path: Path) -> None:
    write_agent(tmp_path, "assistant", "Mine.")

    registry = served(tmp_path)

    assert registry.listed() == ["assistant"]
    assert registry.default == "assistant"


def test_what_may_be_started_follows_the_catalog(tmp_path: Path) -> None:
    write_agent(tmp_path, "clerk")
    file = write_agent(tmp_path, "passing")
    registry = served(tmp_path)
    assert [program.name for program in registry.startable()] == ["assistant", "clerk", "passing"]
    file.unlink()
    (file.parent / "prompt.md").unlink()
    file.parent.rmdir()
    write_agent(tmp_path, "fresh", default=True)

    assert registry.catalog is not None
    registry.catalog.reload()

    assert [program.name for program in registry.startable()] == ["assistant", "clerk", "fresh"]
    assert registry.get("passing") is not None, "its runs that are not over are executed here"
    assert registry.default == "fresh"


def test_a_reload_takes_all_or_nothing(tmp_path: Path) -> None:
    write_agent(tmp_path, "one")
    write_agent(tmp_path, "two")
    write_skill(tmp_path, "brief")
    catalogs = Catalogs(str(tmp_path), AssistantProgram())
    heard: list[Catalog] = []
    catalogs.listen(heard.append)
    before = catalogs.current
    write_agent(tmp_path, "one", "Changed.")
    write_agent(tmp_path, "three")
    broken = write(tmp_path / "policy.json", "[")

    with pytest.raises(CatalogInvalid):
        catalogs.reload()

    assert catalogs.current is before
    assert heard == [before]
    broken.unlink()
    (tmp_path / "agents" / "two" / "agent.json").unlink()
    (tmp_path / "agents" / "two" / "prompt.md").unlink()
    (tmp_path / "agents" / "two").rmdir()
    found = catalogs.reload()
    assert (found.agents, found.skills, found.tools) == (["one", "three"], ["brief"], [])
    assert found.changed == ["one", "three", "two"]
    assert catalogs.listed() == ["one", "three"]
    assert set(catalogs.names()) == {"one", "two", "three"}  # whose runs may not be over
    assert heard == [before, catalogs.current]
    assert catalogs.reload().changed == []


class Records:
    """The part of a store that catalogs use."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str, str], Record] = {}

    async def put_records(self, records: Sequence[Record]) -> None:
        self._kept |= {(record.tenant, record.kind, record.name): record for record in records}

    async def record(self, tenant: str, kind: str, name: str) -> Record | None:
        return self._kept.get((tenant, kind, name))

    async def records(self, kind: str, *, tenant: str) -> list[Record]:
        return [record for key, record in self._kept.items() if key[:2] == (tenant, kind)]


async def test_a_reload_reaches_the_other_processes_of_the_store(tmp_path: Path) -> None:
    write_agent(tmp_path, "one")
    store: Any = Records()
    clock = HeldClock()
    told, other = (Catalogs(str(tmp_path), AssistantProgram()) for _ in range(2))
    write_agent(tmp_path, "two")
    await other.look(store, clock)
    assert other.listed() == ["one"]  # nobody was told to reload

    told.reload()
    await told.tell(store, clock)
    await other.look(store, clock)

    assert other.listed() == ["one", "two"]
    kept = other.current
    await other.look(store, clock)
    assert other.current is kept  # once for each reload


async def test_agents_that_a_former_process_served_still_execute_their_runs(tmp_path: Path) -> None:
    agent = write_agent(tmp_path, "one")
    store: Any = Records()
    await Catalogs(str(tmp_path), AssistantProgram()).remember(store, HeldClock())
    (agent.parent / "prompt.md").unlink()
    agent.unlink()
    agent.parent.rmdir()
    later = Catalogs(str(tmp_path), AssistantProgram())
    assert later.names() == []

    await later.remember(store, HeldClock())

    assert (later.names(), later.listed()) == (["one"], [])
    program: Any = later.get("one")
    with pytest.raises(AgentNotFound):
        await program.definition()
