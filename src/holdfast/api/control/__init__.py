"""The server's side door under `/_holdfast/`, for the CLI alone: keys and backups. No part of any public API."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.api.http.routing import Api


def api() -> Api:
    """Everything under `/_holdfast/`."""
    # The CLI takes `keys` from this package without a server; the web framework stays out of that.
    from holdfast.api.control.routes import control

    return control()


__all__ = ["api"]
