"""The Runtime API, our native one: one agent as a service, runs that are read from any cursor."""

from __future__ import annotations

from holdfast.api.http.routing import Api
from holdfast.api.runtime import changing, describing, forking, public, reading, sockets, starting, tokens
from holdfast.api.runtime.operations import OPERATIONS, SCHEMAS
from holdfast.api.runtime.problems import MEDIA_TYPE, render

BODY_BYTES_MAX = 1024 * 1024


def api(*, public_only: bool = False) -> Api:
    """The Runtime API, as the server takes it; or only the calls of it that every server answers, like `/health`."""
    private = (
        *starting.HANDLERS,
        *reading.HANDLERS,
        *changing.HANDLERS,
        *forking.HANDLERS,
        *tokens.HANDLERS,
        *sockets.HANDLERS,
    )
    return Api(
        name="runtime",
        handlers=(*(() if public_only else private), *public.HANDLERS, *describing.HANDLERS),
        render=render,
        body_max=BODY_BYTES_MAX,
        repairs_text=False,
        operations=OPERATIONS,
        schemas=SCHEMAS,
        error_schema="Problem",
        error_media_type=MEDIA_TYPE.decode(),
        keys_with_spaces=True,
        examples={"run_id": "q-1", "interrupt_id": "int_1"},
    )


__all__ = ["api"]
