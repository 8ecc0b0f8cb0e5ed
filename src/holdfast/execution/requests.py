"""What runs are started with. No I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from holdfast.execution.forking import Inherited
from holdfast.store.base import IdempotencyRow


class StartRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is started with. Everything in it was checked by the API that made it, but for agent and ids."""

    agent: str | None = None  # None: the default agent
    input: Any = None
    run_id: str | None = None
    thread_id: str | None = None
    message: str | None = None  # kept as the user's message of the thread
    media: Sequence[Any] = ()
    supersedes: tuple[int, ...] = ()
    metadata: dict[str, Any] = {}
    timeout_seconds: float | None = None
    priority: int | None = None  # None: what the agent declares
    parent: int | None = None
    idempotency: IdempotencyRow | None = None
    facts: dict[str, Any] = {}  # further fields of the event `started`
    inherited: Inherited = Inherited()  # what is on record already: of a fork, and what the run is given


class ForkRequest(msgspec.Struct, frozen=True, kw_only=True):
    """
    Where a fork leaves the old run: in front of the step with this key, else of an event.

    In `start`, an input that is UNSET stands for the old run's; agent and metadata are always the old run's, but
    for the endpoint that hears of the new run alone.
    """

    from_sequence: int = 0
    step: str | None = None
    redefined: bool = False  # by the definition that the agent has now; else by the old run's, where that is kept
    start: StartRequest = StartRequest(input=msgspec.UNSET)


def fingerprint(query: Any, body: Any) -> bytes:
    """SHA-256 of a call's query and JSON value: what makes two calls with one Idempotency-Key the same."""
    return hashlib.sha256(msgspec.json.encode([query, body], order="sorted")).digest()
