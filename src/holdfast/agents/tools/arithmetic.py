"""The tool `sum`."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated

import msgspec

from holdfast.agents.tools.tool import Call, Tool

# What every JSON reader takes as a whole number.
WHOLE_MAX = 2**53

Numbers = Annotated[list[int | float], msgspec.Meta(description="The numbers to add.", min_length=1, max_length=1000)]


class SumInput(msgspec.Struct, forbid_unknown_fields=True):
    numbers: Numbers


def sum_tool() -> Tool[SumInput]:
    """Adds decimal numbers exactly: 0.1 and 0.2 are 0.3."""
    return Tool(name="sum", description="Adds numbers, exactly.", input=SumInput, function=_add)


async def _add(_: Call, input: SumInput) -> int | float:
    total = sum((Fraction(str(number)) for number in input.numbers), Fraction(0))
    return int(total) if total.denominator == 1 and abs(total) <= WHOLE_MAX else float(total)
