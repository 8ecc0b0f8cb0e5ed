"""
Calls that settings switch off. A handler says with `opt={"enabled_by": …}` what it belongs to. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from holdfast.api.http.errors import NotEnabled
from holdfast.api.http.routing import Api
from holdfast.settings import Settings

REST: Final = "rest"
SSE: Final = "sse"
WEBSOCKET: Final = "websocket"
ASYNC_RUNS: Final = "async_runs"

# What belongs together: whether it is on, the key of a Dockfile that says so, and the setting.
_SWITCHES: Final[Mapping[str, tuple[Callable[[Settings], bool], str, str]]] = {
    REST: (lambda settings: settings.expose_rest, "expose.rest", "HOLDFAST_EXPOSE_REST"),
    SSE: (lambda settings: settings.expose_streams != "none", "expose.streaming", "HOLDFAST_EXPOSE_STREAMS"),
    WEBSOCKET: (lambda settings: settings.expose_streams == "websocket", "expose.streaming", "HOLDFAST_EXPOSE_STREAMS"),
    ASYNC_RUNS: (lambda settings: settings.async_runs, "streaming.async_runs", "HOLDFAST_ASYNC_RUNS"),
}


def is_enabled(group: str | None, settings: Settings) -> bool:
    """Whether the calls of a group (None: of none) exist on this server."""
    return group is None or _SWITCHES[group][0](settings)


def enabled_part(api: Api, settings: Settings) -> Api:
    """An API with the calls that exist on this server."""
    handlers = [handler for handler in api.handlers if is_enabled(handler.opt.get("enabled_by"), settings)]
    return msgspec.structs.replace(api, handlers=handlers)


def require_enabled(group: str | None, settings: Settings) -> None:
    """
    Let a call of this group pass.

    Raises:
        NotEnabled: `key` names the key of a Dockfile that switches it off.
    """
    if group is not None and not is_enabled(group, settings):
        _, key, variable = _SWITCHES[group]
        raise NotEnabled(f"this call is switched off by {key} ({variable})", key=key)
