"""Which calls exist and which pages are public: by settings, for every API alike."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.api import runtime
from holdfast.api.http.enabling import enabled_part
from holdfast.api.http.openapi import document, routes_of
from holdfast.api.http.routing import public_routes
from holdfast.settings import InvalidSetting, Settings


def routes(**settings: Any) -> set[str]:
    api = enabled_part(runtime.api(), Settings(**settings))
    return {f"{method} {path}" for method, path, _ in routes_of(api)}


ALL = routes()


def test_without_settings_every_call_exists() -> None:
    assert {f"{method} {path}" for method, path, _ in routes_of(runtime.api())} == ALL


def test_what_is_switched_off_is_gone_from_the_document_and_nothing_else_is() -> None:
    rest = {"POST /invoke", "POST /agents/{name:str}/invoke"}
    streams = {"POST /invoke/stream", "POST /agents/{name:str}/invoke/stream", "GET /runs/{run_id:str}/events"}
    runs = {f"{method} {path}" for method in ("GET", "POST") for path in ("/runs", "/agents/{name:str}/runs")}

    assert ALL - routes(expose_rest=False) == rest
    assert ALL - routes(async_runs=False) == runs
    gone = ALL - routes(expose_streams="none")
    assert streams <= gone
    assert all(path.endswith("/ws") for path in gone - streams)
    assert gone - streams == ALL - routes(expose_streams="sse")
    shown = document([enabled_part(runtime.api(), Settings(expose_rest=False))], [], None, version="1", is_open=False)
    assert "/invoke" not in shown["paths"]
    assert "/invoke/stream" in shown["paths"]


def test_nothing_that_could_be_called_is_no_server() -> None:
    with pytest.raises(InvalidSetting):
        Settings(expose_rest=False, expose_streams="none")


def test_pages_are_public_until_a_setting_says_otherwise() -> None:
    pages = ("/metrics", "/docs", "/openapi.json", "/redoc")
    is_public, is_never = public_routes([runtime.api()]), public_routes([runtime.api()], public_pages=False)

    assert all(is_public("GET", page) for page in pages)
    assert not any(is_never("GET", page) for page in pages)
    assert is_never("GET", "/health")
