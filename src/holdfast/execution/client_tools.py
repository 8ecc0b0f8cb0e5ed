"""
Registered tools: what is known beforehand of a tool that the callers of runs execute in their own process.

Only the assistant needs a tool to be registered, because its model has to know of it. For all agents a registered tool
gives the deadline and what happens at it, and arguments that break its schema ask nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from holdfast.clock import Clock
from holdfast.execution.schema import schema_of
from holdfast.model import Record
from holdfast.store.base import Store

KIND: Final = "tool"

# Another process may have registered something; it is seen here so much later at most.
KEPT_SECONDS: Final = 1.0


class ClientTool(msgspec.Struct, frozen=True, kw_only=True):
    """A registered tool. `schema` is a JSON Schema 2020-12 of an object."""

    id: str
    name: str
    namespace: str = ""
    description: str = ""
    schema: dict[str, Any]
    strict: bool = False
    expires_in: float | None = None  # seconds
    on_expiry: str | None = None
    default: str | None = None
    is_active: bool = True
    created_by: str = ""

    @property
    def full_name(self) -> str:
        """`tool` or `namespace.tool`: what agents call."""
        return f"{self.namespace}.{self.name}" if self.namespace else self.name

    def misfit(self, arguments: Any) -> str | None:
        """Why nobody is to be asked for a call with these arguments; None: they fit."""
        misfits = schema_of(self.schema).misfits(arguments)
        if not misfits:
            return None
        texts = "; ".join(misfit.text for misfit in misfits[:5])
        return f"the arguments of {self.full_name} do not fit: {texts}"


def tool_of(record: Record) -> ClientTool:
    """The tool that a record of the kind `tool` holds."""
    return msgspec.json.decode(record.body, type=ClientTool)


class ClientTools:
    """The active tools of each tenant, as they were at most a second ago."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[str, tuple[float, Mapping[str, ClientTool]]] = {}
        self._loading: dict[str, asyncio.Task[Mapping[str, ClientTool]]] = {}

    async def of(self, tenant: str) -> Mapping[str, ClientTool]:
        """
        By full name. Whoever asks meanwhile is answered in the same turn of the loop, so that calls which are made
        together stay together.

        Raises:
            StoreUnavailable
        """
        known = self._known.get(tenant)
        if known is not None and self._clock.monotonic() - known[0] < KEPT_SECONDS:
            return known[1]
        loading = self._loading.get(tenant)
        if loading is None:
            loading = self._loading[tenant] = asyncio.create_task(self._load(tenant))
            loading.add_done_callback(lambda _: self._loading.pop(tenant, None))
        return await asyncio.shield(loading)

    def forget(self, tenant: str) -> None:
        """Something was registered here."""
        self._known.pop(tenant, None)

    async def _load(self, tenant: str) -> Mapping[str, ClientTool]:
        began = self._clock.monotonic()
        tools = [tool_of(record) for record in await self._store.records(KIND, tenant=tenant)]
        found = {tool.full_name: tool for tool in tools if tool.is_active}
        self._known[tenant] = (began, found)
        return found
