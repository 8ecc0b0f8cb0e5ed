"""The rows of skill files: reading a thousand of them, looking for changes, and taking one in. In this process, without a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.rows import Row, row
from holdfast.agents.skill.library import Library

FILES = 1000
LOOKS = 20

_SKILL = """\
id: bench.s{number}
version: 1.0.0
name: Skill {number}
description: For the bench.
inputs: {{text: {{type: string, required: true}}}}
outputs: {{result: {{type: string, required: true}}}}
steps:
  - id: shorten
    uses: text.content.summarize
    input: {{text: inputs.text, max_length: 100}}
    output: {{summary: vars.short}}
    config: {{condition: inputs.text != null, retry: {{max_attempts: 2}}, timeout_seconds: 10}}
  - id: show
    uses: text.content.template
    input: {{template: "{{{{a}}}}", variables: {{a: vars.short}}}}
    output: {{text: outputs.result}}
    config: {{depends_on: [shorten], gates: {{post: [{{capability: text.pii.check, on_fail: warn}}]}}}}
"""


async def s2(directory: Path) -> list[Row]:
    """A thousand skill files: read, looked through again, and one of them changed."""
    folder = directory / "skills"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"s{number}.skill.yaml").write_text(_SKILL.format(number=number))
    library = Library([directory])
    loaded = _milliseconds(library.refresh)
    if library.problems() or len(library.skills()) < FILES:
        raise RuntimeError("the files were not loaded")
    await asyncio.sleep(0.2)  # by now no change can have the time stamp of the first reading
    library.refresh()
    looked = min(_milliseconds(library.refresh) for _ in range(LOOKS))
    (folder / "s0.skill.yaml").write_text(_SKILL.format(number=0).replace("Skill 0", "Another"))
    changed = _milliseconds(library.refresh)
    return [
        row("S2", f"{FILES} skill files, read and checked", loaded, "ms", None, "< 1000", loaded < 1000),
        row("S2", "looking whether any of them changed", looked, "ms", None, "–", None),
        row("S2", "taking in the one that did", changed, "ms", None, "< 1000", changed < 1000),
    ]


def _milliseconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


ROWS: dict[str, Callable[[Path], Any]] = {"S2": s2}
