"""
The part of the store's contract that is about records and deliveries; see `Store`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from holdfast.model import Delivery, Record
    from holdfast.store.base import OutboxRow


class Records(Protocol):
    """Small named things beside runs, and what is sent to endpoints."""

    async def put_records(self, records: Sequence[Record]) -> None:
        """Insert them, or replace those of the same kind, tenant and name, but for `created_at`; all or none."""
        ...

    async def record(self, tenant: str, kind: str, name: str) -> Record | None: ...

    async def records(self, kind: str, *, tenant: str | None = None, number: int | None = None) -> list[Record]:
        """Those of a kind, in the order in which they were first put; of one tenant or one run, if that is given."""
        ...

    async def swap_record(self, record: Record, before: bytes) -> bool:
        """Replace a record if its body is still `before`; whether it was."""
        ...

    async def delete_record(self, tenant: str, kind: str, name: str) -> bool:
        """Whether it was there."""
        ...

    async def attach_files(self, tenant: str, file_ids: Sequence[str], number: int) -> None:
        """Keep these files with a run from now on; those that go with one already stay with it."""
        ...

    async def prune_loose(self, kind: str, before: int) -> int:
        """Delete those of a kind that go with no run and were made before this time."""
        ...

    async def deliver(self, deliveries: Sequence[Delivery], taken: Sequence[OutboxRow]) -> None:
        """
        Take rows out of the outbox, and have these deliveries instead; in one transaction. Of an event that is on its way
        to its endpoint already, nothing changes.
        """
        ...

    async def take_deliveries(self, *, now: int, until: int, limit: int, endpoint_max: int) -> list[Delivery]:
        """
        Some that are due, the oldest first. Nobody else gets them before `until`, or before `put_delivery`; of one endpoint
        never more than `endpoint_max` are taken at a time, whoever takes them.
        """
        ...

    async def keep_deliveries(self, delivery_ids: Sequence[str], until: int) -> None:
        """Those that were taken are somebody's until then."""
        ...

    async def put_delivery(self, delivery: Delivery, *, due: int | None = None) -> None:
        """
        Note what became of an attempt; whoever took it has it no more. A held one stays held. One that was due at `due`,
        and was scheduled anew since, stays so: only the attempt is noted.
        """
        ...

    async def deliveries(
        self,
        endpoint_id: str,
        *,
        status: str | None = None,
        number: int | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> list[Delivery]:
        """Those of an endpoint, newest first; `before` is the id of the one behind which to go on."""
        ...

    async def replay_deliveries(
        self,
        endpoint_id: str,
        *,
        now: int,
        event_ids: Sequence[str] | None = None,
        status: str | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> int:
        """Schedule those of runs that fit all that is given anew, for now, as if none was tried; their number comes back."""
        ...

    async def hold_deliveries(self, endpoint_id: str) -> int:
        """Let the pending ones of an endpoint wait for a replay."""
        ...

    async def prune_deliveries(self, before: int) -> int:
        """Delete those that were made before this time."""
        ...
