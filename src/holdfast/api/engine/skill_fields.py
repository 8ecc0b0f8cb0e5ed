"""Prompt skills as callers send them: their names, prompts and scripts. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from holdfast.agents.catalog.reading import SCRIPTS_MAX, SKILL_NAME, TEXT_BYTES_MAX
from holdfast.api.engine import fields
from holdfast.api.engine.fields import Check, read_object, refuse, require

PROMPT_MAX: Final = 100_000
DESCRIPTION_MAX: Final = 10_000
LABEL_MAX: Final = 1_000
FILE_NAME_MAX: Final = 255


def skill_name(value: Any, path: str) -> str:
    """Lower-case words of letters and digits, with hyphens between them."""
    if not isinstance(value, str) or not SKILL_NAME.match(value):
        refuse(path, "1 to 64 lower-case letters and digits, in words with a hyphen between them, as daily-report")
    return value


def scripts(value: Any, path: str) -> dict[str, str]:
    """Texts by the names of their files."""
    if not isinstance(value, dict):
        refuse(path, "must be an object of file names and texts")
    if len(value) > SCRIPTS_MAX:
        refuse(path, f"may have {SCRIPTS_MAX} files; it has {len(value):,}")
    return {_file_name(name, path): _script(text, f"{path}.{name}") for name, text in value.items()}


def _file_name(name: str, path: str) -> str:
    is_plain = 1 <= len(name) <= FILE_NAME_MAX and name.isprintable() and not set(name) & {"/", "\\"}
    if not is_plain or name in (".", ".."):
        refuse(f"{path}.{name[:60]}", "a plain file name, without a path")
    return name


def _script(value: Any, path: str) -> str:
    kept: str = fields.text(0, TEXT_BYTES_MAX)(value, path)
    size = len(kept.encode())
    if size > TEXT_BYTES_MAX:
        refuse(path, f"may have {TEXT_BYTES_MAX // 1024} KiB; it has {size:,} bytes")
    return kept


_FIELDS: Final[Mapping[str, Check]] = {
    "prompt": fields.text(1, PROMPT_MAX),
    "description": fields.text(0, DESCRIPTION_MAX),
    "category": fields.text(0, LABEL_MAX),
    "capabilities": fields.array(fields.text(1, LABEL_MAX), 100),
    "scripts": scripts,
}


def new_skill(body: Any) -> dict[str, Any]:
    """The fields of a skill that is to be created."""
    found = read_object(body, {"name": skill_name, **_FIELDS})
    require(found, "name")
    if not found.get("scripts"):
        require(found, "prompt")
    return _kept(found)


def changed_fields(body: Any, name: str) -> dict[str, Any]:
    """The fields of a skill that are to be replaced; a name may be sent along, but not another one."""

    def same_name(value: Any, path: str) -> str:
        if value != name:
            refuse(path, f"a skill keeps its name, here {name!r}")
        return name

    found = read_object(body, {"name": same_name, **_FIELDS})
    found.pop("name", None)
    return _kept(found)


def _kept(found: dict[str, Any]) -> dict[str, Any]:
    if "capabilities" in found:
        found["capabilities"] = tuple(found["capabilities"])
    return found
