"""
How an API gives itself to the server, and which API owns a path. No I/O.

An API package exposes `api() -> Api`. Its handlers are plain Litestar handlers of one shape:

    @get("/execute/replay", opt={"role": "reader"})
    async def replay(request: Call) -> Answer:
        query = request.query("task_id", "after")
        ...
        return json_reply(...) or EventStream(...)

* They take the one parameter `request: Call` (see `call`), and return a `Reply`, `Download` or `EventStream`. Litestar's
  own parameters, bodies and responses are not used: strictness and error shapes are ours.
* `opt={"role": …}` is the least role that may call; absent: reader. `opt={"public": True}`: no key is asked for.
  `opt={"stream_token": True}`: a stream token of the run in the path will do, and `?token=` is taken out of the query.
  `opt={"socket": True}`: a WebSocket may come without a key, to bring it with its first message.
* `opt={"page": …}` beside public: the permission that a key needs where the setting `public_pages` is off.
* `opt={"enabled_by": …}`: the call may be switched off; see enabling.py.
* Path parameters are segments of the raw path, so that ids may contain `%2F`: `request.path_value("run_id")`.
* Errors are raised, never returned: whatever leaves a handler goes through the API's `render`. The same function
  renders what the door refuses (no key, unknown path, wrong method …) for the paths that the API owns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Literal
from urllib.parse import quote, unquote_to_bytes

import msgspec

from holdfast.api.http.asgi import Scope
from holdfast.api.http.operations import Operation, Schema
from holdfast.api.http.reply import Reply

Owner = Literal["engine", "runtime", "skills", "workflow", "control"]

_OWNERS: Final[dict[str, Owner]] = {
    **dict.fromkeys(("execute", "hitl", "tasks", "memory", "feedback", "skills", "rpc", "admin", "assets"), "engine"),
    "v1": "skills",
    "api": "workflow",
    "webhooks": "workflow",
    "_holdfast": "control",
}

# What may stand in a normalised segment: RFC 3986 `pchar` without the percent sign.
_SAFE_IN_SEGMENT: Final = "!$&'()*+,;=:@-._~"


class Refusal(msgspec.Struct, frozen=True):
    """An error on its way out: what `render` is given beside the exception."""

    request_id: str
    path: str
    facts: Mapping[str, Any] = {}  # what the API noted down about the request


class Api(msgspec.Struct, frozen=True):
    """
    One API: its handlers, and how it shows errors.

    `render` gets every exception that leaves a handler of the API (HoldfastError, or anything else: then a 500
    without its text) and returns the answer. `repairs_text`: lone surrogates in bodies become U+FFFD instead of being
    refused. `operations` says of each route, by method and
    path, what the OpenAPI document shows; `schemas` are the components that they refer to, `error_schema` one of them.

    `enter` sees every request of the API first of all, `admit` once its key is known: they note facts down in the
    exchange, which handlers and `render` find there, and may add headers to its answer. What `admit` returns refuses
    the call, once its role is known to be high enough.
    """

    name: Owner
    handlers: Sequence[Any]
    render: Callable[[Exception, Refusal], Reply]
    body_max: int
    repairs_text: bool
    operations: Mapping[str, Operation]
    schemas: Mapping[str, Schema]
    error_schema: str
    error_media_type: str = "application/json"
    examples: Mapping[str, str] = {}  # of path parameters
    keys_with_spaces: bool = False  # an Idempotency-Key may be any printable ASCII, not only visible
    enter: Callable[[Scope], None] | None = None
    admit: Callable[[Scope], Exception | None] | None = None


def owner_of(path: str) -> Owner:
    """The API that a path belongs to, known or not: by its first segment, with a prefix like `/execute…` too."""
    first = path[1:].partition("/")[0]
    owner = _OWNERS.get(first)
    if owner is not None:
        return owner
    for prefix in ("execute", "hitl", "tasks", "memory", "skills", "admin", "assets"):
        if first.startswith(prefix):
            return "engine"
    return "workflow" if first.startswith("webhooks") else "runtime"


def routes_with(option: str, apis: Collection[Api]) -> Callable[[str, str], bool]:
    """Whether a method and a normal path are those of a handler with this option, such as `opt={"public": True}`."""
    patterns: dict[str, list[str]] = {}
    for api in apis:
        for handler in api.handlers:
            if handler.opt.get(option):
                for path in handler.paths:
                    pattern = re.sub(r"\\{[^/]*\\}", "[^/]+", re.escape(path))
                    for method in handler.http_methods:
                        patterns.setdefault(str(method), []).append(pattern)
    compiled = {method: re.compile(f"(?:{'|'.join(found)})\\Z") for method, found in patterns.items()}

    def has_it(method: str, path: str) -> bool:
        pattern = compiled.get(method)
        return pattern is not None and pattern.match(path) is not None

    return has_it


def public_routes(apis: Collection[Api], *, public_pages: bool = True) -> Callable[[str, str], bool]:
    """Whether a method and a normal path need no key; pages about the server, if they are public."""
    is_public, is_page = routes_with("public", apis), routes_with("page", apis)
    if public_pages:
        return is_public
    return lambda method, path: is_public(method, path) and not is_page(method, path)


def normal_path(raw: bytes) -> str:
    """
    A raw path in the one form that routes are looked up in: each segment decoded and encoded again by itself, so that
    an encoded slash stays one, and without a trailing slash.

    Raises:
        ValueError: a segment is empty or no UTF-8: no route has such a path.
    """
    text = raw.decode("ascii")
    if "//" in text:
        raise ValueError("a segment is empty")
    if len(text) > 1 and text.endswith("/"):
        text = text[:-1]
    if "%" not in text:
        return text
    return "/".join(quote(unquote_to_bytes(part).decode(), safe=_SAFE_IN_SEGMENT) for part in text.split("/"))
