"""Reading the bodies of this API: what is known is checked, what is unknown is named and ignored. No I/O."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from holdfast.api.http.asgi import Header
from holdfast.api.http.idempotency import REPLAYED
from holdfast.api.http.reply import Reply
from holdfast.api.workflow.refusals import invalid

IGNORED: Final = b"holdfast-ignored"


def read_object(body: Any, known: Collection[str], loc: str = "body") -> tuple[dict[str, Any], list[str]]:
    """The known members of an object, without those that are null, and the names of the unknown ones."""
    if not isinstance(body, dict):
        raise invalid(loc, "this is a JSON object")
    found = {name: value for name, value in body.items() if name in known and value is not None}
    return found, [name for name in body if name not in known]


def read_strict(body: Any, known: Collection[str], loc: str = "body") -> dict[str, Any]:
    """The same for a call that takes no unknown members."""
    found, unknown = read_object(body, known, loc)
    if unknown:
        raise invalid(unknown[0], f"unknown; known are {', '.join(sorted(known))}")
    return found


def ignored_header(unknown: list[str]) -> tuple[Header, ...]:
    """The header that names what was ignored; none where nothing was."""
    names = [name for name in unknown if name.isascii() and name.isprintable()][:20]
    return ((IGNORED, ", ".join(names).encode()[:1000]),) if names else ()


def replayed_header(reply: Reply) -> tuple[Header, ...]:
    """That an answer is the one of an earlier call is said under this API's own name too."""
    return ((b"idempotent-replayed", b"true"),) if REPLAYED in reply.headers else ()


def text(found: dict[str, Any], name: str, *, most: int, least: int = 0, default: str | None = None) -> str | None:
    """A member that is a text of bounded length."""
    value = found.get(name, default)
    if value is not None and (not isinstance(value, str) or not least <= len(value) <= most):
        raise invalid(name, f"a text of {least} to {most} characters")
    return value


def whole(found: dict[str, Any], name: str, *, least: int, most: int, default: int) -> int:
    """A member that is a whole number within bounds."""
    value = found.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise invalid(name, f"a whole number from {least} to {most}")
    return value
