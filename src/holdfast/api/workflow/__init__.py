"""The Workflow API: runs whose tools execute in the caller's process. Its specification is wire/workflow.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.api.http.routing import Api


def api() -> Api:
    """Everything that the Workflow API serves."""
    # Rows and encoders are also used without a server; the web framework stays out of that.
    from holdfast.api.workflow.routes import workflow

    return workflow()


__all__ = ["api"]
