"""
The calls of one run: each is executed once, and its output is posted until the server has it.

A call goes through these stations, each of which is remembered by the ledger, so that a crash goes on where it was:

    wait for a place (`concurrency`) → stored output? then post it → claim, where asked for → begin → handler → store → post

`show` is told what is pending, as often as one likes. What is not pending any more is void: its handler is cancelled,
its post is not repeated. A handler that is cancelled gives its call back.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import quote

from holdfast.client.workflow.claims import Claim, Claims
from holdfast.client.workflow.errors import ToolError, WorkflowError, WorkflowHTTPError
from holdfast.client.workflow.http import Http, encoded, idempotency_key, is_passing
from holdfast.client.workflow.ledger import Beginning, CallKey, Ledger
from holdfast.client.workflow.tools import (
    Answer,
    Call,
    Misfit,
    OnToolError,
    Stage,
    Tool,
    ToolMap,
    errored,
    fault_text,
    output_text,
)

log = logging.getLogger("holdfast.client")

# Another handler of this machine is at the call; how often to look whether it is done, or dead.
BUSY_LOOK_SECONDS: Final = 0.25


@dataclass(frozen=True)
class Workshop:
    """What the calls of all runs of a client share."""

    http: Http
    ledger: Ledger
    threads: Callable[[], ThreadPoolExecutor]
    concurrency: int
    tool_timeout: float | None
    unknown_tools: Literal["leave", "error"]
    lease_seconds: float | None
    worker: str
    on_tool_error: OnToolError | None


@dataclass(frozen=True, slots=True)
class Later:
    """The call cannot be executed now: somebody else is at it. Ask again after so long."""

    seconds: float


class Running:
    """A call that is being carried out. `reason` says why its handler was cancelled, if it was."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.reason: Literal["void", "claim"] | None = None
        self.handler: asyncio.Future[Any] | None = None
        self.task: asyncio.Task[None] | None = None
        self._is_pausing = False

    def cancel(self, reason: Literal["void", "claim"]) -> None:
        """Nobody needs the output (`void`), or somebody else makes it (`claim`). Whatever is stored stays."""
        self.reason = self.reason if self.reason == "void" else reason
        self.call.cancel()
        if self.handler is not None:
            self.handler.cancel()
        if self.reason == "void" and self._is_pausing and self.task is not None:
            self.task.cancel()

    async def pause(self, waiting: Awaitable[None]) -> None:
        """Wait, unless nobody needs the output any more: a refused claim may say an hour."""
        self._is_pausing = True
        try:
            await waiting
        finally:
            self._is_pausing = False

    def begin_again(self) -> None:
        """The claim was lost, and the call is still pending. A handler that did not stop keeps its old, cancelled call."""
        if self.reason == "claim":
            self.call, self.reason, self.handler = Call(self.call.request), None, None


class Calls:
    """
    The calls of one run. `on_failure` is told what ends the work on them: a server that refuses our posts, a ledger
    that cannot be written.

    `unhandled` are the pending calls that have no handler here, as `{call_id, name, namespace, …}`.
    """

    def __init__(
        self,
        workshop: Workshop,
        tools: ToolMap,
        agent_id: str,
        task_id: int,
        *,
        on_failure: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        self.agent_id = agent_id
        self.unhandled: list[Mapping[str, Any]] = []
        self._workshop = workshop
        self._tools = tools
        self._task_id = task_id
        self._on_failure = on_failure
        self._places = asyncio.Semaphore(workshop.concurrency)
        self._running: dict[str, Running] = {}
        self._seen: dict[str, int] = {}
        self._warned: set[str] = set()

    @property
    def path(self) -> str:
        return f"/api/agent/{quote(self.agent_id, safe='')}/{self._task_id}"

    def show(self, pending: Sequence[Mapping[str, Any]], *, connection: int = 0) -> None:
        """
        Carry out what is new in here, and let go of what is not in here any more.

        A call that comes again with another `connection` is posted again, from the ledger: the server does not have its
        output. One that comes again with the same one is an old frame.
        """
        calls: dict[str, Call] = {}
        self.unhandled = []
        for request in pending:
            try:
                call = Call(request)
            except (AttributeError, KeyError, TypeError, ValueError):
                self._leave_unknown(request)
            else:
                calls[call.call_id] = call
        for call_id, running in list(self._running.items()):
            if call_id not in calls:
                running.cancel("void")
        for call_id, call in calls.items():
            tool = self._tools.find(call.namespace, call.name)
            if tool is None and self._workshop.unknown_tools == "leave":
                self.unhandled.append(call.request)
                self._warn(call)
            elif call_id not in self._running and self._seen.get(call_id) != connection:
                self._start(call, tool)
            self._seen[call_id] = connection

    def void(self) -> None:
        """The run is over: nobody needs any output."""
        self.show(())

    async def settle(self) -> None:
        """Wait until all that was begun is posted, or let go of."""
        while tasks := [running.task for running in self._running.values() if running.task is not None]:
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """End all work at once. What was begun is given back."""
        tasks = [running.task for running in self._running.values() if running.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def answers(self, pending: Sequence[Mapping[str, Any]]) -> list[Answer]:
        """The answers of these calls, in their order, without posting any. Those without a handler may be missing."""
        running = [Running(Call(request)) for request in pending]
        found = await asyncio.gather(*(self._answer(one, self._find(one)) for one in running))
        return [answer for answer, _ in found if answer is not None]

    # One call

    def _find(self, running: Running) -> Tool | None:
        return self._tools.find(running.call.namespace, running.call.name)

    def _start(self, call: Call, tool: Tool | None) -> None:
        running = Running(call)
        self._running[call.call_id] = running
        running.task = asyncio.create_task(self._carry_out(running, tool), name=f"holdfast call {call.call_id}")

    async def _carry_out(self, running: Running, tool: Tool | None) -> None:
        try:
            answer, claim = await self._answer(running, tool)
            if answer is not None:
                await self._post(running, answer, claim)
        except Exception as exc:  # noqa: BLE001 — top of a task; whoever awaits the run gets it
            self._on_failure(exc)
        finally:
            del self._running[running.call.call_id]

    async def _answer(self, running: Running, tool: Tool | None) -> tuple[Answer | None, int | None]:
        """The answer, and the number of the claim under which it was made. No answer: the call is not ours to answer."""
        if tool is None:
            call = running.call
            if self._workshop.unknown_tools == "leave":
                self._warn(call)
                return None, None
            return errored(call, f"tool {call.full_name} failed (no handler)"), None
        claims = Claims(
            self._workshop.http, self.path, running.call.call_id, self._workshop.worker, self._workshop.lease_seconds
        )
        while running.reason != "void":
            async with self._places:
                found = await self._attempt(running, tool, claims)
            if not isinstance(found, Later):
                return found, claims.number
            await running.pause(self._workshop.http.pause(found.seconds))
            running.begin_again()
        return None, None

    async def _attempt(self, running: Running, tool: Tool, claims: Claims) -> Answer | Later | None:
        ledger, key = self._workshop.ledger, (self._task_id, running.call.call_id)
        if (answer := await ledger.answer(key)) is not None:
            return answer
        if self._workshop.lease_seconds is not None:
            claim = await claims.take()
            if claim is Claim.ANSWERED:
                return None
            if isinstance(claim, float):
                return Later(claim)
        begun = await ledger.begin(key)
        if begun.answer is not None:
            return begun.answer
        if begun.beginning is Beginning.BUSY:
            return Later(BUSY_LOOK_SECONDS)
        return await self._execute(running, tool, claims, key, is_again=begun.beginning is Beginning.AGAIN)

    async def _execute(
        self, running: Running, tool: Tool, claims: Claims, key: CallKey, *, is_again: bool
    ) -> Answer | Later | None:
        """Run the handler of a call that is ours, and store what came of it; or give the call back."""
        ledger, answer = self._workshop.ledger, None
        try:
            if is_again and tool.is_at_most_once:
                answer = errored(running.call, "outcome_unknown")
            elif running.reason is None:
                async with claims.renewed(lambda: running.cancel("claim")):
                    answer = await self._handled(running, tool)
            if answer is not None:
                await ledger.finish(key, answer)
                return answer
        finally:
            if answer is None:
                await ledger.abandon(key)
        # With its claim lost, the call is another worker's; unless that one dies.
        return Later(0.0) if running.reason == "claim" else None

    async def _handled(self, running: Running, tool: Tool) -> Answer | None:
        """The answer that the handler gives, or its fault. None: it was cancelled, or the server's deadline is over."""
        call = running.call
        try:
            arguments = tool.arguments(call)
        except Misfit as exc:
            return await self._fault(call, "arguments", exc)
        seconds, is_deadline = self._limit(call)
        if seconds is not None and seconds <= 0:
            return None
        running.handler = handler = asyncio.ensure_future(self._called(tool, call, arguments))
        try:
            await asyncio.wait({handler}, timeout=seconds)
            if running.reason is not None:
                return None
            if not handler.done():
                return (
                    None if is_deadline else await self._fault(call, "timeout", TimeoutError(f"{seconds:g} s are over"))
                )
            return await self._outcome(call, handler)
        finally:
            if not handler.done():
                call.cancel()
                handler.cancel()
            handler.add_done_callback(_heard)

    async def _outcome(self, call: Call, handler: asyncio.Future[Any]) -> Answer:
        if handler.cancelled():
            return await self._fault(call, "execution", RuntimeError("the handler cancelled itself"))
        if (error := handler.exception()) is not None:
            if not isinstance(error, Exception):
                raise error
            return await self._fault(call, "execution", error)
        try:
            return Answer(call.call_id, output_text(handler.result()))
        except ValueError as exc:
            return await self._fault(call, "output", exc)

    def _limit(self, call: Call) -> tuple[float | None, bool]:
        """How long the handler may take, and whether it is the server's deadline that says so."""
        ours = self._workshop.tool_timeout
        theirs = None if call.expires_at is None else call.expires_at.timestamp() - time.time()
        if theirs is None or (ours is not None and ours < theirs):
            return ours, False
        return theirs, True

    async def _called(self, tool: Tool, call: Call, arguments: dict[str, Any]) -> Any:
        given: dict[str, Any] = {"args": arguments, "agent_id": self.agent_id, "task_id": self._task_id}
        if tool.takes_call:
            given["call"] = call
        try:
            if tool.is_async:
                return await tool.handler(**given)
            context, threads = contextvars.copy_context(), self._workshop.threads()
            value = await asyncio.get_running_loop().run_in_executor(
                threads, lambda: context.run(tool.handler, **given)
            )
            return await value if inspect.isawaitable(value) else value
        except SystemExit as exc:
            # Code that was written for a command line does so. It is the end of this call, and not of this process.
            raise RuntimeError(f"the handler wanted to exit with {exc.code!r}") from exc

    async def _fault(self, call: Call, stage: Stage, error: Exception) -> Answer:
        """One fault, told with as little as the handler allows."""
        log.warning(
            "tool %s, call %s of run %d: failed (%s)",
            call.full_name,
            call.call_id,
            self._task_id,
            stage,
            exc_info=error,
        )
        text = str(error) if isinstance(error, ToolError) else fault_text(call, stage, error)
        if self._workshop.on_tool_error is not None:
            try:
                said = self._workshop.on_tool_error(stage, call, error)
                replaced = await said if inspect.isawaitable(said) else said
            except Exception:
                log.exception("on_tool_error raised")
            else:
                text = replaced if isinstance(replaced, str) else text
        return errored(call, text)

    def _warn(self, call: Call) -> None:
        if call.call_id not in self._warned:
            self._warned.add(call.call_id)
            log.warning(
                "no handler for tool %s: call %s of run %d stays pending", call.full_name, call.call_id, self._task_id
            )

    def _leave_unknown(self, request: Mapping[str, Any]) -> None:
        """A kind of call that this version does not know, from a newer server: for another client."""
        self.unhandled.append(request)
        if (shown := repr(request)[:200]) not in self._warned:
            self._warned.add(shown)
            log.warning("a call of run %d is none that this version knows, and stays pending: %s", self._task_id, shown)

    # Posting

    async def _post(self, running: Running, answer: Answer, claim: int | None) -> None:
        """
        Until the server has an answer of this call, ours or another's, or nobody needs it any more.

        Raises:
            WorkflowError: the server refuses our posts altogether.
        """
        call, backoff = running.call, self._workshop.http.backoff()
        while True:
            body = encoded({"results": [answer.result(claim)]})
            try:
                await self._workshop.http.request(
                    "POST",
                    f"{self.path}/tool_responses",
                    content=body,
                    headers={"Idempotency-Key": idempotency_key(body)},
                )
                return
            except WorkflowError as exc:
                status = exc.status_code if isinstance(exc, WorkflowHTTPError) else 0
                if is_passing(exc):
                    delay = backoff.next_seconds(getattr(exc, "retry_after", None))
                elif status == 409:
                    return  # somebody was first, or the run is over
                elif status == 413 and not answer.errored:
                    answer, delay = await self._fault(call, "output", exc), 0.0
                    await self._workshop.ledger.finish((self._task_id, call.call_id), answer)
                elif status in (413, 422):
                    log.error("the output of call %s of run %d was not taken: %s", call.call_id, self._task_id, exc)
                    return
                else:
                    raise
            if running.reason == "void" or _is_over(call, delay):
                log.warning("the output of call %s of run %d came too late", call.call_id, self._task_id)
                return
            await running.pause(self._workshop.http.pause(delay))


def _is_over(call: Call, delay: float) -> bool:
    return call.expires_at is not None and time.time() + delay > call.expires_at.timestamp()


def _heard(handler: asyncio.Future[Any]) -> None:
    """Take note of what a handler that was let go raised in the end; nobody else does."""
    if not handler.cancelled():
        handler.exception()
