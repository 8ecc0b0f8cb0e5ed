"""
The public calls that describe the server: `/openapi.json`, the same for people at `/docs`, `/metrics`, and the page at `/`.

The pages are made here and load nothing from anywhere: they work behind any proxy, without network, under any
content policy.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Final, cast

import msgspec
from litestar import get

from holdfast.api.http.asgi import Answer, Scope
from holdfast.api.http.call import Call
from holdfast.api.http.credentials import is_https
from holdfast.api.http.enabling import enabled_part
from holdfast.api.http.metrics import Shown, exposition
from holdfast.api.http.openapi import document
from holdfast.api.http.reply import JSON, Reply
from holdfast.api.runtime.pages import front_page, reference_page
from holdfast.settings import METRICS

_PUBLIC: Final = {"public": True}
_READS_DOCS: Final = {"public": True, "page": "read_docs"}
_VIEWS_METRICS: Final = {"public": True, "page": "view_metrics"}
_HTML: Final = b"text/html; charset=utf-8"
_METRICS: Final = b"text/plain; version=0.0.4; charset=utf-8"


@get("/openapi.json", opt=_READS_DOCS)
async def show_openapi(request: Call) -> Answer:
    """Every route of this server, with the schemas of its agents, as OpenAPI 3.1."""
    return _kept(request, msgspec.json.encode(_document(request)), JSON)


@get("/docs", opt=_READS_DOCS)
async def show_docs(request: Call) -> Answer:
    """The reference of this server for people."""
    return _kept(request, reference_page(_document(request)).encode(), _HTML)


@get("/redoc", opt=_READS_DOCS)
async def show_redoc() -> Answer:
    """Where another tool would have its reference: ours is at `/docs`."""
    return Reply(307, headers=((b"location", b"/docs"),))


@get("/", opt=_PUBLIC)
async def show_front(request: Call) -> Answer:
    """A page for people who opened the server in a browser."""
    services = request.services
    names = [program.name for program in services.programs]
    host = (request.header(b"host") or b"").decode("latin-1")
    url = f"{'https' if is_https(cast(Scope, request.scope)) else 'http'}://{host}"
    return _kept(request, front_page(version("holdfast"), names, services.default_agent, url).encode(), _HTML)


@get("/metrics", opt=_VIEWS_METRICS)
async def show_metrics(request: Call) -> Answer:
    """What this process counted since its start, in Prometheus' text format."""
    services = request.services
    shown = Shown(**{name: name in services.settings.metrics for name in METRICS})
    return Reply(200, exposition(services.metrics, services.opened, shown), media_type=_METRICS)


def _kept(request: Call, body: bytes, media_type: bytes) -> Reply:
    """A page: a browser may keep it, but asks whether it changed."""
    exchange = request.exchange
    exchange.headers = [item for item in exchange.headers if item[0] != b"cache-control"]
    return Reply(200, body, ((b"cache-control", b"no-cache"),), media_type)


def _document(request: Call) -> dict[str, Any]:
    services, settings = request.services, request.services.settings
    return document(
        [enabled_part(api, settings) for api in services.apis],
        services.programs,
        services.default_agent,
        version=version("holdfast"),
        is_open=services.authenticator.is_open,
        public_pages=settings.public_pages,
    )


HANDLERS: Final = (show_openapi, show_docs, show_redoc, show_front, show_metrics)
