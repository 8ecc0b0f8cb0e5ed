"""Stream tokens of a run: for pages in browsers, whose EventSource and WebSocket can set no header."""

from __future__ import annotations

from typing import Any, Final, cast

from litestar import post

from holdfast.api.http.asgi import Answer, Scope
from holdfast.api.http.call import Call
from holdfast.api.http.credentials import is_https, token_cookie
from holdfast.api.http.reply import json_reply
from holdfast.api.http.stream_tokens import SECONDS_DEFAULT, SECONDS_MAX, SECONDS_MIN
from holdfast.api.runtime.reading import run_headers
from holdfast.api.runtime.views import events_url
from holdfast.errors import InvalidRequest
from holdfast.model.encoding import format_time

_MEMBERS: Final = ("expires_in", "cookie")


@post("/runs/{run_id:str}/stream-token", status_code=201, opt={"role": "executor"})
async def make_stream_token(request: Call) -> Answer:
    """A token that opens the reading of this run, for some minutes; also as a cookie, if wanted."""
    request.query()
    seconds, wants_cookie = _wanted(await request.json_body() if request.has_body else {})
    run = await request.runs.get(request.caller, request.path_value("run_id"))
    wanted = request.services.clock.now() + seconds * 1_000_000
    token, expires_at = request.services.authenticator.stream_token(request.grant, run.run_id, wanted)
    headers = run_headers(run)
    if wants_cookie:
        is_secure = is_https(cast(Scope, request.scope))
        headers = (*headers, token_cookie(token, run.run_id, seconds, is_secure=is_secure))
    reply = {
        "token": token,
        "expires_at": format_time(expires_at),
        "events_url": f"{events_url(run.run_id)}?token={token}",
    }
    return json_reply(reply, 201, headers)


def _wanted(body: Any) -> tuple[int, bool]:
    """
    For how many seconds, and whether as a cookie too.

    Raises:
        InvalidRequest
    """
    if not isinstance(body, dict):
        raise InvalidRequest("the body is a JSON object")
    for name in body:
        if name not in _MEMBERS:
            raise InvalidRequest(f"unknown member {name[:64]!r}; known: {', '.join(_MEMBERS)}", field=name)
    seconds, wants_cookie = body.get("expires_in", SECONDS_DEFAULT), body.get("cookie", False)
    if type(seconds) is not int or not SECONDS_MIN <= seconds <= SECONDS_MAX:
        raise InvalidRequest(f"expires_in is a whole number from {SECONDS_MIN} to {SECONDS_MAX}", field="expires_in")
    if type(wants_cookie) is not bool:
        raise InvalidRequest("cookie is true or false", field="cookie")
    return seconds, wants_cookie


HANDLERS: Final = (make_stream_token,)
