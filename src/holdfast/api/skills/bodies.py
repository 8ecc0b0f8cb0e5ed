"""Reading the bodies of this API: what is known is checked, what is unknown is named and ignored."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

from holdfast.api.http.call import Call
from holdfast.api.skills.admission import TRACE_ID, is_trace_id
from holdfast.api.skills.refusals import wrong
from holdfast.api.skills.runs import trace_of
from holdfast.model import Run

BODY_BYTES_MAX: Final = 2 * 1024 * 1024
IGNORED: Final = b"x-ignored-fields"
RUN_ID: Final = b"x-run-id"
_IGNORED_MAX: Final = 20
_IGNORED_BYTES_MAX: Final = 1000


async def read_body(request: Call) -> dict[str, Any]:
    """
    The body of a call, a JSON object; one that is left out is empty.

    Raises:
        SkillsRefusal, UnsupportedMediaType, BodyTooLarge, BodyTimeout, MalformedBody
    """
    body = await request.json_body() if request.has_body else {}
    if not isinstance(body, dict):
        raise wrong("body", "a JSON object")
    return body


def known_fields(request: Call, body: dict[str, Any], known: Collection[str]) -> dict[str, Any]:
    """The members that a call knows, without those that are null; the others are named in the answer."""
    ignore(request, (name for name in body if name not in known))
    return {name: value for name, value in body.items() if name in known and value is not None}


def ignore(request: Call, names: Iterable[str]) -> None:
    """Name fields in the answer that the call did not look at."""
    before = next((value for name, value in request.exchange.headers if name == IGNORED), b"")
    told = before.decode().split(", ") if before else []
    told += [name for name in names if name.isascii() and name.isprintable()]
    if told:
        set_header(request, IGNORED, ", ".join(told[:_IGNORED_MAX])[:_IGNORED_BYTES_MAX])


def trace_id(request: Call) -> str:
    """The trace of the call."""
    found: str = request.exchange.facts["trace_id"]
    return found


def take_trace(request: Call, given: Any) -> None:
    """
    Let the call have the trace that its body names, unless its header named one.

    Raises:
        SkillsRefusal
    """
    if given is None:
        return
    if not isinstance(given, str) or not is_trace_id(given):
        raise wrong("trace_id", "1 to 128 printable ASCII characters")
    if not request.exchange.facts["trace_is_given"]:
        request.exchange.facts["trace_is_given"] = True
        _set_trace(request, given)


def concerns(request: Call, run: Run) -> None:
    """The call is about this run: its answer says so, whatever becomes of it, and has its trace if it brought none."""
    request.exchange.facts["run_id"] = run.run_id
    set_header(request, RUN_ID, run.run_id)
    if not request.exchange.facts["trace_is_given"]:
        _set_trace(request, trace_of(run))


def set_header(request: Call, name: bytes, value: str) -> None:
    """Give the answer this header, in place of one that it has."""
    exchange = request.exchange
    exchange.headers = [item for item in exchange.headers if item[0] != name] + [(name, value.encode())]


def _set_trace(request: Call, trace: str) -> None:
    request.exchange.facts["trace_id"] = trace
    set_header(request, TRACE_ID, trace)


def text_field(
    found: dict[str, Any], name: str, *, least: int = 1, most: int, default: str | None = None
) -> str | None:
    """
    A member that is a text of bounded length.

    Raises:
        SkillsRefusal
    """
    value = found.get(name, default)
    if value is not None and (not isinstance(value, str) or not least <= len(value) <= most):
        raise wrong(name, f"a text of {least} to {most} characters")
    return value


def object_field(found: dict[str, Any], name: str) -> dict[str, Any]:
    """A member that is an object; empty where it is left out."""
    value = found.get(name, {})
    if not isinstance(value, dict):
        raise wrong(name, "an object")
    return value


def flag_field(found: dict[str, Any], name: str, *, default: bool, path: str = "") -> bool:
    """A member that is true or false."""
    value = found.get(name, default)
    if not isinstance(value, bool):
        raise wrong(path or name, "true or false")
    return value


def whole_field(found: dict[str, Any], name: str, *, least: int, most: int, default: int, path: str = "") -> int:
    """A member that is a whole number within bounds."""
    value = found.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise wrong(path or name, f"a whole number from {least} to {most}")
    return value


def choice_field(found: dict[str, Any], name: str, choices: Collection[str], default: str, *, path: str = "") -> str:
    """A member that is one of some words."""
    value = found.get(name, default)
    if not isinstance(value, str) or value not in choices:
        raise wrong(path or name, f"one of {', '.join(choices)}")
    return value
