"""
The slots of a start, and the input that an agent gets of them.

With declared names (input schemas) a slot fills the one of its name, slot n the n-th; the assistant gets texts and images
as a message; others get the slots as they are. A slot that is a file reference is the file.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any, Final

from holdfast.api.workflow.fields import read_object
from holdfast.api.workflow.files import REFERENCE
from holdfast.api.workflow.refusals import invalid
from holdfast.api.workflow.rows import text_of
from holdfast.execution.program import Program, spec_of
from holdfast.runs import Runs

_SLOT: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")

Inputs = dict[str, dict[str, Any]]


def read_inputs(given: Any) -> Inputs:
    """
    The slots of a start, checked.

    Raises:
        WorkflowRefusal
    """
    found, _ = read_object(given, ("strings", "images"), "inputs")
    inputs = {"strings": found.get("strings", {}), "images": found.get("images", {})}
    for kind, slots in inputs.items():
        if not isinstance(slots, dict):
            raise invalid(f"inputs.{kind}", "an object of slots")
        for slot, value in slots.items():
            if not _SLOT.match(slot):
                raise invalid(f"inputs.{kind}", f"a slot is 1 to 64 letters, digits, _ or -, not {slot[:64]!r}")
            if kind == "images" and not isinstance(value, str):
                raise invalid(f"inputs.images.{slot}", "base64 or a data: URL, as a text")
    return inputs


async def input_of(runs: Runs, tenant: str, program: Program, inputs: Inputs) -> Any:
    """
    The agent's input, made of the slots.

    Raises:
        WorkflowRefusal
    """
    schema = spec_of(program).input_schema
    if schema is not None:
        return _declared_input(schema, inputs["strings"])
    if program.framework == "assistant":
        return await _message_input(runs, tenant, inputs)
    return inputs


def message_of(inputs: Inputs) -> str:
    """The texts in numeric order, a blank line between."""
    return "\n\n".join(text_of(value) for _, value in _ordered(inputs["strings"]))


def _ordered(slots: dict[str, Any]) -> list[tuple[str, Any]]:
    return sorted(
        slots.items(),
        key=lambda item: (not item[0].isdigit(), int(item[0]) if item[0].isdigit() else 0, item[0]),
    )


async def _message_input(runs: Runs, tenant: str, inputs: Inputs) -> dict[str, Any]:
    """Texts, then images; a text file stands among the texts, another one behind them."""
    texts: list[str] = []
    media: list[dict[str, Any]] = []
    for _, value in [*_ordered(inputs["strings"]), *_ordered(inputs["images"])]:
        found = None
        if isinstance(value, str) and REFERENCE.match(value):
            found = await runs.store.file(tenant, value)
        if found is None:
            texts.append(text_of(value))
            continue
        file, content = found
        text = _text(content) if file.media_type.startswith("text/") or file.media_type == "application/json" else None
        if text is None:
            media.append(_block(file.media_type, content))
        else:
            texts.append(text)
    message = "\n\n".join(texts)
    return {"message": message, "media": media} if media else {"message": message}


def _text(content: bytes) -> str | None:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def _block(media_type: str, content: bytes) -> dict[str, Any]:
    kind = media_type.partition("/")[0]
    return {
        "type": kind if kind in ("image", "audio", "video") else "document",
        "source": {"type": "base64", "media_type": media_type, "data": base64.b64encode(content).decode()},
    }


def _declared_input(schema: dict[str, Any], slots: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = schema.get("properties", {})
    names = list(properties)
    filled: dict[str, Any] = {}
    for slot, value in slots.items():
        name = slot
        if slot not in properties and slot.isdigit() and 1 <= int(slot) <= len(names):
            name = names[int(slot) - 1]
        filled[name] = _as_declared(properties.get(name), name, value)
    return filled


def _as_declared(declared: Any, name: str, value: Any) -> Any:
    """A text for a slot of another type is read as JSON."""
    kind = declared.get("type") if isinstance(declared, dict) else None
    kinds = kind if isinstance(kind, list) else [kind]
    if not isinstance(value, str) or kind is None or "string" in kinds:
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise invalid(f"inputs.strings.{name}", f"no JSON text of type {kind}") from None
