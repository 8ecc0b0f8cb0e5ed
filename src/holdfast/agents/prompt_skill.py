"""
A prompt skill: a prompt with gaps `{{name}}`, which parameters fill, and files beside it. No I/O.

What fills a gap is text and nothing else: a gap in it stays as it is. The files are given to the model as text, and are
not executed here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

SKILL: Final = "skill."
"""A prompt skill as a tool is named `skill.<name>`."""

INPUT: Final = "input"
"""What a skill without gaps takes; it stands behind the prompt."""

_GAP: Final = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_-]{0,63})\s*\}\}")


class PromptSkill(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A skill as the catalog or a tenant declares it."""

    name: str
    description: str = ""
    category: str = ""
    prompt: str = ""
    scripts: Mapping[str, str] = {}
    capabilities: tuple[str, ...] = ()

    @property
    def gaps(self) -> list[str]:
        """The names of its gaps, in their order."""
        return list(dict.fromkeys(_GAP.findall(self.prompt)))

    @property
    def parameters(self) -> dict[str, Any]:
        """What fills it, as a JSON Schema."""
        gaps = self.gaps
        return {
            "type": "object",
            "properties": {name: {"description": "Text, or any other value."} for name in gaps or [INPUT]},
            "required": gaps,
            "additionalProperties": False,
        }

    @property
    def fields(self) -> dict[str, Any]:
        """As it is kept, and as callers are shown it."""
        return {
            "name": self.name,
            "description": self.description,
            "category": self.category,
            "prompt_template": self.prompt,
            "scripts": dict(self.scripts),
            "capabilities": list(self.capabilities),
        }

    def filled(self, params: Mapping[str, Any]) -> str:
        """The whole prompt with these parameters, which fit."""
        parts = [_GAP.sub(lambda gap: _text(params[gap[1]]), self.prompt)]
        if not self.gaps and params.get(INPUT) is not None:
            parts.append(_text(params[INPUT]))
        parts += [f"File {name}:\n```\n{text}\n```" for name, text in self.scripts.items()]
        return "\n\n".join(part for part in parts if part)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
