"""What the clients make of the errors of each API, as the servers write them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from holdfast.api import engine, runtime, skills
from holdfast.api.http.reply import Reply
from holdfast.api.http.routing import Refusal
from holdfast.client.answers import Answer, error_of
from holdfast.client.errors import ApiError, Conflict, IdempotencyConflict, IdempotencyInProgress
from holdfast.errors import ConflictError
from holdfast.errors import IdempotencyInProgress as InProgress

Render = Callable[[Exception, Refusal], Reply]


def heard(render: Render, error: Exception) -> ApiError:
    """What a client raises where a server refused for this reason."""
    reply = render(error, Refusal(request_id="req_1", path="/x"))
    headers = {name.decode(): value.decode() for name, value in reply.headers}
    return error_of(Answer(reply.status, headers, reply.body))


@pytest.mark.parametrize(
    ("render", "kind"),
    [
        (runtime.api().render, IdempotencyInProgress),
        (engine.api().render, IdempotencyInProgress),
        (skills.api().render, IdempotencyConflict),
    ],
)
def test_a_call_whose_first_one_is_at_work_is_repeated_on_every_api(render: Render, kind: type[ApiError]) -> None:
    found = heard(render, InProgress("the first call is at work"))

    assert (type(found), found.status_code, found.is_passing, found.retry_after) == (kind, 409, True, 1)


@pytest.mark.parametrize("render", [runtime.api().render, engine.api().render, skills.api().render])
def test_one_whose_outcome_is_unknown_is_not_repeated(render: Render) -> None:
    found = heard(render, InProgress("a crash came first", reason="outcome_unknown"))

    assert (isinstance(found, Conflict), found.is_passing, found.retry_after) == (True, False, None)
    assert found.details["reason"] == "outcome_unknown"


def test_any_other_conflict_is_not_repeated() -> None:
    found = heard(runtime.api().render, ConflictError("the run_id is taken"))

    assert (type(found), found.is_passing, found.retry_after) == (Conflict, False, None)
