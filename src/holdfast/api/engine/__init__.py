"""The Engine API: conversations that run in turns, watched as frames. Its specification is wire/engine.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.api.http.routing import Api


def api() -> Api:
    """Everything that the Engine API serves."""
    # The projection is also used without a server; the web framework stays out of that.
    from holdfast.api.engine.routes import engine

    return engine()


__all__ = ["api"]
