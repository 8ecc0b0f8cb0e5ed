"""
The sync client of `AsyncRunsClient`: that one on an event loop of its own, in a thread.

Generated from the async client by scripts/generate_sync.py; do not edit. Callbacks are called on the thread of that loop,
and must not call the client. A sync client may be used by several threads at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from holdfast.client.portal import Portal
from holdfast.client.records import Record, Records
from holdfast.client.resuming import HEARTBEAT_SECONDS, RECONNECT_SECONDS, OnDiscard
from holdfast.client.runtime.client import AsyncRunsClient, Preset
from holdfast.client.runtime.events import RunEvent
from holdfast.client.runtime.records import Invocation, Run, RunPage, StartedRun
from holdfast.client.streams import EventStream

if TYPE_CHECKING:
    import httpx2


class RunsClient:
    """
    A sync client. One is enough for any number of runs; close it, or use it in `with`.

    Every start has an idempotency key, so that repeats of it, which the client makes by itself, start one run. Closing
    the client, cancelling a call or leaving a stream never cancels a run.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 30.0,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        reconnect_seconds: float = RECONNECT_SECONDS,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """
        Args:
            url: where the server is; default is HOLDFAST_URL, else where `holdfast serve` listens by itself.
            key: an API key; None sends none.
            timeout: seconds that a request waits for the server: for the connection, its answer, or the next piece of it.
                What waits for a run has its own limit.
            heartbeat_seconds: how often the server shows that a stream lives (its setting). A stream that is silent for
                nearly twice as long is opened again.
            reconnect_seconds: how long the server may be away before a stream, or `invoke`, raises; `math.inf` is for ever.
            transport: replaces the network, for tests.
        """
        self._portal = Portal()
        self._async = AsyncRunsClient(
            url,
            key,
            timeout=timeout,
            heartbeat_seconds=heartbeat_seconds,
            reconnect_seconds=reconnect_seconds,
            transport=transport,
        )

    def invoke(
        self,
        input: Mapping[str, Any],
        *,
        agent: str | None = None,
        run_id: str | None = None,
        thread_id: str | None = None,
        execution_seconds: float | None = None,
        webhook_url: str | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> Invocation:
        """
        Start a run, and return its output once it is completed, or that it waits for an answer.

        Args:
            execution_seconds: after so long in execution the server lets the run fail.
            timeout: seconds that the caller waits, whatever happens; None waits for ever.

        Raises:
            RunFailed: the run failed, or was cancelled.
            DeadlineExceeded: the time is over. The run, if it was started, goes on; the same call with the same
                `idempotency_key` waits for it.
            RequestRefused, AccessRefused, Conflict: it was refused; there is no run.
            Unavailable, ConnectionFailed: the server was away for longer than `reconnect_seconds`.
        """
        return self._portal.call(
            lambda: self._async.invoke(
                input,
                agent=agent,
                run_id=run_id,
                thread_id=thread_id,
                execution_seconds=execution_seconds,
                webhook_url=webhook_url,
                idempotency_key=idempotency_key,
                timeout=timeout,
            )
        )

    def stream(
        self,
        input: Mapping[str, Any],
        *,
        agent: str | None = None,
        run_id: str | None = None,
        thread_id: str | None = None,
        execution_seconds: float | None = None,
        webhook_url: str | None = None,
        idempotency_key: str | None = None,
        types: Iterable[str] | None = None,
        preset: Preset | None = None,
        on_discard: OnDiscard | None = None,
        timeout: float | None = None,
    ) -> EventStream[RunEvent]:
        """
        Start a run with the first iteration, and iterate over its events up to the last one.

        Args:
            types: the types to see, beside those that are always sent; or a `preset` of them.
            on_discard: is told which events are void, as (run_id, first, last), right before their `Restarted` or `Gap`.
            timeout: seconds from now after which the iteration raises; None: never.

        Raises: (by the iteration)
            DeadlineExceeded, RequestRefused, AccessRefused, Conflict, Unavailable, ConnectionFailed: as `invoke`. A run
            that fails raises nothing here: its last event says so, and `result()` raises.
        """
        return EventStream(
            self._portal,
            self._portal.make(
                lambda: self._async.stream(
                    input,
                    agent=agent,
                    run_id=run_id,
                    thread_id=thread_id,
                    execution_seconds=execution_seconds,
                    webhook_url=webhook_url,
                    idempotency_key=idempotency_key,
                    types=types,
                    preset=preset,
                    on_discard=on_discard,
                    timeout=timeout,
                )
            ),
        )

    def start(
        self,
        input: Mapping[str, Any],
        *,
        agent: str | None = None,
        run_id: str | None = None,
        thread_id: str | None = None,
        execution_seconds: float | None = None,
        webhook_url: str | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
    ) -> StartedRun:
        """
        Start a run and leave it to itself. Once this returns it is on the server's disk; up to five tries start one run.

        Raises:
            RequestRefused, AccessRefused, Conflict: it was refused; there is no run.
            Unavailable, ConnectionFailed, DeadlineExceeded: it is unknown whether there is one. The same call with the
                same `idempotency_key` tells.
        """
        return self._portal.call(
            lambda: self._async.start(
                input,
                agent=agent,
                run_id=run_id,
                thread_id=thread_id,
                execution_seconds=execution_seconds,
                webhook_url=webhook_url,
                idempotency_key=idempotency_key,
                timeout=timeout,
            )
        )

    def fork(
        self,
        run_id: str,
        *,
        from_sequence: int | None = None,
        step: str | None = None,
        input: Mapping[str, Any] | None = None,
        new_run_id: str | None = None,
        thread_id: str | None = None,
        execution_seconds: float | None = None,
        webhook_url: str | None = None,
        idempotency_key: str | None = None,
    ) -> StartedRun:
        """
        Start a new run that keeps the results of steps completed before a sequence or a step. The original stays as it is.

        Raises:
            ValidationFailed: no such sequence or step, or both or neither were given.
            NotFound, AccessRefused, Conflict, Unavailable, ConnectionFailed: as `start`.
        """
        return self._portal.call(
            lambda: self._async.fork(
                run_id,
                from_sequence=from_sequence,
                step=step,
                input=input,
                new_run_id=new_run_id,
                thread_id=thread_id,
                execution_seconds=execution_seconds,
                webhook_url=webhook_url,
                idempotency_key=idempotency_key,
            )
        )

    def events(
        self,
        run_id: str,
        *,
        after: str | int | None = None,
        types: Iterable[str] | None = None,
        preset: Preset | None = None,
        compact: bool = False,
        on_discard: OnDiscard | None = None,
        timeout: float | None = None,
    ) -> EventStream[RunEvent]:
        """
        Iterate over a run's events: those that are stored, then live ones, up to the last.

        Args:
            after: the last sequence that the caller has, or the `cursor` of a stream. None: from the start.
            types, preset, on_discard, timeout: as in `stream`.
            compact: stored rows of text come as one event each.

        Raises: (by the iteration)
            NotFound: there is no such run.
            DeadlineExceeded, AccessRefused, Unavailable, ConnectionFailed: as `stream`.
        """
        return EventStream(
            self._portal,
            self._portal.make(
                lambda: self._async.events(
                    run_id,
                    after=after,
                    types=types,
                    preset=preset,
                    compact=compact,
                    on_discard=on_discard,
                    timeout=timeout,
                )
            ),
        )

    def get(self, run_id: str, *, wait: float | None = None) -> Run:
        """A run as it stands; with `wait` (0 to 60 s) once it waits or is finished, or the time is over. NotFound."""
        return self._portal.call(lambda: self._async.get(run_id, wait=wait))

    def wait(self, run_id: str, *, timeout: float | None = None) -> Run:
        """
        The run once it is finished, however it ended, or waits for an answer.

        Raises:
            DeadlineExceeded: it was not, in time. It goes on.
            NotFound, AccessRefused, Unavailable, ConnectionFailed: as `events`.
        """
        return self._portal.call(lambda: self._async.wait(run_id, timeout=timeout))

    def list(
        self,
        *,
        status: str | None = None,
        agent: str | None = None,
        thread_id: str | None = None,
        created_after: str | None = None,
        created_before: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> RunPage:
        """
        A page of runs, newest first, without their outputs.

        Args:
            status: a list with commas. `created_after`, `created_before`: exclusive, RFC 3339.
            limit: 1 to 200; the server's default is 50. `cursor`: `next_cursor` of the page before.
        """
        return self._portal.call(
            lambda: self._async.list(
                status=status,
                agent=agent,
                thread_id=thread_id,
                created_after=created_after,
                created_before=created_before,
                limit=limit,
                cursor=cursor,
            )
        )

    def steps(self, run_id: str) -> Records:
        """The steps of a run, by their start. NotFound."""
        return self._portal.call(lambda: self._async.steps(run_id))

    def export(self, run_id: str) -> bytes:
        """The stored journal byte for byte, as JSON lines; `holdfast verify` checks it. NotFound."""
        return self._portal.call(lambda: self._async.export(run_id))

    def verify(self, run_id: str) -> Record:
        """Whether the stored journal fits its hashes: `ok`, and `first_bad_sequence` if not. NotFound."""
        return self._portal.call(lambda: self._async.verify(run_id))

    def interrupts(self, run_id: str, *, status: Literal["pending", "all"] = "pending") -> Records:
        """What a run asks, or has asked. NotFound."""
        return self._portal.call(lambda: self._async.interrupts(run_id, status=status))

    def answer(self, run_id: str, interrupt_id: str, answer: Any) -> Record:
        """
        Answer what a run asks. Once this returns the answer is on disk. The same answer again is a success.

        Raises:
            ValidationFailed: it has not the shape that the interrupt asks for, which is still pending.
            InterruptResolved: another answer was first; RunFinished: the run is over.
            NotFound, AccessRefused, Unavailable, ConnectionFailed.
        """
        return self._portal.call(lambda: self._async.answer(run_id, interrupt_id, answer))

    def cancel(self, run_id: str, *, reason: str | None = None, wait: float | None = None) -> Record:
        """
        Cancel a run: `status`, `reason`, `requested`, `stopped`. It is final within 5 s.

        Args:
            wait: seconds (0 to 10) to wait for that; the server's default is 5.

        Raises:
            RunFinished: it was over. NotFound, AccessRefused, Unavailable, ConnectionFailed.
        """
        return self._portal.call(lambda: self._async.cancel(run_id, reason=reason, wait=wait))

    def stream_token(self, run_id: str, *, expires_in: int | None = None) -> Record:
        """A token with which a browser may read this run: `token`, `expires_at`, `events_url`. `expires_in`: 10 to 3600 s."""
        return self._portal.call(lambda: self._async.stream_token(run_id, expires_in=expires_in))

    def agents(self) -> Record:
        """The agents that are served, and which is the `default`."""
        return self._portal.call(self._async.agents)

    def schema(self, agent: str | None = None) -> Record:
        """`input_schema` and `output_schema` of an agent; default is the server's default agent. NotFound."""
        return self._portal.call(lambda: self._async.schema(agent))

    def info(self, agent: str | None = None) -> Record:
        """What an agent says of itself; default is the server's default agent. NotFound."""
        return self._portal.call(lambda: self._async.info(agent))

    def health(self) -> Record:
        """How the process is; it answers as long as it lives. One try. ConnectionFailed."""
        return self._portal.call(self._async.health)

    def ready(self) -> bool:
        """Whether the server takes runs. One try. ConnectionFailed."""
        return self._portal.call(self._async.ready)

    def set_key(self, key: str | None) -> None:
        """
        The key of all further requests; None sends none.

        Raises:
            ValueError: it is none, say with a line break behind it. The text does not show it.
        """
        self._async.set_key(key)

    def close(self) -> None:
        """Close the connections, and the event loop. Runs go on."""
        self._portal.call(self._async.aclose)
        self._portal.close()

    def __enter__(self) -> RunsClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
