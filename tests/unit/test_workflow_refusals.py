"""Refusals that pass by themselves say when to come back, in this API's shape."""

from __future__ import annotations

import json

import pytest

from holdfast.api.http.routing import Refusal
from holdfast.api.workflow.refusals import render
from holdfast.errors import HoldfastError, IdempotencyInProgress, QueueFull, RateLimited, Stopping, StoreUnavailable


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Stopping("on its way out"), 503, "stopping"),
        (QueueFull("too many runs"), 503, "overloaded"),
        (StoreUnavailable("no database"), 503, "overloaded"),
        (RateLimited("too often"), 429, "rate_limited"),
        (IdempotencyInProgress("the first call is at work"), 409, "idempotency_in_progress"),
    ],
)
def test_what_passes_by_itself_says_when_to_come_back(error: HoldfastError, status: int, code: str) -> None:
    reply = render(error, Refusal(request_id="r-1", path="/api/workflow/list"))

    assert reply.status == status
    assert json.loads(reply.body)["detail"] == {"code": code, "message": str(error), **error.details}
    assert dict(reply.headers)[b"retry-after"] == b"1"


def test_the_wait_of_an_error_is_the_one_that_is_told() -> None:
    reply = render(RateLimited("too often", retry_after=7), Refusal(request_id="r-1", path="/api/workflow/list"))

    assert dict(reply.headers)[b"retry-after"] == b"7"
