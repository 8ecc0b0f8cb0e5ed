"""The Runtime API, our native one: one agent as a service, runs that are read from any cursor."""

from __future__ import annotations

from holdfast.api.http.routing import Api
from holdfast.api.http.strict_json import SAFE_INTEGER_MAX
from holdfast.api.runtime import changing, public, reading, starting
from holdfast.api.runtime.problems import render

BODY_BYTES_MAX = 1024 * 1024


def api() -> Api:
    """The Runtime API, as the server takes it."""
    return Api(
        name="runtime",
        handlers=(*starting.HANDLERS, *reading.HANDLERS, *changing.HANDLERS, *public.HANDLERS),
        render=render,
        body_max=BODY_BYTES_MAX,
        repairs_text=False,
        integer_max=SAFE_INTEGER_MAX,
    )


__all__ = ["api"]
