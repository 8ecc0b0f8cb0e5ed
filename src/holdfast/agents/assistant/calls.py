"""
Tool calls as steps: permitted once, carried out once, then found in the record.

A call goes through three gates, each of which the record remembers: it is permitted (`permission.py`), the tool runs
(a step under the call's id), its result is told (the event `tool_result`, inside of that step). Whatever goes wrong
becomes the call's result and the turn goes on; only what ends the whole execution passes through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import ToolReturn
from pydantic_ai.tools import RunContext, ToolDefinition
from pydantic_ai.toolsets.abstract import AbstractToolset, ToolsetTool
from pydantic_core import SchemaValidator, core_schema

from holdfast.agents.assistant.history import user_content
from holdfast.agents.assistant.permission import Wanted, outcome_question, pass_gate, wanted
from holdfast.agents.assistant.skill_tools import is_answered
from holdfast.agents.assistant.turn import Turn
from holdfast.agents.tools import Call, Cut, Tool, ToolError, Tools
from holdfast.agents.tools.secrets import Secrets
from holdfast.errors import (
    Cancelled,
    InterruptExpired,
    InvalidOutput,
    LeaseLost,
    OutcomeUnknown,
    PermissionDenied,
    StoreError,
    ToolCallFailed,
    ToolDenied,
)
from holdfast.execution.client_tools import ClientTool
from holdfast.execution.codec import encode_result
from holdfast.execution.exits import no_exit

# About what a model reads of one result without losing its thread; a result is one event, too.
OUTPUT_CHARACTERS_MAX = 64 * 1024

# Failures are results; it is the turn's limit on model requests that ends a loop of them.
RETRIES_MAX = 1_000_000

NO_SECRETS = Secrets()

# Whether the input fits is the tool's own business (`Tool.read`), so that it is told like any other result.
_ANY_OBJECT = SchemaValidator(core_schema.dict_schema(core_schema.str_schema()))


class Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What came of a call, as it is recorded. `tool_call_id` tells it from a result that a person gave instead."""

    tool_call_id: str
    output: Any = None
    error: str | None = None
    message: str = ""
    truncated: bool = False


class RecordedTools(AbstractToolset[Turn]):
    """The tools of the assistant, as pydantic-ai sees them."""

    def __init__(self, tools: Tools) -> None:
        self._tools = {tool.name: self._declared(tool, tool.name) for tool in tools.all()}

    @property
    def id(self) -> str | None:
        return "holdfast"

    async def get_tools(self, ctx: RunContext[Turn]) -> dict[str, ToolsetTool[Turn]]:
        own, remote = ctx.deps.client_tools, ctx.deps.remote_tools
        if not own and not remote:
            return self._tools
        return {
            **{name: self._declared(tool, name) for name, tool in remote.items()},
            **self._tools,
            **{name: self._of_caller(tool) for name, tool in own.items()},
        }

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Turn], tool: ToolsetTool[Turn]
    ) -> Any:
        """
        What the tool gave back, for the model.

        Raises:
            ToolFailed: it failed; the model reads why.
        """
        assert ctx.tool_call_id is not None
        of_caller = ctx.deps.client_tools.get(name)
        if of_caller is not None:
            return await ask_caller(ctx.deps, of_caller, ctx.tool_call_id, tool_args)
        declared = ctx.deps.tool(name)
        assert declared is not None
        outcome = await carry_out(ctx.deps, declared, ctx.tool_call_id, tool_args)
        if outcome.error is not None:
            raise ToolFailed(f"{outcome.error}: {outcome.message}")
        output = outcome.output
        if declared.uses_model and isinstance(output, dict) and "usage" in output:
            ctx.deps.add_usage(output["usage"])
            output = output["output"]
        attached = ctx.deps.attached.pop(ctx.tool_call_id, [])
        if not attached:
            return output
        return ToolReturn(return_value=output, content=user_content("What the person attached:", attached))

    def _of_caller(self, tool: ClientTool) -> ToolsetTool[Turn]:
        definition = ToolDefinition(
            name=tool.name, description=tool.description, parameters_json_schema=tool.schema, strict=tool.strict or None
        )
        return ToolsetTool(toolset=self, tool_def=definition, max_retries=RETRIES_MAX, args_validator=_ANY_OBJECT)

    def _declared(self, tool: Tool[Any], name: str) -> ToolsetTool[Turn]:
        definition = ToolDefinition(name=name, description=tool.description, parameters_json_schema=tool.parameters)
        return ToolsetTool(toolset=self, tool_def=definition, max_retries=RETRIES_MAX, args_validator=_ANY_OBJECT)


async def ask_caller(turn: Turn, tool: ClientTool, tool_call_id: str, arguments: dict[str, Any]) -> str:
    """
    Have the caller of the run execute a call; calls of one response are asked as one round, or as several where they are
    too many.

    Raises:
        ToolFailed: it failed, nobody answered in time, or the arguments do not fit; the model reads why.
    """
    call = Call(turn.context, tool_call_id, turn.call_key(tool_call_id))
    ours = Tool[Any](name=tool.full_name, description=tool.description, input=dict, function=_never_here)
    want = wanted(ours, arguments)
    given: Outcome | None = None
    try:
        passage = await pass_gate(turn, call, want)
        if passage.has_output or turn.context.is_begun(f"tool:{call.key}"):  # or an earlier policy denied it
            given = _bounded(call, passage.output)
    except ToolError as exc:
        given = Outcome(tool_call_id, error=exc.code, message=exc.message)
    if given is not None:
        return await _not_asked(call, want, given)
    try:
        return await turn.context.have_called(tool.full_name, arguments, key=f"call:{call.key}", may_wait=True)
    except ToolDenied as exc:
        raise ToolFailed(f"{exc.code}: {exc.message}") from exc
    except ToolCallFailed as exc:
        raise ToolFailed(exc.message) from exc
    except ValueError as exc:
        raise ToolFailed(f"invalid_input: {exc}") from exc


async def _not_asked(call: Call, want: Wanted, outcome: Outcome) -> str:
    """What came of a call that the caller was not asked for; the call itself is told with it, for nobody else does."""
    outcome = await _record(want.tool, call, outcome, input=want.arguments)
    if outcome.error is not None:
        raise ToolFailed(f"{outcome.error}: {outcome.message}")
    return outcome.output if isinstance(outcome.output, str) else encode_result(outcome.output, what="it").decode()


async def _never_here(_: Call, __: Any) -> Any:
    raise AssertionError("the caller of the run executes its tools")


async def carry_out(turn: Turn, tool: Tool[Any], tool_call_id: str, arguments: dict[str, Any]) -> Outcome:
    """Carry a call out, or find what came of it. Cancelled, it is carried out again at the next execution."""
    call = Call(turn.context, tool_call_id, turn.call_key(tool_call_id))
    want = wanted(tool, arguments)
    try:
        if not turn.context.is_tool_allowed(tool.name):
            raise ToolError(ToolDenied.code, f"the agent's policy does not allow {tool.name}")
        passage = await pass_gate(turn, call, want)
        if passage.has_output:
            return await _record(tool, call, _bounded(call, passage.output))
        secrets = turn.gate.secrets
        call = msgspec.structs.replace(call, ground=passage.ground, passed=passage.passed)
        if tool.asks and not _was_denied(call):
            outcome = await _record(tool, call, await _attempt(tool, call, want.read(), secrets))
            turn.attached[tool_call_id] = call.attached
            return outcome
    except ToolError as exc:
        return await _record(tool, call, Outcome(tool_call_id, error=exc.code, message=exc.message))
    async with turn.slots:
        return await _run(turn, want, call)


def _was_denied(call: Call) -> bool:
    """Whether a tool that asks a person or the model has its outcome on record without having asked: it was denied."""
    if not call.context.is_begun(f"tool:{call.key}"):
        return False
    return call.context.asked(f"ask:{call.key}") is None and not is_answered(call)


async def _run(turn: Turn, want: Wanted, call: Call) -> Outcome:
    """Run the tool in its step."""
    tool = want.tool

    async def work() -> dict[str, Any]:
        outcome = await _attempt(tool, call, want.read(), turn.gate.secrets)
        await _tell(tool, call, outcome)
        return _recorded(outcome)

    try:
        recorded = await call.context.tool_step(
            tool.name,
            work,
            key=f"tool:{call.key}",
            at_most_once=tool.at_most_once,
            question=outcome_question(turn, call, want),
        )
    except (OutcomeUnknown, PermissionDenied) as exc:
        unknown = Outcome(call.tool_call_id, error=exc.code, message=exc.message)
        return await _record(tool, call, unknown, step="outcome")
    try:
        outcome = msgspec.convert(recorded, Outcome)
    except msgspec.ValidationError:
        outcome = None
    if outcome is not None and outcome.tool_call_id == call.tool_call_id:
        return outcome
    # A crash left it unknown whether the tool ran, and a person gave its result instead.
    return await _record(tool, call, _bounded(call, recorded), step="outcome")


async def _record(
    tool: Tool[Any], call: Call, outcome: Outcome, *, step: str = "tool", input: Mapping[str, Any] | None = None
) -> Outcome:
    """Record and tell an outcome that is there already, without running the tool; with `input` the call is told, too."""

    async def tell() -> dict[str, Any]:
        if input is not None:
            await call.context.event("tool_call", tool=tool.name, tool_call_id=call.tool_call_id, input=input)
        await _tell(tool, call, outcome)
        return _recorded(outcome)

    recorded = await call.context.step(tool.name, tell, key=f"{step}:{call.key}", visible=False)
    return msgspec.convert(recorded, Outcome)


async def call_once(tool: Tool[Any], call: Call, input: Any, secrets: Secrets) -> Outcome:
    """Call a tool that may run, outside of a turn, and tell what came of it; nothing is recorded."""
    outcome = await _attempt(tool, call, input, secrets)
    await _tell(tool, call, outcome)
    return outcome


async def _attempt(tool: Tool[Any], call: Call, input: Any, secrets: Secrets) -> Outcome:
    """Call the tool's function once. What it gives holds no secret of the server."""
    deadline = asyncio.timeout(None if tool.asks else tool.timeout_seconds)
    try:
        async with deadline:
            with no_exit:
                value = await tool.function(call, input)
        return _bounded(call, value, secrets)
    except (LeaseLost, Cancelled, StoreError):
        raise  # the execution is over, not the call
    except ToolError as exc:
        code, message = exc.code, exc.message
    except InterruptExpired as exc:
        code, message = "hitl_expired", exc.message
    except InvalidOutput as exc:
        code, message = exc.code, exc.message
    except Exception as exc:  # noqa: BLE001 - whatever a tool raises is its result
        code, message = "tool_failed", f"{type(exc).__name__}: {exc}"
        if isinstance(exc, TimeoutError) and deadline.expired():
            code, message = "tool_timeout", f"it took more than {tool.timeout_seconds:g} s"
    return Outcome(call.tool_call_id, error=code, message=secrets.text(message)[:OUTPUT_CHARACTERS_MAX])


def _bounded(call: Call, value: Any, secrets: Secrets = NO_SECRETS) -> Outcome:
    """A result that a model and an event can take: JSON, and cut if it is long and its tool has not seen to that."""
    cut = value if isinstance(value, Cut) else None
    value = value if cut is None else cut.value
    # Before it is cut, so that no part of a secret is left.
    clean = secrets.value(msgspec.json.decode(encode_result(value, what="the tool's result")))
    if cut is not None:
        return Outcome(call.tool_call_id, output=clean, truncated=cut.truncated)
    text = clean if isinstance(clean, str) else msgspec.json.encode(clean).decode()
    if len(text) > OUTPUT_CHARACTERS_MAX:
        return Outcome(call.tool_call_id, output=text[:OUTPUT_CHARACTERS_MAX], truncated=True)
    return Outcome(call.tool_call_id, output=clean)


def _recorded(outcome: Outcome) -> dict[str, Any]:
    recorded: dict[str, Any] = msgspec.to_builtins(outcome)
    return recorded


async def _tell(tool: Tool[Any], call: Call, outcome: Outcome) -> None:
    fields: dict[str, Any] = {"tool": tool.name, "tool_call_id": call.tool_call_id}
    if outcome.error is None:
        fields |= {"output": outcome.output, "truncated": outcome.truncated}
    else:
        fields |= {"error": outcome.error, "message": outcome.message}
    await call.context.event("tool_result", **fields)
