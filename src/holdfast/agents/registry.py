"""
Which agents a server serves, under which names, and which one answers where none is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from holdfast.agents.target import TargetError, load_target
from holdfast.execution.admission import check_spec
from holdfast.execution.program import Program, spec_of
from holdfast.execution.redaction import InvalidPattern
from holdfast.execution.schema import InvalidSchema

ASSISTANT = "assistant"


class Registry:
    """The agents of one process, in the order in which they were added; the first is the default one."""

    def __init__(self, programs: Iterable[Program] = (), *, default: str | None = None) -> None:
        """
        Raises:
            TargetError: two different agents have one name, or the default agent is none of them.
        """
        self._programs: dict[str, Program] = {}
        for program in programs:
            self.add(program)
        if default is not None and default not in self._programs:
            known = ", ".join(self._programs) or "none"
            raise TargetError(f"there is no agent {default!r} to be the default one; the agents are {known}")
        self._default = default

    @property
    def default(self) -> str | None:
        """The name of the agent that answers where none is named."""
        return self._default or next(iter(self._programs), None)

    def add(self, program: Program) -> None:
        """
        Serve this one too.

        Raises:
            TargetError: another agent has that name, or what is declared of this one cannot hold.
        """
        try:
            check_spec(spec_of(program))
        except InvalidPattern as exc:
            raise TargetError(f"agent {program.name!r}: {exc.message}") from None
        except InvalidSchema as exc:
            raise TargetError(f"agent {program.name!r}: {exc.message} (at {exc.pointer or 'its root'})") from None
        known = self._programs.setdefault(program.name, program)
        if known is not program:
            raise TargetError(f"two agents are named {program.name!r}; an agent's name must be its own")

    def get(self, name: str) -> Program | None:
        return self._programs.get(name)

    def names(self) -> list[str]:
        return list(self._programs)

    def __iter__(self) -> Iterator[Program]:
        return iter(self._programs.values())

    def __len__(self) -> int:
        return len(self._programs)


def registry_of(target: str | None, assistant: Callable[[], Program], *, default: str | None = None) -> Registry:
    """
    What `holdfast serve TARGET` serves: the target's agents, and the assistant if there is no target or `default`
    names it.

    Raises:
        TargetError
    """
    programs = load_target(target) if target is not None else []
    is_named = default == ASSISTANT and all(program.name != ASSISTANT for program in programs)
    if target is None or is_named:
        programs.append(assistant())
    return Registry(programs, default=default)
