"""
The WebSockets of this API: one follows a run, one starts it. What a message means is decided in `conversation`.

A socket is two tasks and a timer. One task follows the run: it pulls from the same readers as every stream of events
and holds no queue. The other carries out what the client says, one message after the other. Both write whole frames,
one at a time. The timer looks after what depends on time: heartbeats, readers that take nothing, deadlines, revoked
keys. However the socket ends, its run goes on.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
import structlog
from litestar import get

from holdfast.api.http.asgi import Answer, Receive, Scope, Send
from holdfast.api.http.auth import UNASKED, Grant
from holdfast.api.http.call import Call, idempotency_key_of
from holdfast.api.http.connection import Taking
from holdfast.api.http.enabling import WEBSOCKET
from holdfast.api.http.errors import TooManySubscribers
from holdfast.api.http.frames import SLICE_BYTES_MAX, messages_of, slices, text_frames
from holdfast.api.http.idempotency import idempotency_row
from holdfast.api.http.routing import Refusal
from holdfast.api.http.run_webhook import start_run
from holdfast.api.http.sse import TICK_SECONDS_MAX, Source
from holdfast.api.http.websocket import WebSocket, accept
from holdfast.api.runtime.changing import CANCEL_WAIT_SECONDS, check_reason, give_answer
from holdfast.api.runtime.controls import check_input, start_request, wish_of
from holdfast.api.runtime.conversation import (
    Authenticate,
    Cancel,
    Close,
    CloseCode,
    Conversation,
    Decision,
    GiveAnswer,
    Pong,
    Refuse,
    Start,
    Subscribe,
    Welcome,
)
from holdfast.api.runtime.following import Reading, socket_source
from holdfast.api.runtime.position import Position, find_position, read_cursor
from holdfast.api.runtime.problems import render
from holdfast.api.runtime.projection import gap_of
from holdfast.api.runtime.reading import run_headers
from holdfast.api.runtime.views import STATUS_NAMES, accepted_view, receipt_view
from holdfast.errors import HoldfastError, InvalidRequest, RunNotFound, Unauthenticated
from holdfast.journal import Signal
from holdfast.model import Run

log = structlog.get_logger(__name__)

_HEARTBEAT: Final = text_frames(b'{"type":"heartbeat"}')
_encode: Final = msgspec.json.Encoder().encode


@get("/runs/{run_id:str}/ws", opt={"stream_token": True, "socket": True, "enabled_by": WEBSOCKET})
async def follow_on_socket(request: Call) -> Answer:
    """A WebSocket that follows a run, and through which it is answered and cancelled."""
    request.query()
    return RunSocket(request, run_id=request.path_value("run_id"))


@get(["/invoke/ws", "/agents/{name:str}/invoke/ws"], opt={"role": "executor", "socket": True, "enabled_by": WEBSOCKET})
async def invoke_on_socket(request: Call) -> Answer:
    """A WebSocket that starts a run with its first message, and follows it."""
    if "name" in request.scope["path_params"]:
        request.query()
        return RunSocket(request, agent=request.runs.agent(request.path_value("name")).name, is_of_agent=True)
    return RunSocket(request, agent=request.runs.agent(request.query("agent").get("agent")).name)


class RunSocket:
    """
    The answer to a call that asks for a WebSocket. As an ASGI application it is called once.

    Args:
        run_id: the run that it follows; None: it starts one, of this agent unless its message names another.
        is_of_agent: the path names the agent, and the message may not.
    """

    def __init__(
        self, request: Call, *, run_id: str | None = None, agent: str | None = None, is_of_agent: bool = False
    ) -> None:
        self._request = request
        self._run_id = run_id
        self._agent = agent
        self._is_of_agent = is_of_agent
        self._services = request.services
        self._times = request.services.stream_times
        self._source: Source | None = None
        self._is_replaced = False
        self._is_at_end = False
        self._released = asyncio.Event()
        self._changed = asyncio.Event()
        self._writing = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, self._loop = self._request, asyncio.get_running_loop()
        run = await self._known_run() if request.grant is not UNASKED else None
        self._socket: WebSocket = accept(scope, () if run is None else run_headers(run))
        self._connection = self._socket.connection
        self._conversation = Conversation(starts_runs=self._run_id is None, now=self._loop.time())
        self._last_write = self._loop.time()
        self._taking = Taking(self._connection, self._last_write)
        self._connection.on_lost = self._wake
        self._services.shutdown.add(self._on_shutdown)
        self._timer: asyncio.TimerHandle = self._loop.call_later(self._until_tick(), self._tick)
        self._services.metrics.subscribers += 1
        hearing = asyncio.create_task(self._hear(run), name="socket")
        hearing.add_done_callback(lambda _: self._wake())
        try:
            await self._follow(hearing)
        finally:
            self._services.metrics.subscribers -= 1
            self._timer.cancel()
            self._services.shutdown.remove(self._on_shutdown)
            if self._source is not None:
                self._source.close()
            self._socket.close(CloseCode.INTERNAL, "something went wrong in the server")
            # Whoever says something and leaves at once was heard: that is carried out, as a call in HTTP would be.
            await hearing
            self._connection.on_lost = None

    # Following the run

    async def _follow(self, hearing: asyncio.Task[None]) -> None:
        """Send events until the socket is closed, by whomever."""
        while not self._socket.is_closing:
            source = self._source
            if self._is_replaced:
                if source is not None:
                    source.close()
                self._source, self._is_replaced = None, False
                self._released.set()
            elif source is not None:
                await self._send_next(source)
            elif self._is_at_end and hearing.done():
                self._close(CloseCode.FINISHED, "the run is finished")
            else:
                self._changed.clear()
                await self._changed.wait()

    async def _send_next(self, source: Source) -> None:
        try:
            frames = await source.next()
        except HoldfastError as error:
            log.warning("socket_cut", reason=error.code, message=str(error))
            self._close(CloseCode.INTERNAL, error.message)
            return
        if self._is_replaced:
            return
        if frames is Signal.END:
            self._end()
        elif frames is Signal.ROLLED_BACK:
            self._close(CloseCode.SHUTDOWN, "history was rolled back; come back with the cursor")
        elif isinstance(frames, Signal):
            return
        elif frames:
            await self._write(frames)
        else:
            # All of it was hidden from this reader; others get their turn.
            await asyncio.sleep(0)

    def _end(self) -> None:
        """Nothing follows in this run: what was said until now is answered, then the socket is closed."""
        self._is_at_end, self._is_replaced = True, self._source is not None
        self._socket.stop_hearing()

    async def _write(self, frames: bytes) -> None:
        """Write messages, whole, as fast as the other side takes them."""
        if len(frames) <= SLICE_BYTES_MAX and not self._writing.locked() and not self._connection.is_paused:
            # Nearly always: nothing to wait for, and nobody to take turns with.
            if not self._socket.is_closing:
                self._connection.write(frames)
                self._last_write = self._loop.time()
            return
        async with self._writing:
            for piece in slices(frames):
                if self._connection.is_paused:
                    await self._connection.drained()
                if self._socket.is_closing:
                    return
                self._connection.write(piece)
        self._last_write = self._loop.time()

    async def _say(self, message: dict[str, Any], ref: str | None = None) -> None:
        await self._write(text_frames(_encode(message if ref is None else {**message, "ref": ref})))

    async def _acknowledge(self, of: str, ref: str | None, result: Any = None) -> None:
        message = {"type": "ack", "of": of} | ({} if ref is None else {"ref": ref})
        await self._say(message if result is None else message | {"result": result})

    # Hearing the client

    async def _hear(self, run: Run | None) -> None:
        """Carry out what the client says, in its order."""
        if self._request.grant is not UNASKED:
            await self._let_in(run)
        while (text := await self._socket.receive()) is not None:
            decision = self._conversation.hear(text)
            ref = None if isinstance(decision, Close) else decision.ref
            try:
                await self._carry_out(decision)
            except Exception as error:  # noqa: BLE001  # the top of a message: whatever it was, the client is told
                await self._refuse(error, ref)

    async def _carry_out(self, decision: Decision) -> None:
        match decision:
            case Close():
                self._close(decision.code, decision.reason)
            case Refuse():
                await self._refuse(decision.error, decision.ref)
            case Pong():
                await self._say({"type": "pong"}, decision.ref)
            case Welcome():
                await self._acknowledge("auth", decision.ref)
            case Authenticate():
                await self._authenticate(decision)
            case Start():
                await self._start(decision)
            case Subscribe():
                await self._subscribe(decision)
            case GiveAnswer():
                given = await give_answer(self._request, await self._run(), decision.interrupt_id, decision.answer)
                await self._acknowledge("answer", decision.ref, given)
            case Cancel():
                await self._cancel(decision)

    async def _refuse(self, error: Exception, ref: str | None) -> None:
        if isinstance(error, TooManySubscribers):
            self._close(CloseCode.TOO_MANY, error.message)
            return
        request = self._request
        if not isinstance(error, HoldfastError):
            log.error("message_failed", request_id=request.request_id, path=request.scope["path"], exc_info=error)
        problem = render(error, Refusal(request.request_id, request.scope["path"]))
        message: dict[str, Any] = {"type": "problem"} | ({} if ref is None else {"ref": ref})
        await self._say(message | {"problem": msgspec.Raw(problem.body)})

    # Letting in

    async def _authenticate(self, given: Authenticate) -> None:
        try:
            grant = await self._grant_of(given)
        except Unauthenticated as error:
            self._close(CloseCode.UNAUTHENTICATED, error.message)
            return
        why_not = self._why_not(grant)
        if why_not is not None:
            self._close(CloseCode.UNAUTHENTICATED, why_not)
            return
        self._request.exchange.grant = grant
        await self._acknowledge("auth", given.ref)
        await self._let_in(await self._known_run())

    async def _grant_of(self, given: Authenticate) -> Grant:
        authenticator = self._services.authenticator
        credential = given.credential.encode()
        if given.kind == "token":
            return authenticator.grant_of_token(given.credential, self._services.clock.now())
        if given.kind == "api_key":
            return authenticator.grant_of(credential)
        headers = [(b"authorization", b"Bearer " + credential)]
        await authenticator.prepare(headers)
        return authenticator.authenticate(headers)

    def _why_not(self, grant: Grant) -> str | None:
        """What a header with this credential would have been refused for, with 403."""
        if grant.run_id is not None and grant.run_id != self._run_id:
            return "this stream token is for another run"
        needed = "reader" if self._run_id is not None else "executor"
        return None if grant.caller.has(needed) else f"this needs the role {needed}"

    async def _known_run(self) -> Run | None:
        """The run of the path, if there is one, and one of that id."""
        if self._run_id is None:
            return None
        try:
            return await self._request.runs.get(self._request.caller, self._run_id)
        except RunNotFound:
            return None

    async def _let_in(self, run: Run | None) -> None:
        if self._run_id is not None and run is None:
            self._close(CloseCode.NO_SUCH_RUN, "there is no such run")
            return
        self._conversation.let_in(self._loop.time(), only_reads=self._request.grant.run_id is not None)
        await self._say(
            {
                "type": "hello",
                "run_id": None if run is None else run.run_id,
                "status": None if run is None else STATUS_NAMES[run.status],
                "tail_sequence": None if run is None else run.tail_sequence,
                "epoch": None if run is None else run.epoch,
                "heartbeat_interval": _number(self._times.heartbeat),
            }
        )

    # Starting, following, answering, cancelling

    async def _run(self) -> Run:
        assert self._run_id is not None
        return await self._request.runs.get(self._request.caller, self._run_id)

    async def _start(self, wanted: Start) -> None:
        request, runs = self._request, self._request.runs
        if wanted.agent is not None and self._is_of_agent:
            raise InvalidRequest("the path of this socket names the agent", field="agent")
        agent = self._agent if wanted.agent is None else runs.agent(wanted.agent).name
        runs.check_rate(request.caller)
        check_input(wanted.input, runs.agent(agent), field="input")
        reading = Reading.parse(wanted.controls, self._services.settings)
        asked = start_request(request, wanted.controls, agent=agent, input=wanted.input, body=wanted.input)
        if wanted.idempotency_key is not None:
            key = idempotency_key_of(wanted.idempotency_key, "idempotency_key", has_spaces=True)
            # What the message says of the agent decides as the path of a call does.
            row = idempotency_row(request, [wanted.controls, agent], wanted.input, key)
            asked = msgspec.structs.replace(asked, idempotency=row)
        run = (await start_run(request, asked, wish_of(wanted.controls))).run
        self._run_id = run.run_id
        self._conversation.begun()
        await self._acknowledge("start", wanted.ref, accepted_view(run))
        await self._begin(run, find_position(run, None, None), reading)

    async def _subscribe(self, wanted: Subscribe) -> None:
        cursor = read_cursor(wanted.from_sequence, "from_sequence")
        reading = Reading.parse(wanted.reading, self._services.settings)
        run = await self._run()
        if self._source is not None:
            self._is_replaced = True
            self._released.clear()
            self._source.wake()
            # From here on the former subscription sends nothing any more.
            await self._released.wait()
        self._conversation.begun()
        position = find_position(run, cursor, None)
        await self._acknowledge("subscribe", wanted.ref, {"start": position.requested})
        await self._begin(run, position, reading)

    async def _begin(self, run: Run, position: Position, reading: Reading) -> None:
        """Follow the run from there on, behind the gap that may be due."""
        if position.is_done:
            self._end()
            return
        if position.gap is not None:
            await self._write(messages_of(gap_of(run, position.requested, position.first, position.gap)))
        source = socket_source(self._request, run, position.first - 1, reading)
        if self._socket.is_closing:
            source.close()
            return
        self._source = source
        self._wake()

    async def _cancel(self, wanted: Cancel) -> None:
        check_reason(wanted.reason)
        request, run = self._request, await self._run()
        run = await request.runs.cancel(request.caller, run.run_id, reason=wanted.reason, wait=CANCEL_WAIT_SECONDS)
        await self._acknowledge("cancel", wanted.ref, receipt_view(run))

    # Ending

    def _close(self, code: CloseCode, reason: str) -> None:
        self._socket.close(code, reason)
        self._wake()

    def _on_shutdown(self) -> None:
        self._close(CloseCode.SHUTDOWN, "the server is stopping; the run goes on")

    def _wake(self) -> None:
        self._changed.set()
        self._released.set()
        if self._source is not None:
            self._source.wake()

    # The timer

    def _until_tick(self) -> float:
        """Seconds until there may be something to do."""
        now = self._loop.time()
        due = self._last_write + self._times.heartbeat
        if self._conversation.deadline is not None:
            due = min(due, self._conversation.deadline)
        return min(max(due - now, 0.01), TICK_SECONDS_MAX, self._times.stall / 3)

    def _tick(self) -> None:
        connection, now = self._connection, self._loop.time()
        if self._socket.is_closing:
            return
        overdue = self._conversation.overdue(now)
        if self._taking.is_stalled(now, self._times.stall):
            log.info("reader_cut", waiting=connection.waiting, key=self._request.caller.name)
            self._close(CloseCode.TOO_SLOW, f"nothing was taken for {self._times.stall:g} seconds")
        elif self._request.grant.is_revoked:
            self._close(CloseCode.UNAUTHENTICATED, "the key was revoked")
        elif overdue is not None:
            self._close(overdue.code, overdue.reason)
        elif (
            now - self._last_write >= self._times.heartbeat and not connection.is_paused and not self._writing.locked()
        ):
            connection.write(_HEARTBEAT)
            self._last_write = now
        self._timer = self._loop.call_later(self._until_tick(), self._tick)


def _number(value: float) -> float:
    """Without a fraction where there is none: 15, not 15.0."""
    return int(value) if value == int(value) else value


HANDLERS: Final = (follow_on_socket, invoke_on_socket)
