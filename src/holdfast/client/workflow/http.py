"""
Requests of the Workflow API's client, on the connections that all clients have. Errors become this API's own here and
nowhere else; what asks for them again and what streams is the core's.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from holdfast.client import http
from holdfast.client.backoff import RETRYABLE
from holdfast.client.errors import ApiError, ClientError, ConnectionFailed, ForeignAnswer
from holdfast.client.http import Request, encoded, new_key
from holdfast.client.workflow.errors import WorkflowConnectionError, WorkflowError, WorkflowHTTPError
from holdfast.client.workflow.following import SILENCE_SECONDS

__all__ = ["Http", "encoded", "idempotency_key", "is_passing"]


def idempotency_key(body: bytes) -> str:
    """The key of a post that says the same however often it is made."""
    return hashlib.sha256(body).hexdigest()


def is_passing(error: ClientError) -> bool:
    """Whether the same call may succeed later: it did not reach the server, or was refused for now."""
    if isinstance(error, WorkflowHTTPError):
        return error.status_code in RETRYABLE or error.code == "idempotency_in_progress"
    return isinstance(error, WorkflowConnectionError)


class Http(http.Http):
    """The connections to one server, as the Workflow API uses them."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        content: bytes | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **more: Any,
    ) -> Any:
        """
        What the server answers, decoded. One try.

        Args:
            body: is sent as JSON; `content` is JSON already.
            query: without what is None.
            more: for the HTTP library (`files`, `data`).

        Raises:
            WorkflowHTTPError: it answered anything but 200.
            WorkflowConnectionError: it is unknown whether it did what was asked.
        """
        content = content if body is None else encoded(body)
        try:
            answer = await self.send(
                Request(method, path, query or {}, headers or {}, content), timeout=timeout, **more
            )
            if answer.status_code != 200:
                raise answer.foreign()
            return answer.json()
        except ClientError as exc:
            raise _own(exc) from exc

    async def request_again(self, method: str, path: str, *, key: str | None = None, **arguments: Any) -> Any:
        """
        The same with up to five tries under one Idempotency-Key, so that it happens once.

        Raises:
            WorkflowHTTPError, WorkflowConnectionError: those of the last try.
        """
        headers = {**(arguments.pop("headers", None) or {}), "Idempotency-Key": key or new_key()}
        return await self.again(lambda: self.request(method, path, headers=headers, **arguments), is_passing)

    @asynccontextmanager
    async def pieces(self, path: str, query: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[bytes]]:
        """
        The bytes of an event stream, as they come. Nothing for 45 s is a fault.

        Raises:
            WorkflowHTTPError, WorkflowConnectionError
        """
        try:
            async with self.stream(Request("GET", path, query), silence_seconds=SILENCE_SECONDS) as opened:
                yield opened.pieces
        except (ApiError, ConnectionFailed) as exc:
            raise _own(exc) from exc


def _own(error: ClientError) -> WorkflowError:
    """An error of the core as this API's."""
    if not isinstance(error, ApiError):
        return WorkflowConnectionError(str(error))
    status_code = error.status_code or 0
    if isinstance(error, ForeignAnswer):
        # Not ours: a proxy's page, or another server.
        return WorkflowHTTPError(
            status_code, "invalid_response", {"message": error.message}, retry_after=error.retry_after
        )
    code = str(error.details.get("code", error.code))
    return WorkflowHTTPError(status_code, code, error.details, retry_after=error.retry_after)
