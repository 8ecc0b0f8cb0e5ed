"""
What a call is let in by, in this order: a key in a header, `?api_key=` where it is allowed, a stream token in
`?token=`, the cookie with a stream token.

The last three are for pages in browsers, whose EventSource and WebSocket can set no header. A key in a URL ends up in
histories and logs of proxies, so it is refused by default, even beside a good header: whoever sends one should hear of
it. A cookie is sent by the browser without being asked, so it counts only for pages that are trusted with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from http.cookies import CookieError, SimpleCookie
from typing import Final

from holdfast.api.http.asgi import Header, Scope
from holdfast.api.http.auth import Authenticator, Grant
from holdfast.api.http.body import header
from holdfast.api.http.query import read_query, without_parameter
from holdfast.errors import Unauthenticated

COOKIE: Final = "holdfast_stream"
KEY_PARAMETER: Final = "api_key"
TOKEN_PARAMETER: Final = "token"  # noqa: S105  # a name
QUERY_KEY_OFF: Final = (
    "API keys are not accepted in the URL: get a short-lived token from POST /runs/{id}/stream-token "
    "and pass it as ?token="
)


def find_grant(
    authenticator: Authenticator, scope: Scope, *, now: int, allow_query_key: bool, trusts_page: bool
) -> Grant:
    """
    The grant of a call's credential. A key is taken out of the query string, so that nothing behind sees it.

    Args:
        now: wall time in microseconds.
        trusts_page: the call comes from no page, or from one whose cookies count.

    Raises:
        Unauthenticated: no credential, or one that is not in force; `reason` says which.
    """
    query = read_query(scope["query_string"], None) if scope["query_string"] else {}
    key = query.get(KEY_PARAMETER)
    if key is not None and not authenticator.is_open and not allow_query_key:
        raise Unauthenticated(QUERY_KEY_OFF, reason="query_key_off")
    if key is not None:
        scope["query_string"] = without_parameter(scope["query_string"], KEY_PARAMETER)
    if authenticator.is_open:
        return authenticator.anybody
    try:
        return authenticator.authenticate(scope["headers"])
    except Unauthenticated as error:
        if error.details.get("reason") != "missing_credentials":
            raise
        missing = error
    if key is not None:
        return authenticator.grant_of(key.encode())
    token = query.get(TOKEN_PARAMETER) or (_cookie(scope["headers"]) if trusts_page else None)
    if token is None:
        raise missing
    return authenticator.grant_of_token(token, now)


def token_cookie(token: str, run_id: str, seconds: int, *, is_secure: bool) -> Header:
    """The header that gives a page of ours the token as a cookie, for the calls of this run."""
    text = f"{COOKIE}={token}; Path=/runs/{run_id}; Max-Age={seconds}; HttpOnly; SameSite=Strict"
    return b"set-cookie", (text + "; Secure" if is_secure else text).encode("ascii")


def is_https(scope: Scope) -> bool:
    """Whether the caller came over TLS; to a proxy in front of us, as that says, or as the page's origin says."""
    headers = scope["headers"]
    if scope["scheme"] == "https" or header(headers, b"x-forwarded-proto") == b"https":
        return True
    return header(headers, b"origin") == b"https://" + (header(headers, b"host") or b"")


def _cookie(headers: Sequence[Header]) -> str | None:
    for name, value in headers:
        if name == b"cookie":
            try:
                found = SimpleCookie(value.decode("latin-1")).get(COOKIE)
            except CookieError:
                continue
            if found is not None:
                return found.value
    return None
