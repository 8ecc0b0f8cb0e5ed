"""
Gives a server's assistants what they have beside a model: memory and what learns from their turns, tools, the servers of
MCP, prompt skills, and what decides about their calls.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog

from holdfast.agents.assistant.learning import NAME, LearningProgram, run_id_of
from holdfast.agents.assistant.program import AssistantProgram
from holdfast.agents.catalog import CallingProgram, Catalog, Catalogs, PromptSkills
from holdfast.agents.mcp import Mcp, load_servers
from holdfast.agents.models import credentials_of
from holdfast.agents.models.embedding import ModelEmbedder
from holdfast.agents.registry import Registry
from holdfast.agents.tools import Tool
from holdfast.agents.tools.bash import bash_tool
from holdfast.agents.tools.egress import Egress
from holdfast.agents.tools.gate import Gate, ground_of
from holdfast.agents.tools.grants import StoredGrants
from holdfast.agents.tools.policy import load_policy
from holdfast.agents.tools.sandbox import Sandbox
from holdfast.agents.tools.secrets import secrets_of
from holdfast.agents.tools.web import web_fetch_tool, web_search_tool
from holdfast.agents.tools.workspaces import Workspaces
from holdfast.clock import Clock
from holdfast.errors import CapacityError, RunExists, StorageFull
from holdfast.ids import Ids
from holdfast.memory import NO_SOUL
from holdfast.model import Run
from holdfast.runs import Caller, Runs, StartRequest
from holdfast.settings import Settings
from holdfast.store.base import Store

log = structlog.get_logger(__name__)


class Equipment(msgspec.Struct, frozen=True):
    """What the assistants of an opened server share. `calling` is None where there are none."""

    mcp: Mcp
    gate: Gate
    sandbox: Sandbox
    prompt_skills: PromptSkills
    calling: CallingProgram | None


class Equipping:
    """What an installation says about its assistants, read at the start, and what is made of it with an open store."""

    def __init__(self, settings: Settings, programs: Registry) -> None:
        """
        Raises:
            InvalidSetting: a root is none, or `policy.json` or `mcp_servers.json` is not what it has to be.
        """
        self._settings, self._programs = settings, programs
        self._ground = ground_of(settings)
        catalog = programs.catalog
        self._policy = load_policy(settings.catalog) if catalog is None else catalog.current.policy
        self._servers = load_servers(settings.catalog) if catalog is None else catalog.current.servers

    def equip(self, runs: Runs, store: Store, clock: Clock, ids: Ids) -> Equipment:
        """
        Equip the assistants of the registry, before their first run; also what a catalog makes of one, now and later.

        Raises:
            ModelNotConfigured: the embedding model's name has no provider.
        """
        settings, programs = self._settings, self._programs
        add_memory(programs, runs, settings)
        mcp = Mcp(self._servers, store, clock, ids, key=settings.asset_key, public_url=settings.public_url)
        add_mcp(programs, mcp)
        gate = self._gate(store, clock)
        add_gate(programs, gate)
        sandbox = Sandbox(is_unsandboxed=settings.unsandboxed_shell)
        egress = mcp.egress = Egress(settings.egress_allow)
        add_tools(programs, [bash_tool(sandbox), web_fetch_tool(egress), web_search_tool(settings.search_url)])
        skills = add_skills(programs, runs)
        calling = add_calls(programs, skills, gate)
        if programs.catalog is not None:
            add_catalog(programs, programs.catalog, runs, mcp, gate)
        return Equipment(mcp, gate, sandbox, skills, calling)

    def _gate(self, store: Store, clock: Clock) -> Gate:
        secrets = secrets_of(self._settings, os.environ)
        secrets.add(*(secret for server in self._servers.values() for secret in server.secrets))
        return Gate(
            self._policy,
            grants=StoredGrants(store, clock),
            workspaces=Workspaces(Path(self._settings.data), store),
            ground=self._ground,
            secrets=secrets,
        )


def add_memory(programs: Registry, runs: Runs, settings: Settings) -> None:
    """
    Let the assistants among these remember; if settings say so, learn too, which is one more agent.

    Raises:
        ModelNotConfigured: the embedding model's name has no provider.
    """
    if settings.embedding_model is not None:
        key, url = credentials_of(settings.embedding_model, settings.model, settings.model_key, settings.model_url)
        runs.memory.embedder = ModelEmbedder(settings.embedding_model, key=key, url=url)
    assistants = assistants_of(programs)
    for assistant in assistants:
        assistant.use_memory(runs.memory)
    if not assistants or not settings.learning:
        return

    async def wait_for_end(tenant: str, run_id: str) -> Run:
        return await runs.wait(Caller(tenant=tenant), run_id, timeout=None, until_waiting=False)

    async def learn(turn: Run) -> None:
        caller = Caller(turn.caller, turn.tenant, turn.role, turn.trust)
        request = StartRequest(agent=NAME, input={"turn_id": turn.run_id}, run_id=run_id_of(turn))
        try:
            await runs.start(caller, request)
        except RunExists:
            pass  # started by an earlier execution of the turn, which a crash cut off
        except (CapacityError, StorageFull) as refusal:
            log.warning("not_learned", run_id=turn.run_id, reason=refusal.code, message=str(refusal))

    light = settings.model_light
    key, url = (
        (None, None) if light is None else credentials_of(light, settings.model, settings.model_key, settings.model_url)
    )
    programs.add(LearningProgram(runs.memory, wait_for_end, model=light, key=key, url=url))
    for assistant in assistants:
        assistant.use_learning(learn)


def add_mcp(programs: Registry, mcp: Mcp) -> None:
    """Let the assistants among these use the tools of the MCP servers that their callers' tenants are connected to."""
    for assistant in assistants_of(programs):
        assistant.use_mcp(mcp)


def add_tools(programs: Registry, tools: Sequence[Tool[Any]]) -> None:
    """Offer these tools to the models of the assistants among these."""
    for assistant in assistants_of(programs):
        assistant.use_tools(tools)


def add_gate(programs: Registry, gate: Gate) -> None:
    """Have the tool calls of the assistants among these decided by this gate."""
    for assistant in assistants_of(programs):
        assistant.use_gate(gate)


def add_skills(programs: Registry, runs: Runs) -> PromptSkills:
    """Let the assistants among these use the prompt skills of their callers' tenants."""
    skills = PromptSkills(runs.memory, programs.catalog)
    for assistant in assistants_of(programs):
        assistant.use_skills(skills)
    return skills


def add_calls(programs: Registry, skills: PromptSkills, gate: Gate) -> CallingProgram | None:
    """Serve calls of tools and prompt skills without a conversation; None where there is no assistant to have them."""
    assistants = assistants_of(programs)
    if not assistants:
        return None
    calling = CallingProgram(assistants[-1], programs.catalog, skills, gate)
    programs.add(calling)
    return calling


def add_catalog(programs: Registry, catalogs: Catalogs, runs: Runs, mcp: Mcp, gate: Gate) -> None:
    """Let what a catalog says beside its agents hold: now, and whenever it is loaded again."""

    def take(catalog: Catalog) -> None:
        runs.memory.first_soul = NO_SOUL if catalog.soul is None else catalog.soul
        mcp.servers_known, gate.policy = catalog.servers, catalog.policy
        gate.secrets.add(*(secret for server in catalog.servers.values() for secret in server.secrets))
        runs.default_agent = programs.default

    catalogs.listen(take)


def assistants_of(programs: Registry) -> list[AssistantProgram]:
    """The assistants among these, and the one that the agents of the catalog are made of."""
    found = [program for program in programs if isinstance(program, AssistantProgram)]
    if programs.catalog is not None and programs.catalog.base not in found:
        found.append(programs.catalog.base)
    return found
