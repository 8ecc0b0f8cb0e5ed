"""Catalog directories for tests, from what differs in each of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_agent(root: Path, name: str, prompt: str = "Be brief.", /, **fields: Any) -> Path:
    """`agents/<name>` with a prompt beside its file, whose path comes back."""
    declared = {
        "name": name,
        "description": f"The agent {name}.",
        "model": None,
        "tools": [],
        "system_prompt_path": "prompt.md",
        **fields,
    }
    (folder := root / "agents" / name).mkdir(parents=True, exist_ok=True)
    (folder / "prompt.md").write_text(prompt)
    return write(folder / "agent.json", declared)


def write_skill(root: Path, name: str, prompt: str | None = "Summarize: {{text}}", /, **fields: Any) -> Path:
    """`skills/<name>` with its prompt and scripts (`scripts={file: text}`)."""
    (folder := root / "skills" / name).mkdir(parents=True, exist_ok=True)
    for file, text in fields.pop("scripts", {}).items():
        (folder / "scripts").mkdir(exist_ok=True)
        (folder / "scripts" / file).write_text(text)
    if prompt is not None:
        (folder / "prompt.md").write_text(prompt)
        fields.setdefault("prompt_path", "prompt.md")
    declared = {"name": name, "description": f"The skill {name}.", "category": "text", "capabilities": [], **fields}
    return write(folder / "skill.json", declared)


def write_tool(root: Path, name: str, kind: str, ref: str, /, **fields: Any) -> Path:
    """`tools/<name>.json`."""
    declared = {
        "name": name,
        "description": f"The tool {name}.",
        "input_schema": {"type": "object"},
        "implementation": {"kind": kind, "ref": ref},
        **fields,
    }
    return write(root / "tools" / f"{name}.json", declared)


def write(path: Path, value: Any) -> Path:
    """A file of JSON, or of the text as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path
