"""
Schemas that a caller brings with a call, and what is checked against them.

Whoever writes a schema decides what its check costs: one regular expression, or references that fan out, can keep a processor
busy for years, and in this process every stream with it. So what is plainly cheap is checked at once, and all else in a
process of its own, which the system ends after some seconds. What cannot be told in that time does not fit.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

import msgspec

from holdfast.execution.schema import InvalidSchema, Misfit, schema_of

# What a check may take, of processor time and of the wall; the second is for a machine that is busy.
CPU_SECONDS: Final = 3
WALL_SECONDS: Final = 30.0

# About this many looks of some 10 µs each are taken at once.
LOOKS_MAX: Final = 10_000
NODES_MAX: Final = 2_000
DEPTH_MAX: Final = 40

# So many such processes at once; whoever comes then waits.
PROCESSES_MAX: Final = 2

# Regular expressions, and what is looked for again and again.
_COSTLY: Final = frozenset(
    {
        *("pattern", "patternProperties", "uniqueItems", "unevaluatedItems", "unevaluatedProperties"),
        *("$dynamicRef", "$dynamicAnchor", "$anchor", "$id"),
    }
)


_of_loops: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]] = WeakKeyDictionary()


class Question(msgspec.Struct):
    """What the other process is asked: whether the schema is one, and if `value` is there, where that does not fit."""

    document: dict[str, Any]
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Answer(msgspec.Struct):
    invalid: str | None = None
    misfits: list[Misfit] = []


def is_plain(document: Mapping[str, Any]) -> bool:
    """Whether nothing in a schema leads back to itself, fans out, or is looked for again and again."""
    return _cost(document) is not None


async def check_schema(document: Mapping[str, Any]) -> None:
    """
    Let a schema pass that is one.

    Raises:
        InvalidSchema: it is none, or it takes too long to find out.
    """
    if is_plain(document):
        schema_of(document)
        return
    answer = await _asked(Question(dict(document)))
    if answer is None:
        raise InvalidSchema(f"it was not looked through within {CPU_SECONDS} s")
    if answer.invalid is not None:
        raise InvalidSchema(answer.invalid)


async def misfits_of(document: Mapping[str, Any], data: bytes) -> list[Misfit]:
    """Where the JSON in `data` does not fit a schema that was checked; empty if it fits."""
    cost = _cost(document)
    if cost is not None and cost * (data.count(b",") + 1) <= LOOKS_MAX:
        return schema_of(document).misfits(msgspec.json.decode(data))
    answer = await _asked(Question(dict(document), msgspec.Raw(data)))
    if answer is None or answer.invalid is not None:
        return [Misfit("", f"it was not checked within {CPU_SECONDS} s; the schema is too costly")]
    return answer.misfits


def _cost(document: Mapping[str, Any]) -> int | None:
    """How many parts a schema has, each counted as often as it is referred to; None: more than can be told here."""
    left = NODES_MAX

    def count(part: Any, above: tuple[str, ...], depth: int) -> bool:
        nonlocal left
        left -= 1
        if left < 0 or depth > DEPTH_MAX:
            return False
        if isinstance(part, list):
            return all(count(item, above, depth + 1) for item in part)
        if not isinstance(part, Mapping):
            return True
        if not _COSTLY.isdisjoint(part):
            return False
        reference = part.get("$ref")
        if isinstance(reference, str) and (
            reference in above or not count(_referred(document, reference), (*above, reference), depth + 1)
        ):
            return False
        # Definitions count where they are referred to.
        return all(count(item, above, depth + 1) for name, item in part.items() if name not in ("$defs", "definitions"))

    return NODES_MAX - left if count(document, ("#",), 0) else None


def _referred(document: Mapping[str, Any], reference: str) -> Any:
    found: Any = document
    for part in reference.removeprefix("#").split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


async def _asked(question: Question) -> Answer | None:
    """What the other process says; None: it was ended, or died over it."""
    async with _places():
        return await _answer_of_process(question)


def _places() -> asyncio.Semaphore:
    """Those of this event loop."""
    loop = asyncio.get_running_loop()
    return _of_loops.setdefault(loop, asyncio.Semaphore(PROCESSES_MAX))


async def _answer_of_process(question: Question) -> Answer | None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", __name__),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        # Nothing of ours but what Python needs to find this package.
        env={name: os.environ[name] for name in ("PATH", "PYTHONPATH", "SYSTEMROOT") if name in os.environ},
    )
    try:
        async with asyncio.timeout(WALL_SECONDS):
            out, _ = await process.communicate(msgspec.json.encode(question))
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return msgspec.json.decode(out, type=Answer) if process.returncode == 0 else None


def answered(question: Question) -> Answer:
    """What the other process does."""
    try:
        schema = schema_of(question.document)
        if question.value is msgspec.UNSET:
            return Answer()
        return Answer(misfits=schema.misfits(msgspec.json.decode(question.value)))
    except InvalidSchema as exc:
        return Answer(invalid=exc.message)
    except RecursionError:
        return Answer(invalid="it is nested too deeply")


def main() -> None:
    """The other process: a question on standard input, the answer on standard output."""
    try:
        import resource
    except ImportError:
        pass  # not on Windows, where the wall's time must do
    else:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    sys.stdout.buffer.write(msgspec.json.encode(answered(question)))


if __name__ == "__main__":
    main()
