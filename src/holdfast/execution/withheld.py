"""
What a step keeps from people of its own result: the code that is executed again needs it, nobody else is to see it.

A note beside the step says which members of its output these are. It is on record like the output, so it holds for as
long as that does, also where the agent's files are gone. No I/O.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from holdfast.execution.codec import decode_result, encode_result
from holdfast.model import Step

HIDDEN: Final = "***"
_NOTE: Final = "/note:withheld"


class Withheld(msgspec.Struct, frozen=True):
    """Names of members of an output: `hidden` ones show as `***`, the others not at all."""

    hidden: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.hidden or self.left_out)

    def of(self, output: dict[str, Any]) -> dict[str, Any]:
        """The output as people are shown it. What is null shows as null."""
        return {
            name: HIDDEN if name in self.hidden and value is not None else value
            for name, value in output.items()
            if name not in self.left_out
        }

    def encode(self) -> bytes:
        """For the note."""
        return encode_result(self, what="names")


def withheld_key(key: str) -> str:
    """The key of the note that belongs to the step of this key."""
    return key + _NOTE


def shown_steps(steps: Sequence[Step]) -> Sequence[Step]:
    """The same steps, with what people are shown in place of outputs of which a note keeps something."""
    notes = dict(_notes(steps))
    return [_shown(step, notes[step.key]) if step.key in notes else step for step in steps] if notes else steps


def _notes(steps: Iterable[Step]) -> Iterable[tuple[str, Withheld]]:
    for step in steps:
        if step.key.endswith(_NOTE) and step.output is not None:
            # An author may call a step so: then it is no note.
            with contextlib.suppress(msgspec.DecodeError):
                yield step.key.removesuffix(_NOTE), msgspec.json.decode(step.output, type=Withheld)


def _shown(step: Step, withheld: Withheld) -> Step:
    output = None if step.output is None else decode_result(step.output)
    if not isinstance(output, dict):
        return step
    return msgspec.structs.replace(step, output=encode_result(withheld.of(output), what="an output"))
