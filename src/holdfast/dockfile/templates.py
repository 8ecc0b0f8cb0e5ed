"""What `holdfast init` writes: a Dockfile and an agent that answers without any model, to be changed. No I/O."""

from __future__ import annotations

import re
from typing import Final

FILE: Final = "Dockfile.yaml"
MODULE: Final = "service.py"

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")

_DOCKFILE: Final = """\
# What this agent is, who may call it and how: every key is in docs/dockfile.md.
# holdfast serve Dockfile.yaml      holdfast validate      holdfast add auth
version: "1.0"

agent:
  name: {name}
  description: Answers a query, word by word
  handler: service:handle # the function `handle` in service.py

io_schema:
  input:
    type: object
    properties:
      query: {{type: string, minLength: 1}}
    required: [query]
  output:
    type: object
    properties:
      answer: {{type: string}}
    required: [answer]

expose:
  port: 8080
"""

_SERVICE: Final = '''\
"""The agent that Dockfile.yaml names. `holdfast dev Dockfile.yaml` starts it anew whenever this file changes."""

from holdfast import Context


async def handle(payload: dict, context: Context) -> dict:
    """Called once for each run. `payload` fits `io_schema.input`; what comes back has to fit `io_schema.output`."""
    words = await context.step("think", think, payload["query"])  # a step is never done twice, also after a crash
    for word in words:
        await context.token(word + " ")  # readers see it at once
    return {"answer": " ".join(words)}


async def think(query: str) -> list[str]:
    """Replace this with a call of your model."""
    return ["You", "asked:", *query.split()]
'''


def is_agent_name(name: str) -> bool:
    """Whether a Dockfile takes this name."""
    return _NAME.match(name) is not None


def agent_name_of(folder: str) -> str:
    """A name for the agent of a folder."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.lower()).strip("-")[:63].strip("-")
    return name or "agent"


def project(name: str) -> dict[str, str]:
    """The files of a new project by name."""
    return {FILE: _DOCKFILE.format(name=name), MODULE: _SERVICE}
