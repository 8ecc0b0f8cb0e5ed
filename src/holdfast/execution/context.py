"""
What agent code holds: `Context` in async code.

Everything an agent does that must outlive it goes through here: what it emits, the steps whose results are recorded,
the questions that it asks, the tools that its caller executes, its sleep. The same calls in the same order give the
same results when the code is executed again.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.errors import (
    InterruptExpired,
    InvalidOutput,
    OutcomeUnknown,
    PermissionDenied,
    ReplayDiverged,
    StepFailed,
    ToolCallFailed,
    ToolDenied,
)
from holdfast.execution.client_tools import check_call
from holdfast.execution.codec import decode_result, encode_result
from holdfast.execution.emitting import (
    Emitting,
    Event,
    canonical_fields,
    checked_token,
    custom_fields,
    progress_fields,
    step_fields,
    text_of,
    token_fields,
)
from holdfast.execution.exits import no_exit
from holdfast.execution.files import GivenFile
from holdfast.execution.given import DEFINITION, given_key
from holdfast.execution.steps import OpenStep, Retry, failure_of, raise_recorded
from holdfast.model import Interrupt, Kind, Message, Part, Step
from holdfast.model.interrupt import encode_answer

if TYPE_CHECKING:
    from holdfast.execution.execution import Execution

# A loop that only emits would never let go of the event loop.
BURST_EVENTS = 32

_scope: contextvars.ContextVar[str | None] = contextvars.ContextVar("holdfast_step", default=None)
_origin: contextvars.ContextVar[Mapping[str, str] | None] = contextvars.ContextVar("holdfast_origin", default=None)
_current: contextvars.ContextVar[Context | None] = contextvars.ContextVar("holdfast_context", default=None)

_MISSING: Any = object()


class Approval(msgspec.Struct, frozen=True):
    """What a person decided; true where it is a yes. `by` is caller or expiry."""

    approved: bool
    remember: bool = False
    note: str | None = None
    output: Any = None
    has_output: bool = False
    by: str = "caller"
    caller: str | None = None

    def __bool__(self) -> bool:
        return self.approved


class Context(Emitting):
    """
    The run, as its agent's code sees it.

    Emitting never waits for the disk (but for room, when the disk falls behind); what is emitted reaches readers in
    order, once it is durable. Steps, interrupts and the end are durable when the call returns. After the run was
    cancelled or taken over, every call raises and nothing is written any more.
    """

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._writer = execution.writer
        self._record = execution.record
        self._counts: Counter[str] = Counter()
        self._burst = 0
        self._is_settled = True  # every recorded step is on disk

    @property
    def execution(self) -> Execution:
        """For the kernel."""
        return self._execution

    # What the run is

    @property
    def run_id(self) -> str:
        return self._execution.run.run_id

    @property
    def thread_id(self) -> str | None:
        return self._execution.run.thread_id

    @property
    def agent_name(self) -> str:
        return self._execution.run.agent

    @property
    def tenant(self) -> str:
        return self._execution.run.tenant

    @property
    def attempt(self) -> int:
        """1, and one more after each crash that the run survived."""
        return self._execution.run.attempt

    @property
    def metadata(self) -> dict[str, Any]:
        """What the caller attached to the run."""
        return self._execution.run.metadata

    @property
    def cancelled(self) -> bool:
        """The run was asked to cancel, or is not executed here any more."""
        return self._execution.is_ending

    @property
    def next_sequence(self) -> int:
        """The sequence of what is emitted next; an adapter that does work again names with it what became void."""
        return self._writer.next_sequence

    async def history(self) -> list[Message]:
        """
        What was said in the run's thread before this turn, oldest first, without superseded turns.

        It cannot change while the turn is active, so it is the same when the code is executed again.
        """
        return await self._execution.history()

    def given(self, name: str) -> Any:
        """What the run was given under this name when it was started, beside its input; None: nothing."""
        step = self._record.step(given_key(name))
        return None if step is None else decode_result(step.output or b"null")

    async def definition(self) -> bytes:
        """
        The definition that the agent had when the run was started, if it has such (`Defined`).

        Raises:
            AgentMissing: the run began without, or the store does not have it any more.
        """
        return await self._execution.definition(self.given(DEFINITION))

    def thread(self) -> asyncio.Semaphore:
        """Holds one of the process's threads for sync code, as an async context manager."""
        return self._execution.threads

    # Emitting

    async def token(self, content: str) -> None:
        """Emit a piece of text of the answer."""
        step = _scope.get()
        if step is None and self._record.is_replaying:
            return
        origin = _origin.get()
        if origin is not None:
            self._writer.write(("token", canonical_fields({"content": checked_token(content), **origin})), mark=step)
        else:
            self._writer.token(checked_token(content), step)
        self._burst += 1
        # Looked at here already: a coroutine for nothing would be a good part of what a token costs.
        if self._burst >= BURST_EVENTS or self._writer.size > self._execution.pending_bytes_max:
            await self._breathe()

    @contextlib.contextmanager
    def speaking_as(self, agent: str, parent_tool_call_id: str) -> Iterator[None]:
        """For the assistant: canonical events that are emitted inside say that they are a sub-agent's, and of which call."""
        token = _origin.set({"agent": agent, "parent_tool_call_id": parent_tool_call_id})
        try:
            yield
        finally:
            _origin.reset(token)

    async def thinking(self, content: str) -> None:
        """Emit a piece of the model's thinking."""
        await self.event("thinking", content=text_of(content, "content"))

    async def progress(self, progress: float, message: str = "", *, step: str | None = None) -> None:
        """Tell how far the work is: 0 to 1, clamped."""
        await self._emitted("progress", progress_fields(step or _scope.get(), progress, message))

    async def checkpoint(self, name: str, data: Any = None) -> Event | None:
        """Note a state for people; it is not read back. For results that are, use `step`."""
        return await self._emitted("checkpoint", canonical_fields({"name": name, "data": data}))

    async def emit(self, type: str, data: Any = None, **fields: Any) -> Event | None:
        """
        Emit an event of your own. A dict in `data` gives its fields; any other value the field `data`. The event
        comes back, or None where readers are not shown its type (`events.allowed`); it is recorded all the same.

        Raises:
            ValueError: a canonical type, a bad name (`[a-zA-Z_][a-zA-Z0-9_]{0,63}`), a fixed field, or over 1 MiB.
        """
        return await self._emitted(type, custom_fields(type, data, fields))

    async def emit_progress(self, step: str, progress: float, message: str = "") -> Event | None:
        """Tell how far a step is: 0 to 1, clamped."""
        return await self._emitted("progress", progress_fields(step, progress, message))

    async def emit_token(self, content: str, finish_reason: str | None = None) -> Event | None:
        """Emit a piece of text of the answer."""
        return await self._emitted("token", token_fields(content, finish_reason))

    async def emit_step(
        self,
        node_name: str,
        duration_ms: float | None = None,
        input_keys: Sequence[str] | None = None,
        output_keys: Sequence[str] | None = None,
    ) -> Event | None:
        """Tell that a node of a graph, or any other piece of work, is over. It is not recorded as `step` does."""
        return await self._emitted("step_completed", step_fields(node_name, duration_ms, input_keys, output_keys))

    async def emit_heartbeat(self) -> Event | None:
        """Emit an event `heartbeat`, so that readers see that the work goes on."""
        return await self._emitted("heartbeat", "")

    async def emit_started(self, *_: Any, **__: Any) -> None:
        """Writes nothing and warns once: the server writes `started`."""
        self.sync_emit_started()

    async def emit_complete(self, *_: Any, **__: Any) -> None:
        """Writes nothing and warns once: the server writes `complete`, with what the handler returns."""
        self.sync_emit_complete()

    async def emit_error(self, *_: Any, **__: Any) -> None:
        """Writes nothing and warns once: the server writes `error`, when the handler raises."""
        self.sync_emit_error()

    async def emit_cancelled(self, *_: Any, **__: Any) -> None:
        """Writes nothing and warns once: the server writes `cancelled`."""
        self.sync_emit_cancelled()

    async def _emitted(self, type: str, own: str) -> Event | None:
        event = self._written(type, own)
        await self._breathe()
        return event

    async def event(self, type: str, **fields: Any) -> None:
        """
        Emit a canonical event of the kernel's table; for adapters that bring other libraries' agents here. The input of a
        call is a reference to a file where it is large.
        """
        if not self.is_known():
            if type == "tool_call":
                fields["input"] = await self._execution.shown(msgspec.json.encode(fields["input"]))
            self._writer.write((type, canonical_fields({**fields, **(_origin.get() or {})})), mark=_scope.get())
            if type == "usage":
                self._execution.tally.add_usage(self.agent_name, fields)
            await self._breathe()

    @property
    def _mark(self) -> str | None:
        return _scope.get()

    def is_known(self) -> bool:
        """For the kernel: whether an earlier attempt emitted what comes now."""
        return self._record.is_replaying and _scope.get() is None

    def _is_known(self) -> bool:
        return self.is_known()

    async def _breathe(self) -> None:
        self._burst += 1
        if self._burst >= BURST_EVENTS:
            self._burst = 0
            await asyncio.sleep(0)
        if self._writer.size > self._execution.pending_bytes_max:
            await self._writer.room()

    # Steps

    async def step(
        self,
        name: str,
        function: Callable[..., Any],
        /,
        *args: Any,
        key: str | None = None,
        attempts: int = 1,
        backoff_seconds: float = 1.0,
        backoff_multiplier: float = 2.0,
        timeout_seconds: float | None = None,
        at_most_once: bool = False,
        side_effects: bool = True,
        visible: bool = True,
        **kwargs: Any,
    ) -> Any:
        """
        Do a piece of work once, and return its result: now from the function, after a crash from the record.

        The result is made JSON and back, so it is the same both times. The record is durable when this returns
        (`side_effects=False`: when the next step with side effects, interrupt or end needs it). A crash inside the
        function has it called again, unless `at_most_once`: then a person is asked whether to. A plain function
        runs in a thread. Cancelling it records nothing.

        Args:
            key: names the step for ever; default is the name and its occurrence.
            attempts: how often it is tried; the wait after attempt n is backoff × multiplier^(n-1), 60 s at most.
            timeout_seconds: of each attempt.
            visible: whether step_* events show it.

        Raises:
            StepFailed: the last attempt failed, or was cut off by the time limit.
            OutcomeUnknown: a person decided not to call an `at_most_once` function again.
            InvalidOutput: the result is no JSON value.
        """
        step_key = self.step_key(name, key)
        recorded = self.recorded(step_key)
        if recorded is not None:
            return raise_recorded(recorded)
        retry = Retry(attempts, backoff_seconds, backoff_multiplier)
        opened = await self.open_step(step_key, name, at_most_once, side_effects, visible)
        if opened.is_settled:
            return opened.result
        try:
            while True:
                try:
                    async with asyncio.timeout(timeout_seconds):
                        result = await self._call_in_step(step_key, function, args, kwargs)
                    return await self.complete_step(opened, result, side_effects)
                except InvalidOutput as exc:
                    await self.fail_step(opened, exc, Retry(1, 0, 1))
                except Exception as exc:  # noqa: BLE001  whatever the function raised is the step's failure
                    await self._retry_step(opened, exc, retry, timeout_seconds)
        finally:
            self._execution.step_ended(opened)

    async def tool_step(
        self,
        name: str,
        function: Callable[[], Awaitable[Any]],
        *,
        key: str,
        at_most_once: bool,
        question: Mapping[str, Any],
    ) -> Any:
        """
        For the assistant: an invisible `step` that calls a tool. `question` is what a person is asked, as for `approve`,
        where a crash left it unknown whether it ran.

        Raises:
            PermissionDenied: such a question is on record, and was about another input.
            OutcomeUnknown: a person decided not to call it again.
        """
        step_key = self.step_key(name, key)
        recorded = self.recorded(step_key)
        if recorded is not None:
            return raise_recorded(recorded)
        opened = await self.open_step(step_key, name, at_most_once, True, False, question)
        if opened.is_settled:
            return opened.result
        try:
            result = await self._call_in_step(step_key, function, (), {})
            return await self.complete_step(opened, result, side_effects=True)
        except Exception as exc:  # noqa: BLE001  whatever the function raised is the step's failure
            await self.fail_step(opened, exc, Retry(1, 0, 1))
        finally:
            self._execution.step_ended(opened)

    def step_key(self, name: str, key: str | None = None) -> str:
        """The key of the next step of this name, here; for adapters that keep steps by themselves."""
        scope = _scope.get()
        base = key or name
        full = base if scope is None else f"{scope}/{base}"
        if key is not None:
            return full
        self._counts[full] += 1
        count = self._counts[full]
        return full if count == 1 else f"{full}#{count}"

    def recorded(self, key: str) -> Step | None:
        step = self._record.step(key)
        if step is None or not step.is_recorded:
            return None
        self._record.consume(key)
        return step

    async def open_step(
        self,
        key: str,
        name: str,
        at_most_once: bool,
        side_effects: bool,
        visible: bool,
        question: Mapping[str, Any] | None = None,
    ) -> OpenStep:
        if self._execution.recorded_only:
            raise ReplayDiverged(f"step {key} is not on record")
        known = self._record.step(key)
        opened = OpenStep(key, name, known.attempts if known else 1, at_most_once, visible, self._execution.now())
        if known is not None and known.at_most_once:
            # Earlier crashes of this step were asked about, too; nobody will ask for those answers again.
            self._record.consume(key)
            decision = await self._ask_outcome_unknown(opened, question or {})
            if decision.has_output:
                await self.complete_step(opened, decision.output, side_effects=True)
                opened.settle(decision.output)
                return opened
            if not decision.approved:
                await self.fail_step(
                    opened, OutcomeUnknown(f"step {key}: it is not known whether it was done"), Retry(1, 0, 1)
                )
            opened.attempt += 1  # the next crash is another one, and is asked about anew
        if side_effects:
            if not self._is_settled:
                await self._settle()
            # Behind every wait: a commit may be confirmed long after it took place, and the lease is over by then.
            await self._execution.make_sure_of_lease()
        await self._begin(opened)
        return opened

    async def _call_in_step(
        self, key: str, function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        with in_step(key), no_exit:
            if inspect.iscoroutinefunction(function) or _is_async(function):
                return await function(*args, **kwargs)
            result = await self._execution.in_thread(function, *args, **kwargs)
            return await result if isinstance(result, Awaitable) else result

    async def complete_step(
        self,
        opened: OpenStep,
        result: Any,
        side_effects: bool,
        *,
        shown: Any = _MISSING,
        facts: Mapping[str, Any] | None = None,
    ) -> Any:
        """For the kernel and adapters: record a step's result; its event may show another one, and further facts."""
        data = encode_result(result, what=f"the result of step {opened.key}")
        now = self._execution.now()
        display = data if shown is _MISSING else encode_result(shown, what=f"the result of step {opened.key}")
        self._writer.write(
            *opened.completed_events(now, await self._execution.shown(display), facts),
            mark=opened.key,
            steps=[opened.row(self._execution.run.number, status="completed", now=now, output=data)],
        )
        # Done again, it need not have asked for everything that an earlier attempt recorded inside it.
        self._record.consume(opened.key)
        self._execution.step_ended(opened)
        if side_effects:
            await self._writer.durable()
            self._is_settled = True
        else:
            self._is_settled = False
        return decode_result(data)

    async def end_unrecorded(self, opened: OpenStep, shown: Any, facts: Mapping[str, Any]) -> None:
        """For adapters: tell that a step is over whose result cannot be recorded. Executed again, it is done again."""
        display = await self._execution.shown(encode_result(shown, what=f"the result of step {opened.key}"))
        self._writer.write(*opened.completed_events(self._execution.now(), display, facts), mark=opened.key)
        self._execution.step_ended(opened)

    def tell_failed(self, opened: OpenStep, exc: Exception) -> None:
        """For adapters: tell that a step failed, without recording it: whoever asked for it decides what follows."""
        self._writer.write(*opened.failed_events(failure_of(exc), None), mark=opened.key)
        self._execution.step_ended(opened)

    async def _retry_step(self, opened: OpenStep, exc: Exception, retry: Retry, timeout: float | None) -> None:
        if isinstance(exc, TimeoutError) and timeout is not None and not str(exc):
            exc = StepFailed(f"step {opened.key}: over {timeout:g} s", step=opened.key)
        await self.fail_step(opened, exc, retry)
        await asyncio.sleep(retry.delay(opened.attempt))
        await self.try_again(opened)

    async def try_again(self, opened: OpenStep) -> None:
        """For the kernel: begin the next attempt of a step."""
        await self._execution.make_sure_of_lease()
        opened.attempt += 1
        await self._begin(opened)

    async def _begin(self, opened: OpenStep) -> None:
        """Write that an attempt begins. One of a step that is made at most once begins when that is on disk."""
        self._execution.step_began(opened)
        self._writer.write(*opened.started_events(), mark=opened.key, steps=[opened.row(self._execution.run.number)])
        if opened.at_most_once:
            await self._writer.durable()
            await self._execution.make_sure_of_lease()

    async def fail_step(self, opened: OpenStep, exc: Exception, retry: Retry) -> None:
        """Note a failed attempt; after the last one, record the failure and raise it."""
        now = self._execution.now()
        failure = failure_of(exc)
        will_retry = retry.allows(opened.attempt, exc)
        retry_at = now + int(retry.delay(opened.attempt) * 1_000_000) if will_retry else None
        events = opened.failed_events(failure, retry_at)
        self._execution.step_ended(opened)
        if will_retry:
            self._writer.write(*events, mark=opened.key)
            return
        row = opened.row(self._execution.run.number, status="failed", now=now, error=failure)
        self._writer.write(*events, mark=opened.key, steps=[row])
        self._record.consume(opened.key)
        await self._writer.durable()
        raise_recorded(row)

    async def _settle(self) -> None:
        await self._writer.durable()
        self._is_settled = True

    # Asking

    async def ask(
        self,
        question: str,
        *,
        choices: Sequence[str] | None = None,
        expires_in: float | None = None,
        default: Any = _MISSING,
        key: str | None = None,
    ) -> Any:
        """
        Ask a person and return the answer: any JSON value, or one of `choices`.

        The run waits, for days if need be, without costing anything: after a short grace the executing code is let
        go, and executed again when the answer is there. So what comes before a question belongs into steps.

        Args:
            expires_in: seconds; then `default` is the answer.

        Raises:
            InterruptExpired: the time is over and there is no default.
        """
        found = await self.ask_in_full(question, choices=choices, expires_in=expires_in, default=default, key=key)
        return found["answer"]

    async def ask_in_full(
        self,
        question: str,
        *,
        choices: Sequence[str] | None = None,
        expires_in: float | None = None,
        default: Any = _MISSING,
        key: str | None = None,
    ) -> dict[str, Any]:
        """For adapters: as `ask`, with all that the person sent: `answer`, and maybe `note` and `blocks`."""
        part = Part(
            expires_at=self._deadline(expires_in),
            on_expiry="error" if default is _MISSING else "default",
            default=None if default is _MISSING else _canonical_question(default),
        )
        answered = await self._interrupt(
            self.step_key("ask", key), Kind.QUESTION, part, question=question, choices=_choices(choices)
        )
        value: dict[str, Any] = decode_result(answered.answer or b"{}")
        return value

    async def approve(
        self,
        question: str,
        *,
        expires_in: float | None = None,
        default: bool | None = None,
        key: str | None = None,
        **facts: Any,
    ) -> Approval:
        """
        Ask a person for permission. Without `default` an expiry raises InterruptExpired.

        Args:
            facts: tool, tool_call_id, input (JSON bytes), rule, input_hash, reason, choices, answer_role.

        Raises:
            PermissionDenied: a question is on record under this key, and its `input_hash` is another one. Nobody is asked.
        """
        full = self.step_key("approve", key)
        known = self._record.interrupt(full)
        if known is not None and known.input_hash != facts.get("input_hash"):
            self._record.consume(full)
            raise PermissionDenied("the input is not the one that a person was asked about")
        part = Part(
            expires_at=self._deadline(expires_in),
            on_expiry="error" if default is None else "default",
            default=None if default is None else _canonical_approval(default),
        )
        answered = await self._interrupt(full, Kind.APPROVAL, part, question=question, **facts)
        value = decode_result(answered.answer or b"{}")
        return Approval(
            approved=value["approved"],
            remember=value.get("remember", False),
            note=value.get("note"),
            output=value.get("output"),
            has_output="output" in value,
            by=answered.by or "caller",
            caller=answered.caller,
        )

    def asked(self, key: str) -> Interrupt | None:
        """For the assistant: what an earlier execution asked under this key."""
        return self._record.interrupt(self.step_key("", key))

    def is_begun(self, key: str) -> bool:
        """For the assistant: whether an earlier execution did what this step does, or began it and must not twice."""
        step = self._record.step(self.step_key("", key))
        return step is not None and (step.is_recorded or step.at_most_once or bool(step.output))

    async def _ask_outcome_unknown(self, opened: OpenStep, facts: Mapping[str, Any]) -> Approval:
        """Asked inside of the step's key, so that whoever finds the step recorded has consumed the question too."""
        scope = _scope.get()
        key = opened.key if scope is None else opened.key.removeprefix(f"{scope}/")
        return await self.approve(
            f"The process died while {opened.name} was under way, and it is not known whether it was done. "
            "Run it again?",
            key=f"{key}/outcome_unknown#{opened.attempt}",
            **{"reason": "outcome_unknown", "rule": "outcome_unknown", "tool": opened.name, **facts},
        )

    async def sleep_until(self, when: datetime | float) -> None:
        """
        Sleep until a time (an aware datetime, or Unix seconds), through crashes and restarts, without costing
        anything meanwhile. A time that is past returns at once.
        """
        seconds = when.timestamp() if isinstance(when, datetime) else float(when)
        part = Part(expires_at=int(seconds * 1_000_000), on_expiry="default", default=b"null")
        await self._interrupt(self.step_key("sleep"), Kind.TIMER, part)

    async def call_tool(
        self,
        name: str,
        args: dict[str, Any] | None = None,
        *,
        expires_in: float | None = None,
        on_expiry: str | None = None,
        default: str | None = None,
        key: str | None = None,
    ) -> str:
        """
        Have the caller of this run execute a tool in its own process, and return what it answers.

        Calls made in one turn of the event loop (`asyncio.gather`) are asked as one round.

        Args:
            name: `tool` or `namespace.tool`.
            args: an object.
            expires_in: 1 to 2,592,000 seconds until the call counts as unanswered (default: that of the registered tool, else
                HOLDFAST_TOOL_EXPIRES_SECONDS, 24 hours).
            on_expiry: error, default (then `default` is the output), or fail (the run fails). Without it and without
                `default` it is as the registered tool says, else error.
            key: names the call in this run; default is the tool's name and its occurrence.

        Raises:
            ToolCallFailed: the caller answered with an error, or not in time; or the arguments break the registered
                schema, and nobody was asked.
            ToolDenied: the agent's policy does not allow the tool. The caller was not asked.
            ValueError: the arguments have over 256 KiB, or the round has 64 calls or 1 MiB of arguments without it;
                or what is given is not as above.
        """
        return await self.have_called(
            name, args, key=key, may_wait=False, expires_in=expires_in, on_expiry=on_expiry, default=default
        )

    async def have_called(
        self,
        name: str,
        args: dict[str, Any] | None,
        *,
        key: str | None,
        may_wait: bool,
        expires_in: float | None = None,
        on_expiry: str | None = None,
        default: str | None = None,
    ) -> str:
        """For the assistant: `call_tool` that, with `may_wait`, is in a later round where the next one is full."""
        check_call(name, args, expires_in, on_expiry, default)
        arguments = encode_result(args or {}, what=f"the arguments of {name}")
        if not self.is_tool_allowed(name):
            await self._tell_denied(name, arguments)
            raise ToolDenied(f"the agent's policy does not allow the tool {name!r}", tool=name)
        answered = await self._execution.rounds.call(
            self.step_key(f"call:{name}", key),
            name,
            arguments,
            expires_in=expires_in,
            on_expiry=on_expiry,
            default=default,
            may_wait=may_wait,
            in_step=_scope.get(),
        )
        value = decode_result(answered.answer or b"null")
        if value["errored"]:
            raise ToolCallFailed(value["error_message"] or value["output"], tool=name)
        return str(value["output"])

    async def _tell_denied(self, name: str, arguments: bytes) -> None:
        call: dict[str, Any] = {"tool": name, "tool_call_id": self._execution.ids.short("call")}
        await self.event("tool_call", **call, input=msgspec.Raw(arguments))
        await self.event("tool_result", **call, error=ToolDenied.code, message=f"the policy does not allow {name}")

    async def file(self, reference: str) -> GivenFile:
        """
        A file that this run was given, by the reference in its input.

        Raises:
            FileNotFound: the tenant has no such file (any more).
        """
        return await self._execution.file(reference)

    async def run(self, agent: str, input: Any = None) -> Any:
        """
        Run another agent as a child of this run and return its output. Cancelling this run cancels the child.

        Raises:
            StepFailed: the child failed or was cancelled.
        """
        return await self.step(f"run:{agent}", self._execution.run_child, agent, input, self._counts[f"run:{agent}"])

    def _deadline(self, expires_in: float | None) -> int | None:
        return None if expires_in is None else self._execution.now() + int(expires_in * 1_000_000)

    async def _interrupt(self, key: str, kind: Kind, part: Part, **facts: Any) -> Part:
        """Ask under a key, or find what was asked and maybe answered before; the answered part is returned."""
        execution = self._execution
        known = self._record.interrupt(key)
        if known is None:
            facts["choices"] = facts.get("choices")
            known = Interrupt(
                interrupt_id=execution.ids.short("int"),
                number=execution.run.number,
                kind=kind,
                step=key,
                created_at=execution.now(),
                parts=(part,),
                **facts,
            )
            execution.write_interrupt(known)
        self._record.consume(key)
        answered = await execution.answer_to(known, "", in_step=_scope.get())
        if answered.by == "expiry" and answered.on_expiry == "error":
            raise InterruptExpired(f"nobody answered in time: {known.question}", interrupt_id=known.interrupt_id)
        return answered


# The name that handlers of the documented runtime annotate their context with.
StreamContext = Context


def scope() -> str | None:
    """The key of the step that the calling code is in."""
    return _scope.get()


@contextlib.contextmanager
def in_step(key: str) -> Iterator[None]:
    """What is called inside belongs to this step."""
    token = _scope.set(key)
    try:
        yield
    finally:
        _scope.reset(token)


def get_current_context() -> Context | None:
    """The context of the run whose code is calling, in all its tasks and threads; None outside of a run."""
    return _current.get()


def set_current(context: Context) -> contextvars.Token[Context | None]:
    """Make this the current context of the calling task, outside of all steps; reset it with the token."""
    # A child is started inside of a step of its parent, and its task begins with the parent's variables. Executed
    # again it has none of them, so its steps must not be named after that step.
    _scope.set(None)
    _origin.set(None)
    return _current.set(context)


def _choices(choices: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if choices is None else tuple(choices)


def _canonical_question(answer: Any) -> bytes:
    return encode_answer({"answer": answer, "note": None, "blocks": None})


def _canonical_approval(approved: bool) -> bytes:
    return encode_answer({"approved": approved, "remember": False, "note": None})


def _is_async(function: Callable[..., Any]) -> bool:
    """Bound partials and objects with an async `__call__`."""
    call = getattr(function, "func", None) or getattr(type(function), "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(call)


__all__ = ["Approval", "Context", "StreamContext", "get_current_context"]
