"""Every error of ours has an answer here, with a code that the specification lists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast import errors
from holdfast.api.engine import refusals
from holdfast.api.engine.codes import engine_code
from holdfast.api.http import errors as http
from holdfast.api.http.routing import Refusal

REFUSAL = Refusal("req_1", "/execute")

# Section 3 of the specification, as far as calls can meet them now.
LISTED = {
    400: {"MALFORMED_JSON", "INVALID_STATE"},
    401: {"INVALID_KEY", "KEY_ROTATION_PENDING", "MCP_TOKEN_EXPIRED"},
    403: {"PERMISSION_DENIED"},
    404: {
        *("NOT_FOUND", "TASK_NOT_FOUND", "TURN_NOT_FOUND", "MESSAGE_NOT_FOUND", "AGENT_NOT_FOUND", "HITL_NOT_FOUND"),
        *("ITEM_NOT_FOUND", "ASSET_NOT_FOUND", "SKILL_NOT_FOUND", "METHOD_NOT_FOUND"),
    },
    405: {"METHOD_NOT_ALLOWED"},
    409: {
        *("TASK_BUSY", "HITL_REQUIRED", "AMBIGUOUS_HITL", "HITL_ALREADY_ANSWERED", "HITL_INPUT_CHANGED"),
        *("NO_ACTIVE_TURN", "IDEMPOTENCY_IN_PROGRESS", "SKILL_EXISTS"),
    },
    413: {"BODY_TOO_LARGE"},
    415: {"UNSUPPORTED_MEDIA_TYPE"},
    422: {
        *("INVALID_REQUEST", "MEDIA_UNSUPPORTED", "INVALID_ANSWER", "IDEMPOTENCY_KEY_REUSED"),
        *("CONTEXT_OVERFLOW", "OUTPUT_INVALID", "CATALOG_INVALID"),
    },
    429: {"RATE_LIMITED", "LLM_RATE_LIMITED"},
    500: {"INTERNAL_ERROR"},
    502: {"MCP_CONNECTION_FAILED", "LLM_PROVIDER_ERROR"},
    503: {
        *("STARTING", "DRAINING", "CAPACITY_EXHAUSTED", "STORE_UNAVAILABLE", "NOT_CONFIGURED"),
        "MIGRATION_REQUIRED",
    },
    504: {"LLM_TIMEOUT", "TOOL_TIMEOUT"},
    507: {"STORAGE_FULL"},
}
# What never was a request of this API, but bytes on its port, or a handshake; it has no WebSockets.
BELOW_HTTP = {
    400: {"BAD_REQUEST"},
    408: {"REQUEST_TIMEOUT"},
    414: {"URI_TOO_LONG"},
    426: {"UPGRADE_REQUIRED"},
    431: {"HEADERS_TOO_LARGE"},
}


def leaves(kind: type[errors.HoldfastError]) -> Iterator[type[errors.HoldfastError]]:
    children = kind.__subclasses__()
    if kind.__module__.startswith("holdfast.") and not children:
        yield kind
    for child in children:
        yield from leaves(child)


def made(kind: type[errors.HoldfastError]) -> errors.HoldfastError:
    facts: dict[str, Any] = {"active_run_id": "t1", "interrupt_ids": ["q1"], "answer": True, "by": "caller"}
    if kind is http.MethodNotAllowed:
        return http.MethodNotAllowed("no", "GET")
    if kind is http.UnknownParameter:
        return http.UnknownParameter("x", ["y"])
    if kind in (errors.ThreadBusy, errors.InterruptAmbiguous, errors.InterruptResolved):
        return kind("no", **facts)
    return kind("no")


OURS = [kind for kind in leaves(errors.RequestError) if kind.__module__.startswith(("holdfast.errors", "holdfast.api.http", "holdfast.api.engine"))]  # fmt: skip
OURS += [*leaves(errors.ConflictError), *leaves(errors.CapacityError), errors.StorageFull, errors.StoreUnavailable]
OURS += [errors.MigrationRequired, errors.ModelFailed, *leaves(errors.ModelFailed), errors.InvalidOutput]


@pytest.mark.parametrize("kind", OURS, ids=[kind.__name__ for kind in OURS])
def test_every_error_has_a_listed_code_and_the_three_fields(kind: type[errors.HoldfastError]) -> None:
    reply = refusals.render(made(kind), REFUSAL)

    body = json.loads(reply.body)
    assert body["error"] in LISTED.get(reply.status, set()) | BELOW_HTTP.get(reply.status, set()), (kind, body)
    assert set(body) <= {"error", "message", "details"}


def test_the_documented_table_and_the_codes_are_equal() -> None:
    section = (Path(__file__).parents[2] / "docs" / "api" / "engine.md").read_text().partition("\n## Errors\n")[2]
    documented: dict[int, set[str]] = {}
    for line in section.splitlines():
        if found := re.match(r"\| (\d{3}) \| (`[^|]+`) \|", line):
            documented.setdefault(int(found[1]), set()).update(re.findall(r"`(\w+)`", found[2]))

    # This API has no WebSockets, so that none of its callers meets the answer to a handshake.
    below = {status: codes for status, codes in BELOW_HTTP.items() if status != 426}
    assert documented == {status: LISTED.get(status, set()) | below.get(status, set()) for status in {*LISTED, *below}}


def test_an_error_that_is_not_ours_tells_its_request_alone() -> None:
    reply = refusals.render(RuntimeError("a secret"), REFUSAL)

    assert reply.status == 500
    assert b"secret" not in reply.body
    assert json.loads(reply.body)["details"] == {"request_id": "req_1"}


def test_waiting_helps_is_also_a_header() -> None:
    reply = refusals.render(errors.Stopping("later", retry_after=1), REFUSAL)

    assert (b"retry-after", b"1") in reply.headers
    assert json.loads(reply.body) == {"error": "DRAINING", "message": "later", "details": {"retry_after": 1}}


def test_codes_of_events_are_the_journals_in_upper_case() -> None:
    assert engine_code("agent_execution_error") == "AGENT_EXECUTION_ERROR"
    assert engine_code("timeout_error") == "TURN_TIMEOUT"
