"""
What is on record of a run that is executed again, and which of its events have to be dropped.

Executing again means: from the top, with the recorded results. A recorded step returns its result without running.
What the code emits outside of steps before it has consumed all of them was emitted by an earlier attempt already,
and is not emitted a second time. No I/O.

What a fork took over is different: its results are there, but nothing was emitted in this run's journal yet, and with
another input the code may go another way. So it counts neither as replayed nor as missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from holdfast.model import Interrupt, Kind, Segment, Step


class Record:
    """The recorded steps and interrupts of a run, and which of them the code has not asked for yet."""

    def __init__(self, steps: Iterable[Step] = (), interrupts: Iterable[Interrupt] = ()) -> None:
        self.steps = {step.key: step for step in steps}
        self.interrupts = {interrupt.step: interrupt for interrupt in interrupts}
        own_steps = {step.key for step in self.steps.values() if step.is_recorded and not step.reused}
        own_interrupts = {key for key, interrupt in self.interrupts.items() if not interrupt.is_reused}
        self._taken_over = {step.key for step in self.steps.values() if step.is_recorded and step.reused}
        self._open = own_steps | (own_interrupts - self._rounds()) | self._calls()

    def _rounds(self) -> set[str]:
        """Keys of interrupts that the code does not ask for by themselves: it asks for the calls in them."""
        return {key for key, interrupt in self.interrupts.items() if interrupt.kind is Kind.TOOL}

    def _calls(self) -> set[str]:
        """Keys of the tool calls that were asked. Their steps are never recorded; they say which part is theirs."""
        own = {
            part.tool_call_id
            for interrupt in self.interrupts.values()
            if interrupt.kind is Kind.TOOL and not interrupt.is_reused
            for part in interrupt.parts
        }
        return {
            key
            for key, step in self.steps.items()
            if own and not step.is_recorded and step.output and call_of(step.output) in own
        }

    @property
    def is_replaying(self) -> bool:
        """The code has not consumed its record yet, so what it emits outside of steps is known already."""
        return bool(self._open)

    @property
    def unconsumed(self) -> Sequence[str]:
        """Keys that the code did not ask for; at its end there must be none."""
        return sorted(self._open)

    @property
    def unused(self) -> Sequence[str]:
        """Keys of steps that were taken over and that the code did not ask for: nothing to a fork, but to a replay."""
        return sorted(self._taken_over)

    def step(self, key: str) -> Step | None:
        """The step under this key, in whatever status."""
        return self.steps.get(key)

    def interrupt(self, key: str) -> Interrupt | None:
        """The interrupt that was asked under this key."""
        return self.interrupts.get(key)

    def consume(self, key: str) -> None:
        """The code asked for this one; with a step go all that were recorded inside it."""
        self._open = _without(self._open, key)
        self._taken_over = _without(self._taken_over, key)


def _without(keys: set[str], key: str) -> set[str]:
    """These without this one and those inside it."""
    keys.discard(key)
    inside = key + "/"
    return {other for other in keys if not other.startswith(inside)} if keys else keys


def call_of(output: bytes) -> str:
    """The id of the tool call that a step asked."""
    return str(msgspec.json.decode(output)["call_id"])


# Facts of the run itself and of the outside stay true, whatever is done again.
KEPT_TYPES = frozenset({"started", "restarted", "interrupt", "interrupt_resolved", "memory", "compaction"})


def last_recorded(steps: Iterable[Step], interrupts: Iterable[Interrupt]) -> int:
    """The sequence up to which everything outside of steps was emitted by code that is not emitting again; -1: none."""
    recorded = [step.sequence for step in steps if step.is_recorded and step.sequence is not None]
    asked = [interrupt.resolved_sequence or interrupt.sequence or 0 for interrupt in interrupts]
    return max([*recorded, *asked], default=-1)


def discarded(
    marks: Sequence[Segment], types: Sequence[tuple[int, str]], steps: Sequence[Step], interrupts: Sequence[Interrupt]
) -> list[tuple[int, int]]:
    """
    The ranges of events that a restart makes void, exact and in order.

    `types` are (sequence, type) of the events that may be concerned, in order: those behind the last discard. An
    event goes when the work that emitted it is done again: it lies in a step that is not recorded, or outside of
    steps behind everything that is.
    """
    recorded = {step.key for step in steps if step.is_recorded}
    owners: dict[int, str] = {}
    for segment in marks:
        for first, last, key in segment.marks:
            owners.update(dict.fromkeys(range(first, last + 1), key))
    floor = last_recorded(steps, interrupts)
    ranges: list[tuple[int, int]] = []
    for sequence, name in types:
        if name in KEPT_TYPES:
            continue
        owner = owners.get(sequence)
        is_void = sequence > floor if owner is None else not _is_covered(owner, recorded)
        if not is_void:
            continue
        if ranges and ranges[-1][1] == sequence - 1:
            ranges[-1] = (ranges[-1][0], sequence)
        else:
            ranges.append((sequence, sequence))
    return ranges


def _is_covered(key: str, recorded: set[str]) -> bool:
    """The step, or one that it lies in, is recorded."""
    while key not in recorded:
        if "/" not in key:
            return False
        key = key.rpartition("/")[0]
    return True
