"""The clients' errors as objects, and what becomes of answers that others gave: proxies, gateways, other servers."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from holdfast.client.answers import Answer, error_of
from holdfast.client.backoff import retry_after_seconds
from holdfast.client.errors import (
    ClientError,
    ConnectionFailed,
    DeadlineExceeded,
    ForeignAnswer,
    NotFound,
    RequestRefused,
    RunFailed,
    ServerFault,
)
from holdfast.client.workflow.errors import WebhookRejected, WorkflowHTTPError, WorkflowTimeout

ERRORS = [
    NotFound("no run", status_code=404, details={"a": 1}, run_id="r-1", retry_after=2.0),
    ConnectionFailed("nobody listens"),
    DeadlineExceeded("the time is over"),
    WorkflowHTTPError(404, "run_not_found", {"message": "no run"}, retry_after=2.0),
    WebhookRejected("no signature", status_code=401),
    WorkflowTimeout(7, None, 2.0),
]


def pickled(error: ClientError) -> ClientError:
    made: ClientError = pickle.loads(pickle.dumps(error))
    return made


@pytest.mark.parametrize("made", [pickled, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_in_another_process(
    error: ClientError, made: Callable[[ClientError], ClientError]
) -> None:
    other = made(error)

    assert (type(other), str(other), vars(other)) == (type(error), str(error), vars(error))


def test_a_handle_stays_in_its_process_and_its_error_leaves_it() -> None:
    error = WorkflowTimeout(7, open, 2.0)
    error.run = lambda: None  # nothing that can be pickled, as a handle

    assert (pickled(error).args, vars(pickled(error))) == (error.args, {"task_id": 7, "run": None})


def answered(status_code: int, body: Any, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status_code, headers or {}, body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize(
    "details", [["name is missing"], "name is missing", 5, None], ids=lambda details: type(details).__name__
)
def test_details_of_another_shape_are_no_fault_of_the_client(details: Any) -> None:
    found = error_of(answered(400, {"error": "Bad Request", "message": "no", "details": details}))

    assert (type(found), found.details) == (RequestRefused, {})


def test_a_body_that_is_nested_too_deeply_is_a_foreign_one() -> None:
    assert type(error_of(answered(500, b"[" * 100_000))) is ForeignAnswer
    with pytest.raises(ForeignAnswer):
        answered(200, b"[" * 100_000).json()


@pytest.mark.parametrize("status_code", [502, 504])
def test_a_gateways_refusal_passes_in_whatever_form_it_comes(status_code: int) -> None:
    page = error_of(answered(status_code, b"<html>"))
    spring = error_of(answered(status_code, {"status": status_code, "error": "Gone", "message": "", "path": "/runs"}))
    ours = error_of(answered(status_code, {"code": "NEW_FAILURE", "detail": "it failed", "run_id": "r-1"}))
    known = error_of(answered(status_code, {"code": "INTERNAL_ERROR", "detail": "no"}))

    assert [error.is_passing for error in (page, spring, ours, known)] == [True, True, False, False]
    assert (type(spring), type(ours)) == (ServerFault, RunFailed)


def test_a_redirect_is_told_with_its_place() -> None:
    found = error_of(answered(308, b"", {"location": "https://runs.example/runs"}))

    assert "https://runs.example/runs" in str(found)
    assert not found.is_passing


@pytest.mark.parametrize(
    "value",
    [
        "Fri, 31 Dec 99999999999 23:59:59 GMT",
        "Fri, 99999999999999999999 Dec 2026 23:59:59 GMT",
        "Fri, 31 Dec 2026 23:59:59 +9999999999999",
    ],
)
def test_a_date_that_no_calendar_has_asks_for_nothing(value: str) -> None:
    assert retry_after_seconds(value) is None
