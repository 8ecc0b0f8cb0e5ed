"""The one Litestar application behind the door, made of the handlers of all APIs that are served."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import unquote

from litestar import Litestar, Request
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.plugins import PluginProtocol

from holdfast.api.http.asgi import Application, Message, Receive, Scope, Send, exchange_of
from holdfast.api.http.auth import UNASKED, Authenticator, Grant
from holdfast.api.http.call import Call, Services
from holdfast.api.http.credentials import TOKEN_PARAMETER
from holdfast.api.http.door import Door, answer_to
from holdfast.api.http.enabling import require_enabled
from holdfast.api.http.errors import BadHttp, MethodNotAllowed, PathNotFound
from holdfast.api.http.origins import Origins
from holdfast.api.http.query import without_parameter
from holdfast.api.http.reply import shared_headers
from holdfast.api.http.routing import Api
from holdfast.errors import Forbidden


def build_app(apis: Sequence[Api], authenticator: Authenticator, origins: Origins, services: Services) -> Door:
    """The ASGI application of a server, door first. The Runtime API must be among the APIs."""
    litestar = _LeanLitestar(
        route_handlers=[handler for api in apis for handler in api.handlers],
        request_class=Call,
        guards=[check_role],
        exception_handlers={Exception: _render},
        openapi_config=None,
        logging_config=None,
        # Bodies have a limit for each call, kept by our own reader.
        request_max_body_size=None,
    )
    services.apis = tuple(apis)
    return Door(_with_shared_headers(litestar), {api.name: api for api in apis}, authenticator, origins, services)


class _LeanLitestar(Litestar):
    """
    Litestar without its plugins for pydantic and attrs, which it loads where they are installed.

    We use neither, and pydantic alone would double the time to the first answer. A test says so: the method is not
    part of Litestar's public API.
    """

    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        return plugins


async def check_role(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Let a caller pass whose role the handler asks for: `opt={"role": …}`, else reader; if the call is enabled."""
    scope = cast(Scope, connection.scope)
    settings = exchange_of(scope).services.settings
    require_enabled(handler.opt.get("enabled_by"), settings)
    if scope["method"] == "OPTIONS":
        return
    grant = exchange_of(scope).grant
    if handler.opt.get("public"):
        if "page" in handler.opt and not settings.public_pages:
            _check_page(grant, handler.opt["page"])
        return
    if grant is UNASKED and handler.opt.get("socket"):
        return
    takes_token = bool(handler.opt.get("stream_token"))
    if grant.run_id is not None:
        _check_token(grant.run_id, scope, takes_token=takes_token)
    if takes_token:
        scope["query_string"] = without_parameter(scope["query_string"], TOKEN_PARAMETER)
    grant.caller.require(handler.opt.get("role", "reader"))
    refusal = exchange_of(scope).refusal
    if refusal is not None:
        raise refusal


def _check_page(grant: Grant, permission: str) -> None:
    """Let a caller pass who may see a page about the server."""
    if grant.run_id is not None or not grant.caller.may(permission):
        raise Forbidden(f"this page needs the permission {permission}", needed=permission)


def _check_token(run_id: str, scope: Scope, *, takes_token: bool) -> None:
    """Let a stream token pass where its run is read, and nowhere else."""
    if not takes_token:
        raise Forbidden("a stream token opens the reading of its run and nothing else; send an API key")
    if unquote(scope["path_params"]["run_id"]) != run_id:
        raise Forbidden("this stream token is for another run")


class _Rendered:
    """What Litestar's exception handlers have to return: something that becomes an ASGI application."""

    def __init__(self, app: Application) -> None:
        self._app = app

    def to_asgi_response(self, **_: Any) -> Application:
        return self._app


def _render(request: Request[Any, Any, Any], error: Exception) -> Any:
    scope = cast(Scope, request.scope)
    return _Rendered(answer_to(scope, _as_ours(scope, error)))


def _as_ours(scope: Scope, error: Exception) -> Exception:
    """Litestar's own errors, which are about paths and methods alone, as ours."""
    path, refusal = scope["path"][:200], exchange_of(scope).refusal
    if refusal is not None and isinstance(error, MethodNotAllowedException | NotFoundException):
        return refusal
    if isinstance(error, MethodNotAllowedException):
        allow = (error.headers or {}).get("allow", "")
        methods = sorted({item.strip() for item in allow.split(",")} | ({"HEAD"} if "GET" in allow else set()))
        return MethodNotAllowed(
            f"{path} takes {', '.join(methods)}, not {scope.get('method', 'this method')}", ", ".join(methods)
        )
    if isinstance(error, NotFoundException):
        return PathNotFound(f"there is nothing at {path!r}")
    if isinstance(error, HTTPException) and not isinstance(error, PermissionDeniedException):
        return BadHttp(error.detail)
    return error


def _with_shared_headers(litestar: Litestar) -> Application:
    """Litestar answers OPTIONS by itself; give those answers the headers that all others have."""

    app = cast(Application, litestar)

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "OPTIONS":
            await app(scope, receive, send)
            return

        async def add_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = {name for name, _ in message["headers"]}
                added = [item for item in shared_headers(scope) if item[0] not in known]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await app(scope, receive, add_headers)

    return wrapped
