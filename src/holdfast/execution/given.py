"""
What a run is given at its start beside its input, and keeps to its end: recorded steps that were there before it began.

They are made of values that only the program of the run understands (`Context.given`). The definition that an agent has
at the moment of the start is one of them (`Context.definition`): the run is executed by it, however often and however
long after, also if the files that it came from have changed. It is kept in the store under its SHA-256, once for all
runs that began with it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from holdfast.errors import AgentMissing
from holdfast.execution.codec import encode_result
from holdfast.model import Record, Step

if TYPE_CHECKING:
    from holdfast.clock import Clock
    from holdfast.store.base import Store

_PREFIX: Final = "given:"
_NOTE: Final = "/note:"
DEFINITION: Final = "definition"
OUTPUT_SCHEMA: Final = "output_schema"  # JSON Schema: what the caller of this run wants its output to fit
DIRECT: Final = "direct"  # true: the caller wants no plan made first
THINKING: Final = "thinking"  # true: the caller wants the model to think at length
DEFINITION_KIND: Final = "definition"

# Of those that were used last; one has some kilobytes.
KEPT_IN_MEMORY: Final = 256


def given_step(name: str, value: Any, at: int) -> Step:
    """A value for `Context.given(name)`, for `StartRequest.inherited`; `at` is the time in microseconds."""
    data = encode_result(value, what=f"what a run is given as {name!r}")
    return Step(
        number=0,
        key=given_key(name),
        name=name,
        status="completed",
        started_at=at,
        completed_at=at,
        output=data,
        sequence=0,
        reused=True,  # nothing of it was emitted, and the code need not ask for it
    )


def given_key(name: str) -> str:
    """The key of the step that holds what a run is given under a name."""
    return f"{_PREFIX}{name}"


def is_given(step: Step) -> bool:
    """Whether it is one of these, or a note that a step keeps for itself; people are not shown such as a step."""
    return step.key.startswith(_PREFIX) or _NOTE in step.key


def with_given(steps: Iterable[Step], given: Iterable[Step]) -> tuple[Step, ...]:
    """These steps, with what is given in place of what has the same key."""
    return tuple({step.key: step for step in (*steps, *given)}.values())


class Definitions:
    """The definitions of agents with which runs began, by their SHA-256 in hex."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    async def keep(self, tenant: str, data: bytes) -> str:
        """Keep a definition; when its name comes back, it is durable."""
        name = hashlib.sha256(data).hexdigest()
        if (tenant, name) not in self._known:
            now = self._clock.now()
            record = Record(kind=DEFINITION_KIND, tenant=tenant, name=name, body=data, created_at=now, updated_at=now)
            await self._store.put_records([record])
        self._remember(tenant, name, data)
        return name

    async def get(self, tenant: str, name: str) -> bytes:
        """
        The definition of this name.

        Raises:
            AgentMissing: the store does not have it.
        """
        data = self._known.get((tenant, name))
        if data is None:
            record = await self._store.record(tenant, DEFINITION_KIND, name)
            if record is None:
                raise AgentMissing(f"the store does not have the definition {name} any more, with which the run began")
            data = record.body
        self._remember(tenant, name, data)
        return data

    def _remember(self, tenant: str, name: str, data: bytes) -> None:
        self._known[tenant, name] = data
        self._known.move_to_end((tenant, name))
        if len(self._known) > KEPT_IN_MEMORY:
            self._known.popitem(last=False)
