"""
Hints to the other processes: what was committed here, so that they look at once and not at their next poll.

One NOTIFY tells of everything since the last one, at most 50 times a second, after the commit and apart from it: within
it, Postgres would let the commits of all processes wait for each other. Nothing depends on a hint: whoever follows
asks the store, at least once a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

import msgspec
import structlog

from holdfast.model import Status
from holdfast.store.base import Append, InboxRow, Notice, Outcome, Started, Write
from holdfast.store.postgres.connection import Connection, Connector, DriverError

# Between two NOTIFYs of one process.
PAUSE_SECONDS: Final = 0.02

# A listener tells itself something so often, and takes its connection for dead when it does not hear it in time.
PROBE_SECONDS: Final = 5.0
HEARD_SECONDS: Final = 3.0

RECONNECT_SECONDS_MAX: Final = 5.0

# A notification holds less than 8000 bytes.
NUMBERS_MAX: Final = 350

CHANNEL: Final = "holdfast"

log = structlog.get_logger(__name__)


class Hint(msgspec.Struct, frozen=True, omit_defaults=True):
    """A notification on its way."""

    p: str  # whose it is
    j: tuple[int, ...] = ()
    i: tuple[int, ...] = ()
    q: bool = False
    all: bool = False
    probe: int = 0


_decoder = msgspec.json.Decoder(Hint)


class Notices:
    """Sends hints, and hears those of others."""

    def __init__(self, connector: Connector, process: str) -> None:
        self._connector = connector
        self._process = process
        self._journals: set[int] = set()
        self._inbox: set[int] = set()
        self._is_queued = False
        self._task: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._sending = asyncio.Lock()
        self._is_closed = False

    # Sending

    def note(self, writes: Sequence[Write], outcomes: Sequence[Outcome]) -> None:
        """Remember what of a commit others may wait for, and see to it that they are told."""
        for write, outcome in zip(writes, outcomes, strict=True):
            if isinstance(write, Append):
                if outcome is None:
                    self._journals.add(write.number)
                    self._is_queued |= write.status is Status.QUEUED
            elif isinstance(outcome, Started):
                if not outcome.replayed:
                    self._journals.add(outcome.run.number)
                    self._is_queued |= outcome.run.status is Status.QUEUED
            elif isinstance(outcome, InboxRow):
                self._inbox.add(outcome.number)
        if self._has_something and self._task is None and not self._is_closed:
            self._task = asyncio.create_task(self._send_all(), name="notices")

    async def close(self) -> None:
        self._is_closed = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._disconnect()

    @property
    def _has_something(self) -> bool:
        return bool(self._journals or self._inbox or self._is_queued)

    async def _send_all(self) -> None:
        try:
            while self._has_something:
                hint = self._take()
                try:
                    await self._send(hint)
                except (OSError, *DriverError) as error:
                    # They find it at their next poll.
                    log.debug("notify_failed", error=repr(error))
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            self._task = None

    def _take(self) -> Hint:
        journals, inbox, is_queued = self._journals, self._inbox, self._is_queued
        self._journals, self._inbox, self._is_queued = set(), set(), False
        if len(journals) + len(inbox) > NUMBERS_MAX:
            return Hint(self._process, all=True)
        return Hint(self._process, tuple(journals), tuple(inbox), is_queued)

    async def _send(self, hint: Hint) -> None:
        payload = msgspec.json.encode(hint).decode()
        # One message. A hint that a crash loses is worth no sync; and it holds nothing that would have to be quoted.
        assert "'" not in payload
        async with self._sending:
            try:
                if self._connection is None or self._connection.is_closed():
                    self._connection = await self._connector.connect()
                await self._connection.execute(
                    f"BEGIN; SET LOCAL synchronous_commit = off; SELECT pg_notify('{CHANNEL}', '{payload}'); COMMIT"
                )
            except BaseException:
                self._disconnect()
                raise

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    # Hearing

    async def listen(self, callback: Callable[[Notice], None]) -> None:
        """
        Call back for the commits of other processes, until cancelled.

        After each connecting, and when more happened than a notification holds, the notice says `everything`. Behind
        a pooler nothing is heard, so this ends at once.
        """
        if self._connector.is_pooled:
            return
        pause = PAUSE_SECONDS
        while True:
            ear = _Ear(self._process, callback)
            try:
                await ear.open(self._connector)
                pause = PAUSE_SECONDS
                await ear.listen(self._send)
            except (OSError, *DriverError) as error:
                log.info("listen_again", error=repr(error))
            finally:
                ear.close()
            await asyncio.sleep(pause)
            pause = min(pause * 2, RECONNECT_SECONDS_MAX)


class _Ear:
    """One connection that listens, as long as it hears."""

    def __init__(self, process: str, callback: Callable[[Notice], None]) -> None:
        self._process = process
        self._callback = callback
        self._connection: Connection | None = None
        self._changed = asyncio.Event()
        self._heard = 0
        self._is_over = False

    async def open(self, connector: Connector) -> None:
        self._connection = await connector.connect()
        self._connection.add_termination_listener(self._end)
        await self._connection.add_listener(CHANNEL, self._hear)
        self._callback(Notice(everything=True))

    async def listen(self, send: Callable[[Hint], Any]) -> None:
        """Until the connection is lost, or a probe is not heard."""
        probe = 0
        while not await self._comes(lambda: self._is_over, PROBE_SECONDS):
            probe += 1
            async with asyncio.timeout(HEARD_SECONDS):
                await send(Hint(self._process, probe=probe))
            if not await self._comes(partial(self._has_heard, probe), HEARD_SECONDS):
                log.info("probe_not_heard")
                return

    def close(self) -> None:
        if self._connection is not None:
            self._connection.terminate()

    async def _comes(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for a condition; whether it came."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        return condition()

    def _has_heard(self, probe: int) -> bool:
        return self._is_over or self._heard >= probe

    def _end(self, _: Any) -> None:
        self._is_over = True
        self._changed.set()

    def _hear(self, _: Any, __: int, ___: str, payload: object) -> None:
        try:
            hint = _decoder.decode(str(payload))
        except msgspec.MsgspecError:
            return  # not one of ours
        if hint.p != self._process:
            self._callback(Notice(journals=hint.j, inbox=hint.i, queued=hint.q, everything=hint.all))
        elif hint.probe:
            self._heard = hint.probe
            self._changed.set()
