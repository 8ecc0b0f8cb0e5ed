"""The Skills API: declared skills, executed and streamed under `/v1`. Its specification is wire/skills.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.api.http.routing import Api


def api() -> Api:
    """Everything that the Skills API serves."""
    # The encoder of webhooks is also used without this API being served; the web framework stays out of that.
    from holdfast.api.skills.routes import skills

    return skills()


__all__ = ["api"]
