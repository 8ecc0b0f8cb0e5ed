"""
The store opened by the command itself, while no server runs. Nothing is executed: what is answered or cancelled here
is durable at once, and the next server goes on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from holdfast.agents.registry import Registry
from holdfast.api.control.keys import add_key, new_key_of, overlap_of, revoke_key, rotate_key, shown_key
from holdfast.api.runtime.views import STATUSES, interrupt_view, receipt_view, run_view
from holdfast.cli.screen import CliError
from holdfast.clock import SystemClock
from holdfast.errors import StoreLocked
from holdfast.execution.worker import Worker
from holdfast.ids import RandomIds
from holdfast.journal import Journal
from holdfast.runs import Caller, Runs, ToolOutput
from holdfast.settings import Settings
from holdfast.shutdown import Shutdown
from holdfast.store.base import RunQuery, Store
from holdfast.store.sqlite import SQLiteStore

T = TypeVar("T")

CALLER = Caller("cli")
PAGE = 200


@contextmanager
def open_local(settings: Settings, *, create: bool = False) -> Iterator[Local]:
    """
    Open the store of these settings for one command.

    Raises:
        CliError: there is no store, or a process that does not answer has it.
    """
    directory = Path(settings.store or settings.data)
    if "://" in str(settings.store):
        raise CliError(
            "no server answers, and a store that is not embedded is reached through a server alone: start one, or give its "
            "data directory with --data"
        )
    if not create and not (directory / "holdfast.db").is_file():
        raise CliError(f"no server answers, and there is no store in {directory} (give its directory with --data)")
    with asyncio.Runner() as runner:
        overlap_seconds_max = settings.key_overlap_seconds_max
        local = Local(runner.run, SQLiteStore(directory), overlap_seconds_max=overlap_seconds_max)
        try:
            runner.run(local.open())
        except StoreLocked as error:
            pid = error.details.get("pid")
            who = f"process {pid}" if pid else "another process"
            raise CliError(
                f"{who} has the store in {directory} open, but answers no calls; is it still starting?"
            ) from error
        try:
            yield local
        finally:
            runner.run(local.close())


class Local:
    """The access to a store that nobody else has open; see `Access`."""

    is_live = False

    def __init__(
        self, run: Callable[[Coroutine[Any, Any, Any]], Any], store: Store, *, overlap_seconds_max: float
    ) -> None:
        self._run: Callable[[Awaitable[T]], T] = run  # type: ignore[assignment]  # Runner.run is not generic over Awaitable
        self._store = store
        self._overlap_seconds_max = overlap_seconds_max
        self._clock = SystemClock()
        self._ids = RandomIds(self._clock)

    async def open(self) -> None:
        info = await self._store.open()
        self._journal = Journal(self._store, self._clock, last_timestamp=info.last_timestamp)
        await self._journal.start()
        # Never started: it serves no agent and takes no run.
        worker = Worker(self._journal, Registry(), self._clock, self._ids)
        self._runs = Runs(self._journal, worker, self._clock, self._ids, Shutdown(), namespace=info.store_id)

    async def close(self) -> None:
        await self._journal.stop()
        await self._store.close()

    def runs(self, filters: Mapping[str, str], limit: int) -> Iterator[dict[str, Any]]:
        statuses = filters.get("status", "")
        query = RunQuery(
            tenant=CALLER.tenant,
            statuses=tuple(STATUSES[name] for name in statuses.split(",") if name),
            agent=filters.get("agent"),
            thread_id=filters.get("thread_id"),
        )
        before: int | None = None
        while limit > 0:
            page = self._run(self._runs.list(msgspec.structs.replace(query, before=before, limit=min(limit, PAGE))))
            yield from (_plain(run_view(run, "", (), whole=False)) for run in page)
            if not page:
                return
            limit -= len(page)
            before = page[-1].number

    def run(self, run_id: str) -> dict[str, Any]:
        run = self._run(self._runs.get(CALLER, run_id))
        interrupts = self._run(self._runs.interrupts(CALLER, run_id))
        pending = [item.interrupt_id for item in interrupts if item.is_pending]
        return _plain(run_view(run, "", pending, whole=True))

    def interrupts(self, run_id: str) -> list[dict[str, Any]]:
        found = self._run(self._runs.interrupts(CALLER, run_id))
        return [_plain(interrupt_view(item)) for item in found if item.is_pending]

    def answer(self, run_id: str, interrupt_id: str, answer: Any) -> dict[str, Any]:
        given = _tool_outputs(answer) if isinstance(answer, list) else answer
        interrupt = self._run(self._runs.answer(CALLER, run_id, given, interrupt_id=interrupt_id))
        return _plain(interrupt_view(interrupt))

    def cancel(self, run_id: str, reason: str | None) -> dict[str, Any]:
        run = self._run(self._runs.cancel(CALLER, run_id, reason=reason or ""))
        return _plain(receipt_view(run))

    def events(self, run_id: str, after: int) -> Iterator[str]:
        """What is stored behind a sequence: canonical lines without their line ends."""
        run = self._run(self._runs.get(CALLER, run_id))
        while after < run.tail_sequence:
            page = self._run(self._store.segments(run.number, after=after, bytes_max=256 * 1024))
            if not page:
                return
            for segment in page:
                lines = segment.body.decode().split("\n")[:-1]
                yield from lines[max(after + 1 - segment.first, 0) :]
                after = segment.last

    def export(self, run_id: str) -> Iterator[bytes]:
        pieces = self._runs.export(CALLER, run_id)

        async def next_piece() -> bytes | None:
            return await anext(pieces, None)

        while (piece := self._run(next_piece())) is not None:
            yield piece

    def verify(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(self._run(self._runs.verify(CALLER, run_id)))
        return found

    def keys(self) -> list[dict[str, Any]]:
        return [shown_key(key) for key in self._run(self._store.keys())]

    def add_key(self, name: str, role: str, tenant: str) -> dict[str, Any]:
        wanted = new_key_of({"name": name, "role": role, "tenant": tenant})
        return self._run(add_key(self._store, self._clock, self._ids, wanted))

    def rotate_key(self, name: str, overlap_seconds: float | None) -> dict[str, Any]:
        given = {} if overlap_seconds is None else {"overlap_seconds": overlap_seconds}
        overlap = overlap_of(given, self._overlap_seconds_max)
        return self._run(rotate_key(self._store, self._clock, self._ids, name, overlap))

    def revoke_key(self, name: str) -> dict[str, Any]:
        return self._run(revoke_key(self._store, self._clock, name))

    def backup(self, target: Path) -> None:
        self._run(self._store.backup(str(target)))


def _plain(view: dict[str, Any]) -> dict[str, Any]:
    """A view as its reader gets it over HTTP."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(view))
    return plain


def _tool_outputs(answer: list[Any]) -> list[ToolOutput]:
    """The answer to a round of tool calls, as the Runtime API takes it."""
    outputs = []
    for item in answer:
        if not isinstance(item, dict) or ("output" in item) == ("error" in item) or "tool_call_id" not in item:
            raise CliError(
                'the answer to tool calls is a list of {"tool_call_id", "output"} or {"tool_call_id", "error"}'
            )
        error = item.get("error")
        output = item.get("output", "")
        text = output if isinstance(output, str) else msgspec.json.encode(output).decode()
        outputs.append(ToolOutput(item["tool_call_id"], text, error is not None, None if error is None else str(error)))
    return outputs
