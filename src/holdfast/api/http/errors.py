"""
What can be wrong with a request before any run is concerned. Each has the status that all APIs give it, unless one's
own specification says otherwise.

* RequestError
  + HttpError
    - MalformedBody           408 BodyTimeout, 413 BodyTooLarge, 415 UnsupportedMediaType
    - InvalidQuery            UnknownParameter
    - PathNotFound, NotEnabled, MethodNotAllowed
    - HostNotAllowed, OriginNotAllowed
    - UpgradeRequired
    - BadHttp                 UriTooLong, HeadersTooLarge, HeadersTimeout
* CapacityError
  + NotReady
  + TooManySubscribers
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from holdfast.errors import CapacityError, RequestError


class HttpError(RequestError):
    """The request is not one that any API would take. Nothing was changed."""

    status: ClassVar[int] = 400


class MalformedBody(HttpError):
    """The body is no JSON as all our APIs read it: strict RFC 8259, each key once, within the limits."""

    code = "malformed_json"
    status = 422


class BodyTimeout(HttpError):
    """No byte of the body came for too long."""

    code = "request_timeout"
    status = 408


class BodyTooLarge(HttpError):
    """The body is longer than this call takes (`limit`); the rest of it was not read."""

    code = "payload_too_large"
    status = 413


class UnsupportedMediaType(HttpError):
    """The body is declared as something other than plain JSON."""

    code = "unsupported_media_type"
    status = 415


class InvalidQuery(HttpError):
    """A query parameter has a value that does not fit. `field` names it."""

    code = "invalid_request"
    status = 422

    def __init__(self, message: str, *, field: str | None = None, **details: Any) -> None:
        super().__init__(message, **({"field": field} if field is not None else {}), **details)
        self.field = field


class UnknownParameter(InvalidQuery):
    """The query has a parameter that this call does not know (`known` lists those that it knows)."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        listed = ", ".join(sorted(known)) if known else "none"
        super().__init__(f"unknown query parameter {name!r}; known: {listed}", field=name, known=sorted(known))


class PathNotFound(HttpError):
    """No route has this path."""

    code = "not_found"
    status = 404


class NotEnabled(HttpError):
    """The call exists, but this server's settings switch it off; `key` names the key that does."""

    code = "not_enabled"
    status = 404


class MethodNotAllowed(HttpError):
    """The path has routes, but none for this method; `allow` is the header of the answer."""

    code = "method_not_allowed"
    status = 405

    def __init__(self, message: str, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class HostNotAllowed(HttpError):
    """The Host header names a host that this server does not answer for: a rebound DNS name, most likely."""

    code = "host_not_allowed"
    status = 403


class OriginNotAllowed(HttpError):
    """A page of an origin that is not allowed made the call."""

    code = "origin_not_allowed"
    status = 403


class UpgradeRequired(HttpError):
    """The path is that of a WebSocket, and the request does not ask for one."""

    code = "upgrade_required"
    status = 426


class BadHttp(HttpError):
    """The bytes are no HTTP/1.1 request. The connection is closed."""

    code = "bad_request"
    status = 400


class UriTooLong(BadHttp):
    """The request target is over its limit. The connection is closed."""

    code = "uri_too_long"
    status = 414


class HeadersTooLarge(BadHttp):
    """Too many header lines, or too long ones. The connection is closed."""

    code = "headers_too_large"
    status = 431


class HeadersTimeout(BadHttp):
    """The headers did not arrive in time. The connection is closed."""

    code = "request_timeout"
    status = 408


class NotReady(CapacityError):
    """The server is still starting; store and agents are not up yet."""

    code = "not_ready"
    status: ClassVar[int] = 503


class TooManySubscribers(CapacityError):
    """A run has as many readers in this process as it may (`limit`). Read again when one has left."""

    code = "too_many_subscribers"
    status: ClassVar[int] = 429
