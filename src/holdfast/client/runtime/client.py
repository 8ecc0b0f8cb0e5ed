"""The client of the Runtime API: start runs, read their events, answer, cancel and fork them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote

from holdfast.client.api_client import ApiClient, given, record
from holdfast.client.errors import ClientError, ConnectionFailed
from holdfast.client.http import Request, deadline_of, within
from holdfast.client.records import Record, Records
from holdfast.client.resuming import HEARTBEAT_SECONDS, RECONNECT_SECONDS, OnDiscard, Patience
from holdfast.client.runtime.events import RunEvent
from holdfast.client.runtime.records import Invocation, Run, RunPage, StartedRun
from holdfast.client.runtime.source import RunSource
from holdfast.client.streams import AsyncEventStream

if TYPE_CHECKING:
    import httpx2

# Under the minute after which many proxies give up on a request. What is not over by then is asked for again.
WAIT_SECONDS: Final = 50.0
# A server that is asked to wait answers this much later at the latest.
WAIT_GRACE_SECONDS: Final = 10.0

Preset = Literal["minimal", "chat", "debug", "all"]


class AsyncRunsClient(ApiClient):
    """
    An async client. One is enough for any number of runs; close it, or use it in `async with`.

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
        super().__init__(
            url,
            key,
            timeout=timeout,
            heartbeat_seconds=heartbeat_seconds,
            reconnect_seconds=reconnect_seconds,
            transport=transport,
        )

    # Starting

    async def invoke(
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
        query = _controls(agent, run_id, thread_id, execution_seconds, webhook_url)
        request = self._keyed("POST", "/invoke", dict(input), query=query, key=idempotency_key)
        answer = await within(deadline_of(timeout), self._insist(request))
        return record(Invocation, {"run_id": answer.headers.get("x-run-id"), **answer.json()})

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
    ) -> AsyncEventStream[RunEvent]:
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
        query = {
            **_controls(agent, run_id, thread_id, execution_seconds, webhook_url),
            **_filters(types, preset),
        }
        start = self._keyed("POST", "/invoke/stream", dict(input), query=query, key=idempotency_key)
        return self._stream(RunSource(start, query=_filters(types, preset), on_discard=on_discard), timeout)

    async def start(
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
        query = _controls(agent, run_id, thread_id, execution_seconds, webhook_url)
        answer = await self._change("POST", "/runs", dict(input), query=query, key=idempotency_key, timeout=timeout)
        return record(StartedRun, answer)

    async def fork(
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
        body = given(from_sequence=from_sequence, step=step, input=None if input is None else dict(input))
        query = _controls(None, new_run_id, thread_id, execution_seconds, webhook_url)
        return record(
            StartedRun, await self._change("POST", f"{_path(run_id)}/fork", body, query=query, key=idempotency_key)
        )

    # Reading

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
    ) -> AsyncEventStream[RunEvent]:
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
        query = {**_filters(types, preset), **({"view": "compact"} if compact else {})}
        cursor = None if after is None else str(after)
        return self._stream(RunSource(None, run_id=run_id, cursor=cursor, query=query, on_discard=on_discard), timeout)

    async def get(self, run_id: str, *, wait: float | None = None) -> Run:
        """A run as it stands; with `wait` (0 to 60 s) once it waits or is finished, or the time is over. NotFound."""
        timeout = None if wait is None else wait + WAIT_GRACE_SECONDS
        return record(Run, await self._get(_path(run_id), given(wait=wait), timeout=timeout))

    async def wait(self, run_id: str, *, timeout: float | None = None) -> Run:
        """
        The run once it is finished, however it ended, or waits for an answer.

        Raises:
            DeadlineExceeded: it was not, in time. It goes on.
            NotFound, AccessRefused, Unavailable, ConnectionFailed: as `events`.
        """
        return await within(deadline_of(timeout), self._waited(run_id))

    async def list(
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
        query = given(
            status=status,
            agent=agent,
            thread_id=thread_id,
            created_after=created_after,
            created_before=created_before,
            limit=limit,
            cursor=cursor,
        )
        page = await self._get("/runs", query)
        return record(RunPage, {**page, "runs": [Run(row) for row in page["runs"]]})

    async def steps(self, run_id: str) -> Records:
        """The steps of a run, by their start. NotFound."""
        return [Record(step) for step in (await self._get(f"{_path(run_id)}/steps"))["steps"]]

    async def export(self, run_id: str) -> bytes:
        """The stored journal byte for byte, as JSON lines; `holdfast verify` checks it. NotFound."""
        return (await self._http.send_again(Request("GET", f"{_path(run_id)}/export"))).content

    async def verify(self, run_id: str) -> Record:
        """Whether the stored journal fits its hashes: `ok`, and `first_bad_sequence` if not. NotFound."""
        return record(Record, await self._get(f"{_path(run_id)}/verify"))

    # Answering and cancelling

    async def interrupts(self, run_id: str, *, status: Literal["pending", "all"] = "pending") -> Records:
        """What a run asks, or has asked. NotFound."""
        return [
            Record(item) for item in (await self._get(f"{_path(run_id)}/interrupts", {"status": status}))["interrupts"]
        ]

    async def answer(self, run_id: str, interrupt_id: str, answer: Any) -> Record:
        """
        Answer what a run asks. Once this returns the answer is on disk. The same answer again is a success.

        Raises:
            ValidationFailed: it has not the shape that the interrupt asks for, which is still pending.
            InterruptResolved: another answer was first; RunFinished: the run is over.
            NotFound, AccessRefused, Unavailable, ConnectionFailed.
        """
        path = f"{_path(run_id)}/interrupts/{quote(interrupt_id, safe='')}"
        return record(Record, await self._change("POST", path, {"answer": answer}))

    async def cancel(self, run_id: str, *, reason: str | None = None, wait: float | None = None) -> Record:
        """
        Cancel a run: `status`, `reason`, `requested`, `stopped`. It is final within 5 s.

        Args:
            wait: seconds (0 to 10) to wait for that; the server's default is 5.

        Raises:
            RunFinished: it was over. NotFound, AccessRefused, Unavailable, ConnectionFailed.
        """
        return record(
            Record,
            await self._change("POST", f"{_path(run_id)}/cancel", given(reason=reason), query=given(wait=wait)),
        )

    async def stream_token(self, run_id: str, *, expires_in: int | None = None) -> Record:
        """A token with which a browser may read this run: `token`, `expires_at`, `events_url`. `expires_in`: 10 to 3600 s."""
        return record(Record, await self._change("POST", f"{_path(run_id)}/stream-token", given(expires_in=expires_in)))

    # The server

    async def agents(self) -> Record:
        """The agents that are served, and which is the `default`."""
        return record(Record, await self._get("/agents"))

    async def schema(self, agent: str | None = None) -> Record:
        """`input_schema` and `output_schema` of an agent; default is the server's default agent. NotFound."""
        return record(Record, await self._get(f"{_agent_path(agent)}/schema"))

    async def info(self, agent: str | None = None) -> Record:
        """What an agent says of itself; default is the server's default agent. NotFound."""
        return record(Record, await self._get(f"{_agent_path(agent)}/info"))

    async def health(self) -> Record:
        """How the process is; it answers as long as it lives. One try. ConnectionFailed."""
        return record(Record, (await self._http.send(Request("GET", "/health"))).json())

    async def ready(self) -> bool:
        """Whether the server takes runs. One try. ConnectionFailed."""
        return await self._is_ready("/ready")

    # Inside

    async def _insist(self, request: Request) -> Any:
        """The answer of a call that waits for a run: made again, as often as it is cut off before."""
        patience = self._patience()
        while True:
            try:
                return await self._http.send(request, timeout=WAIT_SECONDS)
            except ClientError as exc:
                if isinstance(exc, ConnectionFailed) and exc.is_overdue:
                    patience.answered()
                    continue
                delay = patience.failed(exc)
            await self._http.pause(delay)

    async def _waited(self, run_id: str) -> Run:
        request = Request("GET", _path(run_id), {"wait": WAIT_SECONDS})
        patience = self._patience()
        while True:
            try:
                answer = await self._http.send(request, timeout=WAIT_SECONDS + WAIT_GRACE_SECONDS)
            except ClientError as exc:
                await self._http.pause(patience.failed(exc))
                continue
            patience.answered()
            run = record(Run, answer.json())
            if run.is_finished or run["status"] == "waiting":
                return run

    def _patience(self) -> Patience:
        return Patience(self._http.backoff(), self._reconnect_seconds, self._http.clock)


def _controls(
    agent: str | None,
    run_id: str | None,
    thread_id: str | None,
    execution_seconds: float | None,
    webhook_url: str | None,
) -> dict[str, Any]:
    return given(
        agent=agent, run_id=run_id, thread_id=thread_id, timeout_sec=execution_seconds, webhook_url=webhook_url
    )


def _filters(types: Iterable[str] | None, preset: Preset | None) -> dict[str, Any]:
    return given(types=None if types is None else ",".join(types), preset=preset)


def _path(run_id: str) -> str:
    return f"/runs/{quote(run_id, safe='')}"


def _agent_path(agent: str | None) -> str:
    return "" if agent is None else f"/agents/{quote(agent, safe='')}"
