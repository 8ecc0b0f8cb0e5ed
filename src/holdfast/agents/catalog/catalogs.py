"""
The catalog of a server as it is now, and its agents.

A reload takes the place of everything in one assignment, or of nothing. A run goes on with the definition that it began
with; so an agent that is gone from the catalog still executes its runs, but starts none, and no list shows it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from holdfast.agents.catalog.equipping import kit_for, tools_for
from holdfast.agents.catalog.model import Catalog, Definition, definition_of
from holdfast.agents.catalog.program import CatalogProgram
from holdfast.agents.catalog.reading import Known, read_catalog, refusal
from holdfast.agents.tools import MEMORY_TOOLS, SERVER_TOOLS
from holdfast.errors import AgentNotFound, CatalogInvalid, StoreError
from holdfast.model import Record

if TYPE_CHECKING:
    from holdfast.agents.assistant.program import AssistantProgram
    from holdfast.clock import Clock
    from holdfast.execution.program import Program
    from holdfast.store.base import Store

log = structlog.get_logger(__name__)

# Of those that were used last: each has a model and some tools.
ASSISTANTS_MAX: Final = 256

KIND: Final = "catalog_agent"
# Says when the catalog was last loaded again, whichever process was told to.
RELOAD_KIND: Final = "catalog_reload"
RELOAD_NAME: Final = "catalog"
FOLLOW_SECONDS: Final = 2.0
_NO_TENANT: Final = ""


class Reloaded(msgspec.Struct, frozen=True):
    """What a reload found, by name; `changed` is what is new, other than before, or gone."""

    agents: list[str]
    skills: list[str]
    tools: list[str]
    changed: list[str]


class Catalogs:
    """A `Finder` of the registry. Looking up may be done from any thread."""

    def __init__(
        self,
        directory: str,
        base: AssistantProgram,
        *,
        taken: Collection[str] = (),
        needed: str | None = None,
    ) -> None:
        """
        Args:
            base: the assistant that its agents are made of.
            taken: names of agents that are served otherwise.
            needed: an agent that the catalog has to have, because the server's settings name it.

        Raises:
            CatalogInvalid
        """
        self.directory = directory
        self.base = base
        self.taken = frozenset(taken)
        self._listener: Callable[[Catalog], None] | None = None
        self._reloaded_at: bytes | None = None  # the last reload that this process knows of
        self._needed = needed
        self._lock = threading.Lock()  # one reloads at a time
        self._former: dict[str, CatalogProgram] = {}
        self._assistants: OrderedDict[bytes, AssistantProgram] = OrderedDict()
        self._making = threading.Lock()
        self.current = self._read()
        self._definitions: Mapping[str, bytes] = _definitions(self.current)
        self._programs = self._made(self.current)

    # The agents

    @property
    def default(self) -> str | None:
        """The agent that answers where none is named, if the catalog says so."""
        return self.current.default

    def get(self, name: str) -> Program | None:
        return self._programs.get(name) or self._former.get(name)

    def names(self) -> list[str]:
        """Of all agents that can start runs or may have some that are not over."""
        return list(dict.fromkeys([*self._programs, *self._former]))

    def listed(self) -> list[str]:
        return list(self._programs)

    def assistant_for(self, data: bytes, definition: Definition) -> AssistantProgram:
        """The assistant that acts by a definition."""
        with self._making:
            made = self._assistants.get(data)
            if made is None:
                made = self._assistants[data] = self._equipped(definition)
            self._assistants.move_to_end(data)
            if len(self._assistants) > ASSISTANTS_MAX:
                self._assistants.popitem(last=False)
            return made

    def _equipped(self, definition: Definition) -> AssistantProgram:
        agent = definition.agents[definition.agent]
        made = self.base.variant(
            agent.name,
            model=agent.model,
            tools=tools_for(definition, self.base.tools, lambda: self.base.mcp),
            instructions=agent.system_prompt,
            kit=kit_for(definition),
        )
        known = {name: entry.description for name, entry in definition.agents.items()}
        made.use_sub_agents({name: known[name] for name in agent.sub_agents}, lambda name: self._sub(definition, name))
        return made

    def _sub(self, definition: Definition, name: str) -> AssistantProgram:
        """One that an agent delegates to: it acts by the same definition, as another of its agents."""
        own = msgspec.structs.replace(definition, agent=name)
        return self.assistant_for(own.encode(), own)

    # Reloading

    def reload(self) -> Reloaded:
        """
        Read the directory again, and take what is in it. Blocks.

        Raises:
            CatalogInvalid: nothing was changed.
        """
        with self._lock:
            before, catalog = self.current, self._read()
            definitions, programs = _definitions(catalog), self._made(catalog)
            gone = {name: self._gone(name) for name in self._programs if name not in programs}
            self._former = {**self._former, **gone}
            self._definitions, self._programs, self.current = definitions, programs, catalog
            if self._listener is not None:
                self._listener(catalog)
        changed = [*_changed(before.agents, catalog.agents), *_changed(before.skills, catalog.skills)]
        changed += _changed(before.tools, catalog.tools)
        return Reloaded(list(catalog.agents), list(catalog.skills), list(catalog.tools), list(dict.fromkeys(changed)))

    def listen(self, listener: Callable[[Catalog], None]) -> None:
        """Have somebody told of the catalog, now and after each reload; on a new store, in the place of who was before."""
        self._listener = listener
        with self._making:
            self._assistants.clear()  # those that were made for another store
        listener(self.current)

    async def tell(self, store: Store, clock: Clock) -> None:
        """Have the other processes of the store load their catalog again, too."""
        now = clock.now()
        told = str(now).encode()
        record = Record(
            kind=RELOAD_KIND,
            tenant=_NO_TENANT,
            name=RELOAD_NAME,
            body=told,
            created_at=now,
            updated_at=now,
        )
        await store.put_records([record])
        self._reloaded_at = told

    async def follow(self, store: Store, clock: Clock) -> None:
        """
        Look again and again whether another process was told to reload, until it is cancelled.

        The first look is at once, and a reload that was ever told counts as unknown: it may have been told after this
        process read its files and before it looked.
        """
        while True:
            try:
                await self.look(store, clock)
            except StoreError as exc:
                log.warning("catalog_not_followed", reason=exc.code)  # it is looked at again
            await asyncio.sleep(FOLLOW_SECONDS)

    async def look(self, store: Store, clock: Clock) -> None:
        """
        Load the catalog again if another process was told to. What does not fit here is logged, and this process goes on
        with what it has.
        """
        last = await self._last_reload(store)
        if last == self._reloaded_at:
            return
        try:
            found = await asyncio.to_thread(self.reload)
        except CatalogInvalid as exc:
            log.warning("catalog_not_reloaded", errors=list(exc.errors))
        else:
            await self.remember(store, clock)
            log.info("catalog_reloaded", changed=found.changed)
        self._reloaded_at = last

    async def _last_reload(self, store: Store) -> bytes | None:
        record = await store.record(_NO_TENANT, RELOAD_KIND, RELOAD_NAME)
        return None if record is None else record.body

    async def remember(self, store: Store, clock: Clock) -> None:
        """
        Note in the store which agents there are, and learn which there were: their runs that are not over are executed
        here, whatever became of their files.
        """
        known = {record.name for record in await store.records(KIND, tenant=_NO_TENANT)}
        now = clock.now()
        new = [
            Record(kind=KIND, tenant=_NO_TENANT, name=name, body=b"{}", created_at=now, updated_at=now)
            for name in self._programs
            if name not in known
        ]
        if new:
            await store.put_records(new)
        gone = known - self._programs.keys() - self._former.keys() - self.taken
        self._former = {**self._former, **{name: self._gone(name) for name in sorted(gone)}}

    def _read(self) -> Catalog:
        known = Known(
            tools={*self.base.tools.names(), *MEMORY_TOOLS, *SERVER_TOOLS},
            agents=self.taken,
            check_model=self.base.check_model,
        )
        catalog = read_catalog(self.directory, known)
        if self._needed is not None and self._needed not in catalog.agents:
            message = f"there is no agent {self._needed!r}, which HOLDFAST_AGENT names"
            raise refusal([{"file": "agents", "message": message}])
        return catalog

    def _made(self, catalog: Catalog) -> dict[str, CatalogProgram]:
        return {
            name: CatalogProgram(name, self._definer(name), self.assistant_for, description=agent.description)
            for name, agent in catalog.agents.items()
        }

    def _definer(self, name: str) -> Callable[[], bytes]:
        def define() -> bytes:
            data = self._definitions.get(name)
            if data is None:
                raise AgentNotFound(f"this server serves no agent {name!r} any more", agent=name)
            return data

        return define

    def _gone(self, name: str) -> CatalogProgram:
        return CatalogProgram(name, self._definer(name), self.assistant_for, is_internal=True)


def _definitions(catalog: Catalog) -> dict[str, bytes]:
    return {
        name: definition_of(name, catalog.agents, catalog.tools, catalog.skills).encode() for name in catalog.agents
    }


def _changed(before: Mapping[str, object], after: Mapping[str, object]) -> Iterable[str]:
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
