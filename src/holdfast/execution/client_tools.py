"""
Registered tools: what is known beforehand of a tool that the callers of runs execute in their own process.

Only the assistant needs a tool to be registered, because its model has to know of it. For all agents a registered tool
gives the deadline and what happens at it, and arguments that break its schema ask nobody.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from holdfast.clock import Clock
from holdfast.execution.schema import schema_of
from holdfast.model import Record
from holdfast.store.base import Store

KIND: Final = "tool"

# Of a tool, and of its namespace.
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}\Z")
NAME_RULE: Final = "a letter or _, then at most 63 letters, digits, _ or -"
EXPIRES_SECONDS_MAX: Final = 2_592_000  # 30 days
ON_EXPIRY: Final = ("error", "default", "fail")

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


def check_call(name: str, args: Any, expires_in: float | None, on_expiry: str | None, default: Any) -> None:
    """
    Make sure that a call can be asked.

    Raises:
        ValueError
    """
    namespace, dot, tool = name.rpartition(".")
    if not NAME.match(tool) or (dot and not NAME.match(namespace)):
        raise ValueError(f"a tool is named `tool` or `namespace.tool`, each {NAME_RULE}; not {name[:200]!r}")
    if args is not None and not isinstance(args, dict):
        raise ValueError(f"the arguments of {name} are a dict, not {type(args).__name__}")
    if expires_in is not None and not 1 <= expires_in <= EXPIRES_SECONDS_MAX:
        raise ValueError(f"expires_in is 1 to {EXPIRES_SECONDS_MAX} seconds, not {expires_in}")
    if on_expiry is not None and on_expiry not in ON_EXPIRY:
        raise ValueError(f"on_expiry is {', '.join(ON_EXPIRY)}; not {on_expiry!r}")
    if default is not None and not isinstance(default, str):
        raise ValueError(f"default is the text that a tool would answer, not {type(default).__name__}")


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
