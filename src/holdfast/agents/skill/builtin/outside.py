"""
What asks others: a request over HTTP, a request to the assistant's model.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.agents.skill.bindings.http import fetch_error, status_error
from holdfast.agents.skill.failures import UpstreamTimeoutError
from holdfast.agents.skill.fetching import Fetcher, FetchFailed
from holdfast.agents.skill.model import Json
from holdfast.errors import ModelFailed, ModelTimedOut, NotConfigured
from holdfast.execution.steps import NotRetryable

if TYPE_CHECKING:
    from holdfast.agents.skill.bindings.python import AsyncCallContext
    from holdfast.agents.skill.generating import Generator

Function = Callable[..., Awaitable[dict[str, Json]]]

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def fetch_with(fetcher: Fetcher) -> Function:
    """http.fetch with a fetcher, which says where requests may go."""

    async def fetch(
        context: AsyncCallContext,
        url: str | None,
        method: str | None = None,
        headers: dict[str, Json] | None = None,
        body: Json = None,
    ) -> dict[str, Json]:
        verb = (method or "GET").upper()
        if verb not in METHODS:
            raise NotRetryable(f"http.fetch: the method is one of {', '.join(METHODS)}")
        sent = {name.lower(): _header(name, value) for name, value in (headers or {}).items() if value is not None}
        if verb not in ("GET", "HEAD", "OPTIONS"):
            sent.setdefault("idempotency-key", context.idempotency_key)
        content = None
        if body is not None:
            content = body.encode() if isinstance(body, str) else msgspec.json.encode(body)
            sent.setdefault(
                "content-type", "text/plain; charset=utf-8" if isinstance(body, str) else "application/json"
            )
        try:
            answer = await fetcher.fetch(verb, url or "", headers=sent, body=content)
        except FetchFailed as exc:
            raise fetch_error(context._call, exc) from None
        if answer.status_code >= 400:
            raise status_error(context._call, answer.status_code)
        return {"status_code": answer.status_code, "headers": dict(answer.headers), "text": answer.text}

    return fetch


def _header(name: str, value: Json) -> str:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    raise NotRetryable(f"http.fetch: the header {name!r} must be a text")


def generate_with(generator: Generator) -> Function:
    """model.generate with the assistant's model."""

    async def generate(context: AsyncCallContext, prompt: str | None, system: str | None = None) -> dict[str, Json]:
        call = context._call
        try:
            text = await generator.generate(prompt or "", system, say=call.token if call.stream else None)
        except ModelTimedOut as exc:
            raise UpstreamTimeoutError(f"Step '{call.step.shown}': {exc.message}") from None
        except (ModelFailed, NotConfigured) as exc:
            raise call.failed(exc.message, is_final=isinstance(exc, NotConfigured)) from None
        return {"text": text}

    return generate
