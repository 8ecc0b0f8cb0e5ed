"""
Which agents a server serves, under which names, and which one answers where none is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from holdfast.agents.target import TargetError, load_target
from holdfast.execution.admission import check_spec
from holdfast.execution.program import Program, declared_id, spec_of
from holdfast.execution.redaction import InvalidPattern
from holdfast.execution.schema import InvalidSchema
from holdfast.ids import is_uuid

if TYPE_CHECKING:
    from holdfast.agents.assistant.program import AssistantProgram
    from holdfast.agents.catalog import Catalogs

ASSISTANT = "assistant"


class Finder(Protocol):
    """Knows agents whose names come and go while the server runs."""

    def get(self, name: str) -> Program | None:
        """The agent of this name."""
        ...

    def names(self) -> Iterable[str]:
        """Of all agents whose runs can be executed."""
        ...

    def listed(self) -> Iterable[str]:
        """Of those that are shown to people."""
        ...


class Registry:
    """The agents of one process, in the order in which they were added; the first is the default one."""

    def __init__(
        self, programs: Iterable[Program] = (), *, default: str | None = None, catalog: Catalogs | None = None
    ) -> None:
        """
        Args:
            catalog: further agents, one of which may be the default one before the assistant.

        Raises:
            TargetError: two different agents have one name or id, a name is a UUID, or the default agent is none of them.
        """
        self.catalog = catalog
        self.finders: list[Finder] = [] if catalog is None else [catalog]
        self._programs: dict[str, Program] = {}
        for program in programs:
            self.add(program)
        if default is not None and self.get(default) is None:
            known = ", ".join(self.listed()) or "none"
            raise TargetError(f"there is no agent {default!r} to be the default one; the agents are {known}")
        self._default = default

    @property
    def default(self) -> str | None:
        """The name of the agent that answers where none is named."""
        first = next((name for name, program in self._programs.items() if not is_internal(program)), None)
        if self.catalog is not None and first in (None, ASSISTANT):
            first = self.catalog.default or first or (ASSISTANT if self.catalog.get(ASSISTANT) is not None else None)
        return self._default or first

    def add(self, program: Program) -> None:
        """
        Serve this one too.

        Raises:
            TargetError: another agent has that name or id, the name is a UUID, or what is declared of this one cannot hold.
        """
        try:
            check_spec(spec_of(program))
        except InvalidPattern as exc:
            raise TargetError(f"agent {program.name!r}: {exc.message}") from None
        except InvalidSchema as exc:
            raise TargetError(f"agent {program.name!r}: {exc.message} (at {exc.pointer or 'its root'})") from None
        if is_uuid(program.name):
            raise TargetError(f"agent {program.name!r}: a name that is a UUID could be taken for an agent's id")
        known = self._programs.setdefault(program.name, program)
        if known is not program:
            raise TargetError(f"two agents are named {program.name!r}; an agent's name must be its own")
        declared = declared_id(program)
        for other in self._programs.values():
            if declared is not None and other is not program and declared_id(other) == declared:
                raise TargetError(f"agents {other.name!r} and {program.name!r} have one id, {declared}")

    def get(self, name: str) -> Program | None:
        known = self._programs.get(name)
        if known is None:
            found = (finder.get(name) for finder in self.finders)
            known = next((program for program in found if program is not None), None)
        return known

    def names(self) -> list[str]:
        names = list(self._programs)
        for finder in self.finders:
            names += finder.names()
        return names

    def listed(self) -> list[str]:
        """The names that are shown to people: not of what the server adds for its own work."""
        names = [name for name, program in self._programs.items() if not is_internal(program)]
        for finder in self.finders:
            names += finder.listed()
        return names

    def startable(self) -> list[Program]:
        """What may be started now and is shown to people, as the files have it at this moment."""
        found = (self.get(name) for name in self.listed())
        return [program for program in found if program is not None and not is_internal(program)]

    def __iter__(self) -> Iterator[Program]:
        return iter(self._programs.values())

    def __len__(self) -> int:
        return len(self._programs)


def is_internal(program: Program) -> bool:
    """Whether an agent is the server's own, so that no list shows it."""
    return getattr(program, "is_internal", False) is True


def check_ids(names: Iterable[str], id_of: Callable[[str], str]) -> None:
    """
    Make sure that each agent has an id of its own; the store's namespace decides those that are not declared.

    Raises:
        TargetError
    """
    known: dict[str, str] = {}
    for name in names:
        other = known.setdefault(id_of(name), name)
        if other != name:
            raise TargetError(f"agents {other!r} and {name!r} have one id, {id_of(name)}")


def registry_of(
    target: str | None,
    assistant: Callable[[], AssistantProgram],
    *,
    default: str | None = None,
    catalog: str | None = None,
) -> Registry:
    """
    What `holdfast serve TARGET` serves: the target's agents, and the assistant if there is no target or `default`
    names it.

    Raises:
        TargetError, CatalogInvalid
    """
    programs = load_target(target) if target is not None else []
    return registry_with(programs, assistant, default=default, catalog=catalog, has_assistant=target is None)


def registry_with(
    programs: list[Program],
    assistant: Callable[[], AssistantProgram],
    *,
    default: str | None,
    catalog: str | None,
    has_assistant: bool = False,
) -> Registry:
    """
    These agents, those of a catalog directory, and the assistant if it is wanted or `default` names it; an agent of the
    catalog that has its name takes its place.

    Raises:
        TargetError, CatalogInvalid
    """
    names = [program.name for program in programs]
    base = assistant() if catalog is not None else None
    catalogs = None
    if catalog is not None and base is not None:
        from holdfast.agents.catalog import Catalogs

        needed = default if default not in (None, ASSISTANT, *names) else None
        catalogs = Catalogs(catalog, base, taken=names, needed=needed)
    is_wanted = has_assistant or default == ASSISTANT
    if is_wanted and ASSISTANT not in names and (catalogs is None or ASSISTANT not in catalogs.current.agents):
        programs = [*programs, base or assistant()]
        if catalogs is not None:
            catalogs.taken |= {ASSISTANT}
    return Registry(programs, default=default, catalog=catalogs)
