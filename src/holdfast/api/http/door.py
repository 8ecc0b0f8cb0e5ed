"""
The ASGI application in front of Litestar: what is decided before any handler, for all APIs alike.

In this order: which API owns the path (its shape shows every error), Host and Origin, the key, whether the server is
up, and then the path. Handlers find what was found out in `Exchange`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any, Final

import structlog

from holdfast.api.http.asgi import Application, Receive, Scope, Send, connection_of, exchange_of, is_websocket
from holdfast.api.http.auth import NOBODY, UNASKED, Authenticator
from holdfast.api.http.body import header
from holdfast.api.http.call import Exchange, Services
from holdfast.api.http.credentials import find_grant
from holdfast.api.http.errors import BodyTimeout, BodyTooLarge, NotReady, OriginNotAllowed, PathNotFound
from holdfast.api.http.origins import Origins
from holdfast.api.http.reply import Parting, Reply
from holdfast.api.http.routing import Api, Owner, Refusal, normal_path, owner_of, public_routes, routes_with
from holdfast.errors import HoldfastError, Unauthenticated

log = structlog.get_logger(__name__)

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}\Z")
_NO_STORE: Final = (b"cache-control", b"no-store")


class Door:
    """
    Made before the server listens. Until the services are opened, public calls are answered and all others refused:
    keys are not known yet.
    """

    def __init__(
        self,
        app: Application,
        apis: Mapping[Owner, Api],
        authenticator: Authenticator,
        origins: Origins,
        services: Services,
    ) -> None:
        self._app = app
        self._apis = apis
        self._authenticator = authenticator
        self._origins = origins
        self._is_public = public_routes(apis.values(), public_pages=services.settings.public_pages)
        self._is_socket = routes_with("socket", apis.values())
        self._services = services

    @property
    def headers_seconds(self) -> float:
        """For the protocol: how long the headers of a request may take."""
        return self._services.settings.headers_seconds

    def api_of(self, path: str) -> Api:
        """The API whose shape the errors of this path have: its owner, or the Runtime API where that is not served."""
        return self._apis.get(owner_of(path)) or self._apis["runtime"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._handle(scope, receive, send)
        elif scope["type"] == "lifespan":  # the server starts and stops things by itself
            raise RuntimeError("the door has no lifespan")

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = scope["headers"]
        request_id = _request_id(headers)
        exchange = Exchange(
            api=self.api_of(scope["path"]),
            request_id=request_id,
            headers=[_NO_STORE, (b"x-request-id", request_id.encode())],
            services=self._services,
            grant=NOBODY,
            is_head=scope["method"] == "HEAD",
        )
        if exchange.is_head:
            # HEAD is answered as GET. uvicorn keeps the original scope and leaves the body out.
            scope = {**scope, "method": "GET"}
        scope["holdfast"] = exchange
        if exchange.api.enter is not None:
            exchange.api.enter(scope)
        metrics = self._services.metrics
        metrics.active_requests += 1
        try:
            answer = await self._enter(scope, exchange) or self._app
            await answer(scope, receive, send)
        except Exception as error:  # noqa: BLE001  # the top of a request: whatever it was, the API's shape says it
            await self._fail(scope, receive, send, error)
        finally:
            metrics.active_requests -= 1
            if exchange.status:
                # What no route has is one endpoint: a path that anybody can think of must not become a label.
                endpoint = scope.get("path_template") or "none"
                metrics.observe(exchange.agent, endpoint, exchange.status, exchange.seconds)

    async def _enter(self, scope: Scope, exchange: Exchange) -> Reply | None:
        """Check all that comes before the handler; a reply means that the handler is not needed."""
        headers, method = scope["headers"], scope["method"]
        try:
            path = normal_path(scope["raw_path"])
        except ValueError:
            path = ""
        is_public = self._is_public(method, path)
        self._check_origin(scope, exchange, is_public)
        asked = header(headers, b"access-control-request-method") if method == "OPTIONS" else None
        if asked is not None and header(headers, b"origin") is not None:
            exchange.headers += self._origins.preflight(header(headers, b"access-control-request-headers"))
            return Reply(204)
        if not is_public:
            await self._check_key(scope, exchange, method, path)
            if exchange.api.admit is not None:
                exchange.refusal = exchange.api.admit(scope)
        if not path:
            raise exchange.refusal or PathNotFound(f"there is nothing at {scope['path'][:200]!r}")
        scope["path"] = path
        return None

    def _check_origin(self, scope: Scope, exchange: Exchange, is_public: bool) -> None:
        host = header(scope["headers"], b"host")
        # A client of HTTP/1.0 need not name the host, and is no browser.
        if host is not None or scope["http_version"] != "1.0":
            self._origins.check_host(host)
        origin = header(scope["headers"], b"origin")
        if origin is None:
            return
        try:
            exchange.headers += self._origins.headers_for(origin, host)
        except OriginNotAllowed:
            if not is_public:
                raise

    async def _check_key(self, scope: Scope, exchange: Exchange, method: str, path: str) -> None:
        services = self._services
        if services.opened is None:
            raise NotReady("the server is starting; try again", retry_after=1)
        await self._authenticator.prepare(scope["headers"])
        if exchange.api.name != "runtime":
            exchange.grant = self._authenticator.authenticate(scope["headers"])
            return
        origin, host = header(scope["headers"], b"origin"), header(scope["headers"], b"host")
        try:
            exchange.grant = find_grant(
                self._authenticator,
                scope,
                now=services.clock.now(),
                allow_query_key=services.settings.allow_query_key,
                trusts_page=origin is None or self._origins.is_trusted(origin, host),
            )
        except Unauthenticated as error:
            is_missing = error.details.get("reason") == "missing_credentials"
            if not (is_missing and self._is_socket(method, path) and is_websocket(scope)):
                raise
            exchange.grant = UNASKED

    async def _fail(self, scope: Scope, receive: Receive, send: Send, error: Exception) -> None:
        exchange = exchange_of(scope)
        if not exchange.has_begun:
            await answer_to(scope, error)(scope, receive, send)
            return
        # Half an answer is out. Its end must not look like an end.
        if not isinstance(error, ConnectionError):
            log.error("answer_cut", request_id=exchange.request_id, path=scope["path"], exc_info=error)
        connection_of(scope).abort()

    def refuse(self, url: bytes, error: Exception) -> Reply:
        """For the protocol: the whole answer to something that never became a request."""
        path = url.partition(b"?")[0].decode("latin-1")
        request_id = new_request_id()
        reply = self.api_of(path).render(error, Refusal(request_id, path[:200]))
        return reply.with_headers(_NO_STORE, (b"x-request-id", request_id.encode()))


def answer_to(scope: Scope, error: Exception) -> Application:
    """An error, in the shape of the API that owns the path."""
    exchange = exchange_of(scope)
    if not isinstance(error, HoldfastError | ConnectionError):
        log.error("request_failed", request_id=exchange.request_id, path=scope["path"], exc_info=error)
    reply = exchange.api.render(error, Refusal(exchange.request_id, scope["path"], exchange.facts))
    # The client may still be sending the body that was refused.
    return Parting(reply) if isinstance(error, BodyTooLarge | BodyTimeout) else reply


def new_request_id() -> str:
    return f"req_{secrets.token_hex(8)}"


def _request_id(headers: Any) -> str:
    """The caller's own, where it is one, else a new one."""
    given = header(headers, b"x-request-id")
    return given.decode("ascii") if given is not None and _REQUEST_ID.match(given) else new_request_id()
