"""What a model's answer is, of which JSON was asked: often between fences."""

from __future__ import annotations

import itertools
import re

from holdfast.agents.skill.bindings.prompt import unfenced

# What a fenced block is, said plainly; it takes quadratic time for blank lines.
PLAIN = re.compile(r"\A\s*```[a-z]*\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
PIECES = ("```", "`", "a", "\n", " ", "\u00a0", "{}")


def test_a_fenced_block_is_what_the_plain_pattern_says() -> None:
    texts = ["".join(parts) for length in range(7) for parts in itertools.product(PIECES, repeat=length)]
    fenced = 0
    for text in texts:
        found = PLAIN.match(text)
        fenced += found is not None

        assert unfenced(text) == (found[1] if found else text), repr(text)
    assert fenced > 1000


def test_a_million_blank_lines_are_read_in_no_time() -> None:
    blank = "\n" * 1_000_000

    assert unfenced(f"```json{blank}{{}}{blank}```") == "{}"
    assert unfenced(f"```json{blank}{{}}{blank}").startswith("```json")
