"""
From the outbox to the endpoints.

    outbox rows ── encode, filter ──► deliveries ── due, up to 4 of an endpoint ──► attempts ──► what became of them

Rows of the outbox were written with their events. Each becomes a delivery with its body, once, whichever process is
first; from then on all attempts send these bytes. A delivery is taken for some seconds, so that no two processes send it
at once; whoever dies over it leaves it to the next. So an event is delivered at least once, and twice only if somebody
died between the receiver's answer and its record.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec
import structlog

from holdfast.clock import Clock
from holdfast.errors import StoreError, StoreUnavailable
from holdfast.ids import Ids
from holdfast.model import Delivery, Record, Run
from holdfast.model.encoding import format_time
from holdfast.store.base import OutboxRow, Store
from holdfast.webhooks.endpoint import ENDPOINT, RUN_ENDPOINT, SKILLS, Endpoint, endpoint_of
from holdfast.webhooks.outcome import Outcome
from holdfast.webhooks.post import Poster
from holdfast.webhooks.schedule import MICROSECONDS, is_given_up, next_attempt, retry_after_of
from holdfast.webhooks.signing import plain_signature, signed_headers

log = structlog.get_logger(__name__)

# Attempts of one endpoint at a time, over all processes; so a slow one delays no other.
ENDPOINT_ATTEMPTS_MAX: Final = 4
# Of this process. Each holds a connection and a body.
ATTEMPTS_MAX: Final = 1000
OUTBOX_ROWS_MAX: Final = 100
# Without a hint the store is looked at so often: other processes write there too.
POLL_SECONDS: Final = 1.0
# What is due later than this is met early enough by a poll.
TIMED_SECONDS: Final = 60.0
# After this a delivery of a dead process is tried by another; a live one prolongs it while an attempt lasts.
TAKEN_SECONDS: Final = 8.0
KEPT_EVERY_SECONDS: Final = 2.0
GONE: Final = 410
# The type of a delivery whose event could not be made a body, and the error of its attempts.
UNREADABLE: Final = "unreadable"


class Encoded(msgspec.Struct, frozen=True):
    """An event as it is sent."""

    event_id: str
    type: str
    environment: str
    body: bytes


Encode = Callable[[Run, int, str], Awaitable[Sequence[Encoded]]]
"""What the event of this sequence is told as in this shape, maybe nothing. Raises JournalCorrupt, StoreUnavailable."""


class Sender:
    """One per process. `start` and `stop` it; `wake` it when there may be something to do."""

    def __init__(self, store: Store, clock: Clock, ids: Ids, encode: Encode, poster: Poster) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._encode = encode
        self._poster = poster
        self.is_needed = False  # there is an endpoint, as far as this process knows
        self._wake = asyncio.Event()
        self._attempts: dict[asyncio.Task[None], Delivery] = {}
        self._kept_at = clock.monotonic()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to send, on the running event loop."""
        self.is_needed = bool(await self._store.records(ENDPOINT))
        self._task = asyncio.create_task(self._send_forever(), name="webhooks")

    async def stop(self) -> None:
        """Break off, and give back what was on its way: whoever comes next sends it again."""
        broken_off = dict(self._attempts)
        tasks = [*broken_off, *([self._task] if self._task is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._poster.close()
        for task, delivery in broken_off.items():
            if task.cancelled():
                with contextlib.suppress(StoreError):  # then it is free when its time as taken is over
                    await self._store.put_delivery(delivery)

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    def hint(self) -> None:
        """Something was committed that endpoints want to hear of, if there are any."""
        if self.is_needed:
            self._wake.set()

    async def _send_forever(self) -> None:
        while True:
            # Cleared before looking: what comes meanwhile sets it again.
            self._wake.clear()
            is_more = False
            try:
                is_more = await self.turn()
            except StoreError as error:
                log.warning("webhooks_wait", reason=error.code, message=str(error))
            except Exception:
                # Whatever is wrong with one event, the server does more than webhooks, and the next look may go well.
                log.exception("webhooks_broke")
            if not is_more:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._wake.wait()

    async def turn(self) -> bool:
        """Do what there is to do now, without waiting for attempts; whether there may be more."""
        await self._keep()
        rows = await self._store.outbox(limit=OUTBOX_ROWS_MAX)
        if rows:
            self.is_needed = True
            await self._deliver(rows)
        room = ATTEMPTS_MAX - len(self._attempts)
        now = self._clock.now()
        taken: Sequence[Delivery] = ()
        if room > 0:
            taken = await self._store.take_deliveries(
                now=now,
                until=now + int(TAKEN_SECONDS * MICROSECONDS),
                limit=room,
                endpoint_max=ENDPOINT_ATTEMPTS_MAX,
            )
        for delivery in taken:
            task = asyncio.create_task(self._attempt_taken(delivery), name=f"webhook {delivery.delivery_id}")
            self._attempts[task] = delivery
            task.add_done_callback(self._on_attempted)
        return len(rows) == OUTBOX_ROWS_MAX

    async def _keep(self) -> None:
        """What is being sent here stays ours, however long the receiver takes."""
        now = self._clock.monotonic()
        if self._attempts and now - self._kept_at >= KEPT_EVERY_SECONDS:
            self._kept_at = now
            ids = [delivery.delivery_id for delivery in self._attempts.values()]
            await self._store.keep_deliveries(ids, self._clock.now() + int(TAKEN_SECONDS * MICROSECONDS))

    async def settled(self) -> None:
        """Wait for the attempts that are being made."""
        while self._attempts:
            await asyncio.gather(*self._attempts, return_exceptions=True)

    def _on_attempted(self, task: asyncio.Task[None]) -> None:
        del self._attempts[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("webhook_attempt_broke", task=task.get_name(), exc_info=error)
        self._wake.set()

    # Outbox rows become deliveries

    async def _deliver(self, rows: Sequence[OutboxRow]) -> None:
        runs: dict[int, Run | None] = {}
        encoded: dict[tuple[int, int, str], Sequence[Encoded] | None] = {}
        endpoints: dict[str, Endpoint | None] = {}
        deliveries: list[Delivery] = []
        for row in rows:
            if row.number not in runs:
                runs[row.number] = await self._store.run_by_number(row.number)
            run = runs[row.number]
            if run is None:
                continue  # it was deleted meanwhile
            if row.endpoint_id not in endpoints:
                endpoints[row.endpoint_id] = await self.endpoint(run.tenant, row.endpoint_id)
            endpoint = endpoints[row.endpoint_id]
            if endpoint is None:
                continue
            if endpoint.is_of_run and endpoint.number is None:
                await self.settle(endpoint, run.number)  # whoever started the run died before it did
            event = (row.number, row.sequence, endpoint.shape)
            if event not in encoded:
                encoded[event] = await self._encoded(run, row.sequence, endpoint.shape)
            deliveries += self._told(endpoint, run, row.sequence, encoded[event])
        await self._store.deliver(deliveries, rows)

    async def _encoded(self, run: Run, sequence: int, shape: str) -> Sequence[Encoded] | None:
        """What the event is told as; None: it cannot be told, and the log says why."""
        try:
            return await self._encode(run, sequence, shape)
        except StoreUnavailable:
            raise
        except Exception:
            # Its journal is broken, or the encoder is. It would be met again for ever, and nothing behind it be sent.
            log.exception("webhook_not_encoded", run_id=run.run_id, sequence=sequence)
            return None

    def _told(
        self, endpoint: Endpoint, run: Run, sequence: int, encoded: Sequence[Encoded] | None
    ) -> Sequence[Delivery]:
        """The deliveries of an event to an endpoint; of one that cannot be told, one that has failed already."""
        if encoded is not None:
            return [
                self._delivery(endpoint, run.number, sequence, found)
                for found in encoded
                if endpoint.wants(found.type, run, found.environment)
            ]
        if not endpoint.hears_of(run):
            return []
        # Its own id takes an event that can be read.
        told = Encoded(f"msg_{run.number}_{sequence}", UNREADABLE, "", b"")
        return [self._unread(self._delivery(endpoint, run.number, sequence, told), self._clock.now())]

    def _unread(self, delivery: Delivery, at: int) -> Delivery:
        """A delivery after an attempt at this time that sent nothing. It is not tried again, unless somebody replays it."""
        failed = self.after(delivery, Outcome(error=UNREADABLE), at)
        return msgspec.structs.replace(failed, status="failed", next_attempt_at=None)

    async def _read_again(self, endpoint: Endpoint, delivery: Delivery) -> Delivery:
        """
        What becomes of an event that could not be told, when its delivery is replayed: what was in the way may be mended
        by now. Then deliveries like all others take its place.
        """
        at = self._clock.now()
        run = await self._store.run_by_number(delivery.number)
        encoded = None if run is None else await self._encoded(run, delivery.sequence, endpoint.shape)
        if run is None or encoded is None:
            after = self._unread(delivery, at)
        else:
            await self._store.deliver(self._told(endpoint, run, delivery.sequence, encoded), ())
            after = self.after(delivery, Outcome(), at)
        await self._store.put_delivery(after, due=delivery.next_attempt_at)
        return after

    def _delivery(self, endpoint: Endpoint, number: int, sequence: int, found: Encoded) -> Delivery:
        now = self._clock.now()
        return Delivery(
            delivery_id=self._ids.short("whd"),
            endpoint_id=endpoint.endpoint_id,
            tenant=endpoint.tenant,
            event_id=found.event_id,
            type=found.type,
            number=number,
            sequence=sequence,
            status="pending" if endpoint.enabled else "held",
            body=found.body,
            next_attempt_at=now if endpoint.enabled else None,
            created_at=now,
        )

    async def endpoint(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        """An endpoint, of a tenant or of a run, as it is now."""
        record = await self._record(tenant, endpoint_id)
        return None if record is None else endpoint_of(record)

    async def _record(self, tenant: str, endpoint_id: str) -> Record | None:
        return await self._store.record(tenant, ENDPOINT, endpoint_id) or await self._store.record(
            tenant, RUN_ENDPOINT, endpoint_id
        )

    # Attempts

    async def _attempt_taken(self, delivery: Delivery) -> None:
        try:
            after = await self.attempt(delivery)
            seconds = ((after.next_attempt_at or 0) - self._clock.now()) / MICROSECONDS
            if after.next_attempt_at is not None and seconds < TIMED_SECONDS:
                asyncio.get_running_loop().call_later(max(seconds, 0), self.wake)
        except StoreError as error:
            # It was sent, or was not; what is not recorded is tried again when its time as taken is over.
            log.warning("webhook_attempt_not_recorded", delivery=delivery.delivery_id, message=str(error))

    async def attempt(self, delivery: Delivery) -> Delivery:
        """Make one attempt and record it; the delivery as it is then."""
        endpoint = await self.endpoint(delivery.tenant, delivery.endpoint_id)
        if endpoint is None or not endpoint.enabled:
            held = msgspec.structs.replace(delivery, status="held", next_attempt_at=None)
            await self._store.put_delivery(held)
            return held
        if delivery.type == UNREADABLE:
            return await self._read_again(endpoint, delivery)
        at = self._clock.now()
        outcome = await self.post(endpoint, delivery, at)
        after = self.after(delivery, outcome, at)
        await self._store.put_delivery(after, due=delivery.next_attempt_at)
        await self._note(endpoint, outcome)
        return after

    async def post(self, endpoint: Endpoint, delivery: Delivery, at: int) -> Outcome:
        """Send a delivery, signed at this time; nothing is recorded."""
        secrets = endpoint.secrets_at(at)
        headers = signed_headers(delivery.event_id, at // MICROSECONDS, delivery.body, secrets)
        if endpoint.shape == SKILLS:
            headers |= plain_signature(delivery.body, secrets[0])
        return await self._poster.post(endpoint.url, headers, delivery.body)

    def after(self, delivery: Delivery, outcome: Outcome, at: int) -> Delivery:
        """The delivery after an attempt that began at this time and came to this."""
        now, tries = self._clock.now(), delivery.tries + 1
        attempts: list[Any] = msgspec.json.decode(delivery.attempts)
        shown = {"at": format_time(at), "status_code": outcome.status_code, "error": outcome.error, "ms": outcome.ms}
        due = None
        if not outcome.is_success:
            due = next_attempt(tries, now, retry_after_of(outcome.retry_after, now), self._ids.jitter)
        return msgspec.structs.replace(
            delivery,
            status="delivered" if outcome.is_success else ("failed" if due is None else "pending"),
            attempts=msgspec.json.encode([*attempts, shown]),
            tries=tries,
            next_attempt_at=due,
        )

    async def _note(self, endpoint: Endpoint, outcome: Outcome) -> None:
        """Keep count of failures in a row, and give an endpoint up that is gone, or that failed for too long."""
        if outcome.is_success and not endpoint.failures:
            return
        now = self._clock.now()

        def changed(current: Endpoint) -> Endpoint:
            if outcome.is_success:
                return msgspec.structs.replace(current, failures=0, failing_since=None)
            failures, since = current.failures + 1, current.failing_since or now
            current = msgspec.structs.replace(current, failures=failures, failing_since=since)
            if outcome.status_code == GONE:
                return msgspec.structs.replace(current, enabled=False, disabled_reason="gone")
            if is_given_up(failures, since, now):
                return msgspec.structs.replace(current, enabled=False, disabled_reason="failing")
            return current

        after = await self.change(endpoint.tenant, endpoint.endpoint_id, changed)
        if after is not None and not after.enabled:
            log.warning("webhook_endpoint_disabled", endpoint=after.endpoint_id, reason=after.disabled_reason)
            await self._store.hold_deliveries(after.endpoint_id)

    async def settle(self, endpoint: Endpoint, number: int) -> None:
        """An endpoint of a single run goes with the run of this number."""
        await self.change(
            endpoint.tenant, endpoint.endpoint_id, lambda before: msgspec.structs.replace(before, number=number)
        )

    async def change(self, tenant: str, endpoint_id: str, changed: Callable[[Endpoint], Endpoint]) -> Endpoint | None:
        """Change an endpoint, whoever else changes it at the same time; None: it is not there any more."""
        while (record := await self._record(tenant, endpoint_id)) is not None:
            before = endpoint_of(record)
            after = changed(before)
            if after == before or await self._store.swap_record(after.record(self._clock.now()), record.body):
                return after
        return None
