"""
Gives a server's assistants their memory, what learns from their turns, the tools of MCP servers, and what decides about
tool calls. Called when the
store is open, before the first run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog

from holdfast.agents.assistant.learning import NAME, LearningProgram, run_id_of
from holdfast.agents.assistant.program import AssistantProgram
from holdfast.agents.catalog import CallingProgram, Catalog, Catalogs, PromptSkills
from holdfast.agents.mcp import Mcp
from holdfast.agents.models import credentials_of
from holdfast.agents.models.embedding import ModelEmbedder
from holdfast.agents.registry import Registry
from holdfast.agents.tools import Tool
from holdfast.agents.tools.gate import Gate
from holdfast.errors import CapacityError, RunExists, StorageFull
from holdfast.memory import NO_SOUL
from holdfast.model import Run
from holdfast.runs import Caller, Runs, StartRequest
from holdfast.settings import Settings

log = structlog.get_logger(__name__)


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
