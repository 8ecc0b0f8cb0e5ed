"""
Rounds of tool calls that the caller of a run executes.

The calls that agent code makes in one turn of the event loop form a round: one interrupt with a part for each. One
round is open at a time; later calls form the next one.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, NoReturn

import msgspec

from holdfast.errors import ToolCallFailed
from holdfast.execution.client_tools import ClientTool
from holdfast.execution.events import asking_step
from holdfast.execution.record import call_of
from holdfast.model import Failure, Interrupt, Kind, Part, Step
from holdfast.model.encoding import encode_fields
from holdfast.model.interrupt import canonical_tool_output

if TYPE_CHECKING:
    from holdfast.execution.execution import Execution

CALLS_MAX = 64
ROUND_BYTES_MAX = 1024 * 1024
CALL_BYTES_MAX = 256 * 1024
# The code of a refused call whose arguments broke the registered schema; the other reason is a full round.
MISFIT = "tool_arguments_misfit"
FULL = "tool_round_full"


class _Call(msgspec.Struct):
    step: Step
    part: Part
    in_step: str | None
    opened: asyncio.Future[Interrupt]


class Rounds:
    """The tool calls of one execution."""

    def __init__(self, execution: Execution) -> None:
        self._execution: Execution = weakref.proxy(execution)  # it holds us: no circle
        self._next: list[_Call] = []
        self._is_open = any(item.kind is Kind.TOOL and item.is_pending for item in execution.record.interrupts.values())
        self._is_scheduled = False
        self._round = max((item.round or 0 for item in execution.record.interrupts.values()), default=0)
        self._asked = {
            part.tool_call_id: interrupt
            for interrupt in execution.record.interrupts.values()
            for part in interrupt.parts
        }

    async def call(
        self,
        key: str,
        name: str,
        input: bytes,
        *,
        expires_in: float | None,
        on_expiry: str | None,
        default: str | None,
        may_wait: bool = False,
        in_step: str | None = None,
    ) -> Part:
        """
        Ask for one call, or find what was asked under this key before; the answered part is returned. What is not given
        is that of the registered tool. A refusal is recorded, so that the code goes the same way when it is executed again.

        Args:
            may_wait: where the next round is full, be in the one after it.
            in_step: the key of the step that asks.

        Raises:
            ToolCallFailed: the arguments break the registered schema; nobody was asked.
            ValueError: they are too long, or the next round is full.
        """
        execution = self._execution
        known = execution.record.step(key)
        if known is not None and known.error is not None:
            execution.record.consume(key)
            _raise_refusal(known.error, name)
        if known is not None and known.output is not None:
            call_id = call_of(known.output)
            interrupt = self._asked[call_id]
            execution.record.consume(key)
        else:
            if len(input) > CALL_BYTES_MAX:
                raise ValueError(f"the arguments of {name} have {len(input)} bytes; {CALL_BYTES_MAX} are allowed")
            tool = (await execution.client_tools()).get(name)
            failure = _misfit(tool, input) or (None if may_wait else self._too_much(name, input))
            if failure is not None:
                await self._refuse(key, name, failure)
            if tool is not None:
                expires_in = tool.expires_in if expires_in is None else expires_in
                if on_expiry is None and default is None:
                    on_expiry, default = tool.on_expiry, tool.default
            if expires_in is None:
                expires_in = execution.tool_expires_seconds
            on_expiry = on_expiry or ("error" if default is None else "default")
            call_id = execution.ids.short("call")
            interrupt = await self._ask(key, name, call_id, input, expires_in, on_expiry, default, in_step)
        return await execution.answer_to(interrupt, call_id, in_step=in_step)

    def _too_much(self, name: str, input: bytes) -> Failure | None:
        """Why a call does not fit into the next round."""
        if len(self._next) >= CALLS_MAX:
            return Failure(f"the call of {name} is over the {CALLS_MAX} calls of a round", FULL)
        if sum(len(call.part.input) for call in self._next) + len(input) > ROUND_BYTES_MAX:
            return Failure(f"with the call of {name} a round has over {ROUND_BYTES_MAX} bytes of arguments", FULL)
        return None

    async def _refuse(self, key: str, name: str, failure: Failure) -> NoReturn:
        execution = self._execution
        now = execution.now()
        refused = Step(
            number=execution.run.number,
            key=key,
            name=name,
            status="failed",
            started_at=now,
            completed_at=now,
            error=failure,
        )
        execution.writer.write(steps=[refused])
        await execution.writer.durable()
        _raise_refusal(failure, name)

    async def _ask(
        self,
        key: str,
        name: str,
        call_id: str,
        input: bytes,
        expires_in: float,
        on_expiry: str,
        default: str | None,
        in_step: str | None,
    ) -> Interrupt:
        execution = self._execution
        now = execution.now()
        namespace, _, tool = name.rpartition(".")
        if on_expiry == "default":
            answer = canonical_tool_output(default or "")
        else:
            answer = canonical_tool_output(
                "", errored=True, error_message=f"nobody answered the call of {name} in time"
            )
        part = Part(
            tool_call_id=call_id,
            tool=tool,
            namespace=namespace,
            input=input,
            expires_at=now + int(expires_in * 1_000_000),
            on_expiry=on_expiry,
            default=answer,
        )
        # The step is never "recorded": the answer lives with the part, and the step only remembers which part.
        output = msgspec.json.encode({"call_id": call_id})
        step = Step(number=execution.run.number, key=key, name=name, status="running", started_at=now, output=output)
        opened: asyncio.Future[Interrupt] = asyncio.get_running_loop().create_future()
        self._next.append(_Call(step, part, in_step, opened))
        self._schedule()
        return await opened

    def _schedule(self) -> None:
        if not self._is_scheduled and not self._is_open and self._next:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._open)

    def _open(self) -> None:
        self._is_scheduled = False
        execution = self._execution
        calls: list[_Call] = []
        size = 0
        while self._next and len(calls) < CALLS_MAX and size + len(self._next[0].part.input) <= ROUND_BYTES_MAX:
            size += len(self._next[0].part.input)
            calls.append(self._next.pop(0))
        self._round += 1
        askers = {call.in_step for call in calls}
        asker = askers.pop() if len(askers) == 1 else None
        interrupt = Interrupt(
            interrupt_id=execution.ids.short("int"),
            number=execution.run.number,
            kind=Kind.TOOL,
            step=round_key(self._round, asker),
            round=self._round,
            created_at=execution.now(),
            parts=tuple(call.part for call in calls),
        )
        events = [
            (
                "tool_call",
                encode_fields(
                    {
                        "tool": call.step.name,
                        "tool_call_id": call.part.tool_call_id,
                        "input": msgspec.Raw(call.part.input),
                        **asking_step(interrupt),
                    }
                ),
            )
            for call in calls
        ]
        self._is_open = True
        execution.write_interrupt(interrupt, before=events, steps=[call.step for call in calls], asker=asker)
        for call in calls:
            self._asked[call.part.tool_call_id] = interrupt
            if not call.opened.done():
                call.opened.set_result(interrupt)

    def on_resolved(self, interrupt: Interrupt) -> None:
        """An interrupt has all its answers; if it is the open round, the next one may begin."""
        if interrupt.kind is Kind.TOOL:
            self._is_open = False
            self._schedule()


def round_key(number: int, asker: str | None) -> str:
    """The key of a round; it tells which step asked it, where one did."""
    return f"round:{number}" if asker is None or ":" in asker else f"{asker}/ask:round:{number}"


def _misfit(tool: ClientTool | None, input: bytes) -> Failure | None:
    """Why the arguments break the registered schema."""
    if tool is None:
        return None
    text = tool.misfit(msgspec.json.decode(input))
    return None if text is None else Failure(text, MISFIT)


def _raise_refusal(failure: Failure, name: str) -> NoReturn:
    if failure.code == MISFIT:
        raise ToolCallFailed(failure.message, tool=name)
    raise ValueError(failure.message)
