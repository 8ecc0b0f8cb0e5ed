"""What the Runtime API answers. Times are texts, as the wire has them."""

from __future__ import annotations

from typing import Any, Final, Literal

from holdfast.client.records import Record

Status = Literal["accepted", "running", "waiting", "completed", "failed", "cancelled"]
FINISHED: Final = ("completed", "failed", "cancelled")
VALUES: Final = frozenset({"input", "output"})


class StartedRun(Record):
    """The answer to a start: the run and its first event are on disk."""

    __slots__ = ()
    run_id: str
    status: Status
    events_url: str
    created_at: str


class Invocation(Record):
    """
    What `invoke` came to: `output`, or, where the run waits for an answer, `status` "waiting" with `run_id` and
    `interrupts`.
    """

    __slots__ = ()
    _values = VALUES
    output: Any
    metadata: Record
    run_id: str
    interrupts: list[Any]

    @property
    def is_waiting(self) -> bool:
        """Whether the run waits, and has no output yet."""
        return self.get("status") == "waiting"


class Run(Record):
    """A run as it stands: its status, its output or error, what waits in `interrupts`."""

    __slots__ = ()
    _values = VALUES
    run_id: str
    number: int
    status: Status
    agent: str
    thread_id: str
    attempt: int
    epoch: int
    first_sequence: int
    tail_sequence: int
    created_at: str
    completed_at: str | None
    input: Any
    output: Any
    error: Record | None
    cancel: Record | None
    interrupts: list[str]
    metadata: Record
    events_url: str

    @property
    def is_finished(self) -> bool:
        """Whether it is completed, failed or cancelled."""
        return self["status"] in FINISHED


class RunPage(Record):
    """A page of runs, newest first. `next_cursor` is for the next page, None on the last."""

    __slots__ = ()
    runs: list[Run]
    next_cursor: str | None
