"""Finding the run that a path names, and waiting until there is something to say of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from holdfast.api.http.call import Call
from holdfast.api.skills.bodies import concerns
from holdfast.api.skills.outcome import Asked
from holdfast.api.skills.runs import is_ours
from holdfast.api.workflow.webhook_body import event_at
from holdfast.errors import RunNotFound
from holdfast.execution.events import interrupt_event
from holdfast.model import Interrupt, Kind, Run, Status
from holdfast.model.encoding import decode_event

# A run that only sleeps is looked at so often: it may be cancelled, or the server stop.
LOOK_SECONDS: Final = 0.25


async def find_run(request: Call) -> Run:
    """
    The run of the path. Below operator a caller sees the runs of its own key alone.

    Raises:
        RunNotFound: unknown, of another tenant or key, or no run of a skill or capability.
    """
    run = await visible_run(request, request.path_value("run_id"))
    concerns(request, run)
    return run


async def visible_run(request: Call, run_id: str) -> Run:
    """The run of this id, if the caller sees it."""
    run = await request.runs.get(request.caller, run_id)
    if not is_ours(run) or not sees(request, run):
        raise RunNotFound(f"there is no run {run_id!r}", run_id=run_id)
    return run


def sees(request: Call, run: Run) -> bool:
    """Whether the caller sees a run: its own, and from operator on all of its tenant."""
    return run.caller == request.caller.name or request.caller.has("operator")


async def asked_of(request: Call, run: Run) -> list[Asked]:
    """
    What a run asks, of people or of its caller's process, and what is not answered yet, as the events that ask it; the
    oldest first.
    """
    if run.status not in (Status.RUNNING, Status.WAITING):
        return []
    found = open_questions(await request.runs.store.interrupts(run.number))
    return [await _event_of(request, run, item) for item in found]


async def _event_of(request: Call, run: Run, interrupt: Interrupt) -> Asked:
    # Which step asks for a round of calls, its event alone tells.
    if interrupt.kind is Kind.TOOL and interrupt.sequence is not None:
        event = await event_at(request.runs.journal, run, interrupt.sequence)
        if event is not None:
            return event
    name, own = interrupt_event(interrupt)
    return decode_event(f'{{"type":"{name}"{own}}}')


def open_questions(interrupts: Sequence[Interrupt]) -> list[Interrupt]:
    """Those of a run's interrupts that wait for an answer."""
    return [item for item in interrupts if item.is_pending and item.kind is not Kind.TIMER]


async def settled(request: Call, run: Run, seconds: float) -> tuple[Run, list[Asked]]:
    """
    The run once it is over or waits for the outside, with what it asks; or as it is after so many seconds, or at a stop.

    A run that only sleeps, until its next attempt for example, waits for nobody.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        left = deadline - loop.time()
        run = await request.runs.wait(request.caller, run.run_id, timeout=max(left, 0))
        asked = await asked_of(request, run) if run.status is Status.WAITING else []
        if run.status is not Status.WAITING or asked or left <= 0 or request.services.shutdown.is_set:
            return run, asked
        await asyncio.sleep(min(LOOK_SECONDS, left))
