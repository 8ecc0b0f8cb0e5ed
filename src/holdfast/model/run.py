"""
A run and what hangs on it, as frozen data. Times are integer microseconds since 1970 in UTC.

JSON that the kernel only keeps and hands on (input, output, answers) stays encoded, as bytes.
"""

from __future__ import annotations

from typing import Any

import msgspec

from holdfast.model.lifecycle import Status

DEFAULT_TENANT = "default"


class Failure(msgspec.Struct, frozen=True):
    """Why a run or a step failed."""

    message: str
    code: str
    details: dict[str, Any] = {}


class Cancel(msgspec.Struct, frozen=True):
    """The receipt of a cancellation. `stopped` is None while, or if, the executing code did not return."""

    reason: str
    requested: int
    stopped: int | None = None


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of an agent."""

    number: int  # from 1, unique in the store
    run_id: str  # unique in its tenant
    tenant: str = DEFAULT_TENANT
    agent: str
    agent_id: str
    thread_id: str | None = None
    parent: int | None = None  # the number of the run that started this one
    status: Status
    attempt: int = 1  # grows when a crash, not an answer, had it executed again
    priority: int = 0  # higher goes first
    superseded: bool = False  # an edit or a retry took the turn's place; models do not see it any more
    input: bytes
    output: bytes | None = None
    error: Failure | None = None
    cancel: Cancel | None = None
    usage: bytes | None = None
    caller: str = ""  # the name of the key that started it
    role: str = "admin"
    trust: str = "standard"
    metadata: dict[str, Any] = {}  # of the APIs; the kernel does not look inside
    timeout_seconds: float | None = None
    executed_seconds: float = 0.0  # spent by attempts that are over; waiting does not count
    created_at: int
    started_at: int | None = None
    ended_at: int | None = None
    # The lease: who may write.
    lease_owner: str | None = None
    lease_epoch: int = 0
    lease_until: float | None = None  # by the store's own clock; None: nobody holds it
    # The journal.
    epoch: int = 0  # grows when history was rolled back by a restored backup
    epochs: tuple[tuple[int, int], ...] = ()  # of each later epoch: (epoch, first sequence that it could write)
    first_sequence: int = 0  # the oldest one that is kept
    tail_sequence: int  # the newest one
    prior_hash: bytes = bytes(32)  # the chain's hash before the first kept segment
    head_hash: bytes = bytes(32)  # the chain's hash after the last segment
    last_timestamp: int = 0

    @property
    def is_leased(self) -> bool:
        """
        Some process holds the run, as far as the row tells; the store decides whether its lease still runs.

        An empty owner stands for a holder that is gone: whoever comes may take the run.
        """
        return bool(self.lease_owner)


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """
    Adjacent events of one run that were committed together.

    `hash` is SHA-256 over the 32 raw bytes of the hash before it, then the body. `marks` say which of its events
    were emitted inside a step: rows of (first, last, step key); they serve recovery alone and are not hashed.
    """

    number: int
    first: int
    last: int
    first_timestamp: int
    last_timestamp: int
    body: bytes  # canonical lines, each ended by LF
    hash: bytes
    marks: tuple[tuple[int, int, str], ...] = ()


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of work whose result is recorded, so that it is not done again."""

    number: int
    key: str
    name: str
    status: str  # running, completed, failed, skipped, degraded
    attempts: int = 1
    at_most_once: bool = False
    started_at: int
    completed_at: int | None = None
    output: bytes | None = None
    error: Failure | None = None
    sequence: int | None = None  # the tail of the journal when the result was recorded
    reused: bool = False  # taken over by a fork

    @property
    def is_recorded(self) -> bool:
        """The step is over: executing the run again returns this result without running it."""
        return self.status != "running"


class Thread(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation: the ordered runs that share a `thread_id`."""

    tenant: str
    thread_id: str
    agent: str  # of its last run
    active: int | None = None  # the number of the run that is not finished
    created_at: int
    updated_at: int
    last_timestamp: int = 0


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What a person or an agent said in a thread."""

    message_id: str
    number: int  # of its run
    role: str  # user, assistant
    content: str
    media: bytes = b"[]"
    detail: bytes | None = None  # of an assistant's message: the model messages of its turn, for the next request
    created_at: int
    superseded: bool = False


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key that opens the APIs. Only its SHA-256 is kept."""

    name: str
    hash: str  # SHA-256 of the key, in hex
    role: str
    tenant: str
    created_at: int
    revoked_at: int | None = None


class File(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes given to or made by a run."""

    file_id: str
    tenant: str
    number: int | None = None  # the run it is kept with; None: 24 hours
    name: str
    media_type: str
    size: int
    sha256: str
    created_at: int
