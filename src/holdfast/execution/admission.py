"""
What an agent's declarations make of its input before a run exists, and of its output before it is written.

Input: defaults are filled in, then it has to fit, then no policy may forbid it. Output: undeclared keys go or stay,
then it has to fit, unless a misfit may pass. Both are pure; a large value is looked at in a thread, so that it delays
nobody else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from holdfast.errors import InvalidInput, InvalidOutput, PolicyViolation
from holdfast.execution.codec import decode_result, encode_result
from holdfast.execution.foreign_schemas import misfits_of
from holdfast.execution.program import AgentSpec
from holdfast.execution.redaction import redactor_of
from holdfast.execution.requests import StartRequest
from holdfast.execution.schema import Misfit, pointer_of, schema_of, shown_path, without
from holdfast.execution.threads import run_in_thread
from holdfast.model.encoding import repair_value

T = TypeVar("T")

# The slowest schemas take some 10 µs a KiB. Below this a thread costs more than the look.
INLINE_BYTES_MAX: Final = 32 * 1024

_INJECTIONS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"ignore (?:all |the )?(?:previous|prior|above|all) instructions",
        r"(?:\A|[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029])(?:system:|### system)",
        r"\[INST\]",
        r"you are now (?:a|an|in) ",
        r"(?:reveal|show|print) (?:me )?(?:your|the) system prompt",
    )
)


class Shaped(msgspec.Struct, frozen=True):
    """An output as its run keeps it, and what the declaration had to say of it."""

    data: bytes
    removed_keys: list[str] | None = None  # None: nothing was to be removed
    is_valid: bool | None = None  # None: a misfit would not have passed

    @property
    def facts(self) -> dict[str, Any]:
        """Fields of the event `complete`."""
        facts = {"removed_keys": self.removed_keys, "output_valid": self.is_valid}
        return {name: fact for name, fact in facts.items() if fact is not None}


def check_spec(spec: AgentSpec) -> None:
    """
    Load everything that is declared, so that nothing of it can fail later.

    Raises:
        InvalidSchema: a declared schema is none.
        InvalidPattern: a pattern of `redact_patterns` is none.
    """
    redactor_of(spec.safety.redact_patterns)
    for document in (spec.input_schema, spec.output_schema):
        if document is not None:
            schema_of(document)


def admitted(spec: AgentSpec, input: Any) -> Any:
    """
    The input with which a run may start.

    Raises:
        InvalidInput: it does not fit the declared schema; every place is named.
        PolicyViolation: a text of it looks like a prompt injection, and these are blocked.
    """
    fitting = input if spec.input_schema is None else _fitting_input(spec, input)
    if spec.safety.block_prompt_injection and any(_is_injection(text) for text in _texts(fitting)):
        raise PolicyViolation("the input looks like a prompt injection, which this agent's policy blocks")
    return fitting


def _fitting_input(spec: AgentSpec, input: Any) -> Any:
    schema = schema_of(spec.input_schema or {})
    filled = schema.with_defaults(input)
    misfits = schema.misfits(filled)
    if spec.input_strict:
        misfits += [Misfit(pointer_of(path), "the schema does not name this key") for path in schema.undeclared(filled)]
    if misfits:
        errors = [{"pointer": misfit.pointer, "message": misfit.message} for misfit in misfits]
        raise InvalidInput("; ".join(misfit.text for misfit in misfits[:3]), errors)
    return filled


def shaped(spec: AgentSpec, data: bytes) -> Shaped:
    """
    The output, as JSON, in the declared shape.

    Raises:
        InvalidOutput: it does not fit the declared schema.
    """
    if spec.output_schema is None:
        return Shaped(data)
    schema, value, removed = schema_of(spec.output_schema), decode_result(data), None
    if spec.output_strict:
        paths = schema.undeclared(value)
        removed = [shown_path(path) for path in paths]
        if paths:
            value = without(value, paths)
            data = msgspec.json.encode(value)
    misfits = schema.misfits(value)
    if spec.output_strict is False:
        return Shaped(data, is_valid=not misfits)
    if misfits:
        raise _not_fitting("the declared schema", misfits)
    return Shaped(data, removed)


async def check_output(document: Mapping[str, Any], data: bytes) -> None:
    """
    Let output JSON pass that fits a schema of the run's caller.

    Raises:
        InvalidOutput: it does not.
    """
    misfits = await misfits_of(document, data)
    if misfits:
        raise _not_fitting("the schema that the caller asked for", misfits)


def _not_fitting(schema: str, misfits: Sequence[Misfit]) -> InvalidOutput:
    errors = [{"pointer": misfit.pointer, "message": misfit.message} for misfit in misfits]
    text = "; ".join(misfit.text for misfit in misfits[:3])
    return InvalidOutput(f"the output does not fit {schema}: {text}", errors=errors)


def cut(data: bytes, characters_max: int | None) -> bytes:
    """Output JSON, or what stands for it if it has more characters: `{"output":"…","_truncated":true}`."""
    if characters_max is None or len(data) <= characters_max:
        return data
    text = data.decode()
    if len(text) <= characters_max:
        return data
    return msgspec.json.encode({"output": text[:characters_max], "_truncated": True})


async def off_loop(size: int, function: Callable[..., T], /, *args: Any) -> T:
    """Call a function that looks at so many bytes: here, or in a thread if they are many."""
    if size <= INLINE_BYTES_MAX:
        return function(*args)
    return await run_in_thread(function, *args)


def _is_injection(text: str) -> bool:
    opening = text.find("<|")
    if opening >= 0 and text.find("|>", opening + 2) >= 0:
        return True
    return any(pattern.search(text) for pattern in _INJECTIONS)


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, keys included."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            waiting += item


async def admitted_request(spec: AgentSpec, request: StartRequest) -> StartRequest:
    """The request with its input as the agent declares it."""
    if spec.input_schema is None and not spec.safety.block_prompt_injection:
        return request
    given = repair_value(request.input)
    size = len(encode_result(given, what="the input"))
    return msgspec.structs.replace(request, input=await off_loop(size, admitted, spec, given))
