"""Claims: which of several workers executes a call. A claim is a lease; who is stopped for longer than that has lost it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum
from typing import Any, Final

from holdfast.client.workflow.errors import WorkflowError, WorkflowHTTPError
from holdfast.client.workflow.http import Http, is_passing

log = logging.getLogger("holdfast.client")

LEASE_SECONDS: Final = 60.0
# A refusal without a time, which the protocol does not know, is asked about again after this.
RETRY_SECONDS: Final = 1.0


class Claim(Enum):
    OURS = "ours"
    ANSWERED = "answered"


class Claims:
    """The claim of one call. `number` is that of the claim that we have or had, None before the first."""

    def __init__(self, http: Http, path: str, call_id: str, worker: str, lease_seconds: float | None) -> None:
        self.number: int | None = None
        self._http = http
        self._path = path
        self._call_id = call_id
        self._worker = worker
        self._lease_seconds = lease_seconds

    async def take(self) -> Claim | float:
        """
        Ours; answered, so that there is nothing to do; or the seconds after which to ask again.

        Raises:
            WorkflowError: the server refuses us altogether.
        """
        backoff = self._http.backoff()
        while True:
            try:
                return await self._ask()
            except WorkflowError as exc:
                if isinstance(exc, WorkflowHTTPError) and exc.status_code in (409, 422):
                    return Claim.ANSWERED  # the run, or the round, is over
                if not is_passing(exc):
                    raise
                await self._http.pause(backoff.next_seconds(getattr(exc, "retry_after", None)))

    @asynccontextmanager
    async def renewed(self, on_loss: Callable[[], None]) -> AsyncIterator[None]:
        """Renew at a third of the lease, as long as the block runs. `on_loss` is called once somebody else has the claim."""
        if self._lease_seconds is None:
            yield
            return
        renewing = asyncio.create_task(self._renew(self._lease_seconds / 3, on_loss))
        try:
            yield
        finally:
            renewing.cancel()
            # Not awaited itself: its own cancellation could not be told from that of who waits here.
            await asyncio.wait({renewing})

    async def _renew(self, seconds: float, on_loss: Callable[[], None]) -> None:
        held = self.number
        while True:
            await asyncio.sleep(seconds)
            try:
                claim = await self._ask()
            except WorkflowError as exc:
                # Until somebody else has it, the call is ours: a result is not refused for an old lease.
                log.warning("the claim of call %s was not renewed: %s", self._call_id, exc)
                continue
            if claim is not Claim.OURS or self.number != held:
                # A new number means that another one had it in between, and may have executed the call.
                on_loss()
                return

    async def _ask(self) -> Claim | float:
        body = {"worker": self._worker, "call_ids": [self._call_id], "lease_seconds": self._lease_seconds}
        answer: dict[str, Any] = await self._http.request("POST", f"{self._path}/tool_calls/claim", body=body)
        if answer["claimed"]:
            self.number = answer["claimed"][0]["claim"]
            return Claim.OURS
        refused = answer["refused"][0]
        if refused["reason"] == "claimed":
            return float(refused.get("retry_after") or RETRY_SECONDS)
        return Claim.ANSWERED
