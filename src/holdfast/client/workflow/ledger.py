"""
What was begun and what came of it: the client's memory of calls and webhook events.

A ledger is what makes a handler run once for each (task_id, call_id): its start is stored before it runs, its output
before it is posted. `MemoryLedger` remembers as long as the process lives, `FileLedger` (in `files`) through its death,
for all processes of a machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from holdfast.client.workflow.tools import Answer

# A call that has its output comes again only with a connection that was cut; these are far more than fit in between.
ANSWERS_MAX: Final = 10_000
ANSWERS_BYTES_MAX: Final = 64 * 1024 * 1024
EVENTS_MAX: Final = 10_000

CallKey = tuple[int, str]  # task_id, call_id


class Beginning(Enum):
    """What a call is, to who wants to run its handler."""

    FRESH = "fresh"  # nobody began it; it is the asker's now
    AGAIN = "again"  # somebody began it and is gone; it is the asker's now
    BUSY = "busy"  # somebody is at it
    DONE = "done"  # it has its answer


@dataclass(frozen=True, slots=True)
class Begun:
    beginning: Beginning
    answer: Answer | None = None


class Ledger(Protocol):
    """Once a method returns, what it stored is there for whoever shares the ledger. Each is all or nothing."""

    async def begin(self, key: CallKey) -> Begun:
        """Take a call. After FRESH and AGAIN it is ours until `finish` or `abandon`, or until this process is gone."""
        ...

    async def finish(self, key: CallKey, answer: Answer) -> None:
        """Store the answer of a call that is ours. It stays."""
        ...

    async def abandon(self, key: CallKey) -> None:
        """Give back a call that is ours and has no answer: whoever begins it next gets AGAIN."""
        ...

    async def answer(self, key: CallKey) -> Answer | None:
        """The stored answer."""
        ...

    async def add_event(self, event_id: str, body: bytes) -> bool:
        """Store a webhook event, ours to finish. False: it is there already."""
        ...

    async def finish_event(self, event_id: str) -> None:
        """Nothing is left to do for this event. Its id stays known."""
        ...

    async def take_events(self) -> list[tuple[str, bytes]]:
        """The unfinished events of this process and of those that are gone, oldest first. They are ours now."""
        ...

    async def aclose(self) -> None: ...


class MemoryLedger:
    """
    A ledger that lives and dies with the process. Of the calls and events that are done, the oldest are forgotten:
    beyond 10,000, or 64 MiB of outputs.
    """

    def __init__(self) -> None:
        self._is_taken: dict[CallKey, bool] = {}  # begun, without an answer: is somebody at it
        self._answers: dict[CallKey, Answer] = {}
        self._answers_bytes = 0
        self._events: dict[str, bytes] = {}
        self._events_done: dict[str, None] = {}

    async def begin(self, key: CallKey) -> Begun:
        if key in self._answers:
            return Begun(Beginning.DONE, self._answers[key])
        is_taken = self._is_taken.get(key)
        if is_taken:
            return Begun(Beginning.BUSY)
        self._is_taken[key] = True
        return Begun(Beginning.FRESH if is_taken is None else Beginning.AGAIN)

    async def finish(self, key: CallKey, answer: Answer) -> None:
        self._is_taken.pop(key, None)
        if (before := self._answers.pop(key, None)) is not None:
            self._answers_bytes -= len(before.output)
        self._answers[key] = answer
        self._answers_bytes += len(answer.output)
        while len(self._answers) > 1 and (len(self._answers) > ANSWERS_MAX or self._answers_bytes > ANSWERS_BYTES_MAX):
            oldest = self._answers.pop(next(iter(self._answers)))
            self._answers_bytes -= len(oldest.output)

    async def abandon(self, key: CallKey) -> None:
        if key in self._is_taken:
            self._is_taken[key] = False
            while len(self._is_taken) > ANSWERS_MAX and not self._is_taken[next(iter(self._is_taken))]:
                del self._is_taken[next(iter(self._is_taken))]

    async def answer(self, key: CallKey) -> Answer | None:
        return self._answers.get(key)

    async def add_event(self, event_id: str, body: bytes) -> bool:
        if event_id in self._events or event_id in self._events_done:
            return False
        self._events[event_id] = body
        return True

    async def finish_event(self, event_id: str) -> None:
        if self._events.pop(event_id, None) is not None:
            self._events_done[event_id] = None
            while len(self._events_done) > EVENTS_MAX:
                del self._events_done[next(iter(self._events_done))]

    async def take_events(self) -> list[tuple[str, bytes]]:
        return list(self._events.items())

    async def aclose(self) -> None:
        """Nothing to close: what it knows stays known."""
