"""
Gives a server its skills: the library of their files, which is followed for as long as the server runs, and their agents.
"""

from __future__ import annotations

import asyncio

import structlog

from holdfast.agents.mcp import Mcp
from holdfast.agents.registry import Registry
from holdfast.agents.skill.agents import SkillAgents
from holdfast.agents.skill.bindings import Bindings
from holdfast.agents.skill.builtin import builtins
from holdfast.agents.skill.fetching import Fetcher
from holdfast.agents.skill.generating import Generator
from holdfast.agents.skill.library import Library
from holdfast.agents.skill.program import CAPABILITY, SKILL
from holdfast.model import Status
from holdfast.settings import InvalidSetting, Settings
from holdfast.store.base import RunQuery, Store
from holdfast.webhooks.guard import Allowed

log = structlog.get_logger(__name__)


def http_allowed(settings: Settings) -> Allowed:
    """
    Where capabilities may send requests although it is not public.

    Raises:
        InvalidSetting
    """
    try:
        return Allowed.parse(settings.skills_http_allow)
    except ValueError as error:
        raise InvalidSetting(f"HOLDFAST_SKILLS_HTTP_ALLOW: {error}", "skills_http_allow") from None


class Skilled:
    """The skills of a server. Made once; `open` it before the first run, `close` it after the last one."""

    def __init__(self, settings: Settings) -> None:
        """
        Raises:
            InvalidSetting: `skills_http_allow` names no hosts and networks.
        """
        self.library = Library(settings.skills_roots)
        fetcher = Fetcher(http_allowed(settings))
        generator = Generator(settings.model, settings.model_key, settings.model_url)
        self.bindings = Bindings(builtins=builtins(fetcher, generator), fetcher=fetcher, generator=generator)
        self._following: asyncio.Task[None] | None = None

    async def open(self, programs: Registry, store: Store, mcp: Mcp) -> None:
        """Read the files, let the registry find the agents, and follow the files from now on."""
        self.bindings.mcp = mcp
        self.library.put_on_path()
        await asyncio.to_thread(self.library.refresh)
        for problem in self.library.problems():
            place = f"{problem.file}:{problem.line}:{problem.column}"
            log.warning(
                "skill_problem", place=place, severity=problem.severity, code=problem.code, message=problem.message
            )
        agents = SkillAgents(self.library, self.bindings)
        agents.knew(await _agents_with_runs(store))
        programs.finders.append(agents)
        self._following = asyncio.create_task(self.library.follow(), name="skill files")

    async def close(self) -> None:
        """Follow the files no more, and let go of connections."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await self.bindings.close()


async def _agents_with_runs(store: Store) -> set[str]:
    """The skills and capabilities with runs that are not over, whatever became of their files."""
    open_ones = (Status.QUEUED, Status.RUNNING, Status.WAITING)
    query = RunQuery(tenant=None, statuses=open_ones, agent_prefixes=(SKILL, CAPABILITY))
    return {agent for agent, _ in await store.count_runs(query)}
