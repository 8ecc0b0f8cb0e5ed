"""Which starts ask for a place, and what becomes of one that finds none: the same on every store. No I/O."""

from __future__ import annotations

import msgspec

from holdfast.errors import CapacityError, QueueFull, TenantQueueFull
from holdfast.model import Status
from holdfast.store.base import StartRun

# Nobody can say when a run ends; a second is what a scan of the queue takes at most.
RETRY_SECONDS = 1


def is_limited(write: StartRun) -> bool:
    """Whether the run wants to begin at once, and a limit may hold it back."""
    return write.run.lease_owner is not None and (write.tenant_runs_max is not None or write.agent_runs_max is not None)


def as_queued(write: StartRun) -> StartRun:
    """The same start, of a run that has to wait for its place."""
    run = msgspec.structs.replace(write.run, status=Status.QUEUED, lease_owner=None, lease_epoch=0, lease_until=None)
    return msgspec.structs.replace(write, run=run)


def of_queue(word: str, write: StartRun) -> CapacityError:
    """The refusal that a procedure's word, `queue_full` or `tenant_queue_full`, stands for."""
    if word == "tenant_queue_full":
        return TenantQueueFull(
            f"{write.tenant_queued_max} runs of this tenant are queued already; retry when some of them have begun",
            retry_after=RETRY_SECONDS,
        )
    return QueueFull(f"{write.queued_max} runs are queued already", retry_after=RETRY_SECONDS)
