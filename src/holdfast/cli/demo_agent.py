"""
The agent of `holdfast demo`: it tells a story line by line, and each line is a step.

A line that was told is recorded and not told again after a crash; the one that was cut off is. The ledger, a file
outside of the store, counts how often each line was really begun.
"""

from __future__ import annotations

import asyncio
import os
import re

from holdfast import Context, agent

LINES = (
    "Kelp has no roots.",
    "It is held by a holdfast, a knot of fingers that grips the rock and lets nothing go.",
    "Above it the water tears at every blade: storms come, ships pass, tides turn twice a day.",
    "A blade may break off, and that is no great harm, because it grows again from where it broke.",
    "What must not break is the hold.",
    "An agent is like that: connections drop, laptops sleep, servers die in the middle of a word.",
    "Its journal holds. Whoever comes back finds each word where it was, once and in its place.",
    "And the story goes on to its end.",
)
WORD_SECONDS = 0.06
LEDGER_VARIABLE = "HOLDFAST_DEMO_LEDGER"


@agent("storyteller", restart="always")
async def storyteller(context: Context) -> dict[str, int]:
    """Tell the story, one word at a time."""
    words = 0
    for number, line in enumerate(LINES, 1):
        words += await context.step(f"line {number}", tell, context, line, number)
    return {"lines": len(LINES), "words": words}


async def tell(context: Context, line: str, number: int) -> int:
    """One line, word by word; how many those were comes back."""
    note_in_ledger(number)
    pieces = words_of(line)
    for piece in pieces:
        await context.token(piece)
        await asyncio.sleep(WORD_SECONDS)
    return len(pieces)


def words_of(line: str) -> list[str]:
    """The words of a line, each with the space behind it, the last one with the line's end."""
    return re.findall(r"\S+\s*", f"{line}\n")


def note_in_ledger(number: int) -> None:
    """Count a line that is begun, where no crash of the server can take it back."""
    ledger = os.environ.get(LEDGER_VARIABLE)
    if ledger:
        with open(ledger, "a", encoding="ascii") as file:
            file.write(f"{number}\n")
