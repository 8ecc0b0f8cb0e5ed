"""Finding the place in a stored journal at which a fork leaves a run."""

from __future__ import annotations

from collections.abc import AsyncIterator

from holdfast.errors import InvalidRequest
from holdfast.execution.forking import Point
from holdfast.journal.chunk import chunk_of
from holdfast.model import Run, Step
from holdfast.model.encoding import decode_event
from holdfast.store.base import Store

PAGE_BYTES_MAX = 256 * 1024


def point_at(run: Run, sequence: int) -> Point:
    """
    The point in front of an event.

    Raises:
        InvalidRequest: the journal does not reach that far.
    """
    if sequence > run.tail_sequence:
        raise InvalidRequest(
            f"from_sequence is at most {run.tail_sequence}, the last event of run {run.run_id}, not {sequence}",
            field="from_sequence",
        )
    return Point(sequence)


async def point_before(store: Store, run: Run, key: str) -> Point:
    """
    The point at which a step began, whether events show it or not.

    Raises:
        InvalidRequest: the run has no step of this key.
    """
    step = next((step for step in await store.steps(run.number) if step.key == key), None)
    if step is None:
        raise InvalidRequest(f"run {run.run_id} has no step {key[:200]!r}; its steps tell their keys", field="step")
    async for sequence, line in _events(store, run, "step_started"):
        if decode_event(line)["step"] == key:
            return Point(sequence, key)
    return Point(await _first_after(store, run, step), key, step.started_at)


async def _first_after(store: Store, run: Run, step: Step) -> int:
    """The first event that was committed in a segment begun later than this step."""
    marks = await store.marks(run.number)
    return next((item.first for item in marks if item.first_timestamp > step.started_at), run.tail_sequence + 1)


async def _events(store: Store, run: Run, type: str) -> AsyncIterator[tuple[int, str]]:
    """The stored events of a type, with their sequences."""
    after = run.first_sequence - 1
    while after < run.tail_sequence:
        page = await store.segments(run.number, after=after, bytes_max=PAGE_BYTES_MAX)
        if not page:
            return
        chunk = chunk_of(page, after)
        for offset, name in enumerate(chunk.types):
            if name == type:
                yield chunk.first + offset, chunk.lines[offset]
        after = chunk.last
