"""What travels beside the input of a call that starts a run: its query parameters, checked."""

from __future__ import annotations

import unicodedata
from typing import Any, Final

import msgspec

from holdfast.api.http.call import Call
from holdfast.api.http.errors import InvalidQuery
from holdfast.api.http.idempotency import idempotency_row
from holdfast.api.http.query import Query
from holdfast.errors import InvalidRequest
from holdfast.execution.program import Program, spec_of
from holdfast.runs import StartRequest
from holdfast.webhooks import Wish

CONTROLS: Final = ("run_id", "thread_id", "timeout", "timeout_sec", "webhook_url")
EXECUTION_SECONDS_MAX: Final = 86_400
THREAD_ID_MAX: Final = 255
_NOT_IN_THREAD_IDS: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
# Where a person's words may stand in an input, in this order; a thread keeps them as the user's message.
_MESSAGE_FIELDS: Final = ("message", "query", "input", "prompt")


def start_request(call: Call, query: Query, *, agent: str | None, input: Any, body: Any) -> StartRequest:
    """
    The request of a call with these controls. `body` is what decides whether a repeat under the same Idempotency-Key
    is the same call; it is the input itself but for forks.

    Raises:
        InvalidQuery: a control does not fit, or is not taken here.
    """
    if "run_id" in query and not call.services.settings.allow_client_ids:
        raise InvalidQuery("run_id is not taken: this server gives the ids of runs (allow_client_ids)", field="run_id")
    thread_id = _thread_id(query)
    limits = [query.number(name, least=1, most=EXECUTION_SECONDS_MAX) for name in ("timeout", "timeout_sec")]
    return StartRequest(
        agent=agent,
        input=input,
        run_id=query.get("run_id"),
        thread_id=thread_id,
        message=None if thread_id is None else message_of(input),
        timeout_seconds=min((limit for limit in limits if limit is not None), default=None),
        idempotency=idempotency_row(call, query, body),
    )


def wish_of(query: Query) -> Wish | None:
    """The endpoint that hears of the new run alone, where its URL leads not yet looked at; None: none is wished for."""
    url = query.get("webhook_url")
    return None if url is None else Wish(url=url)


def check_input(given: Any, agent: Program, *, field: str | None = None) -> None:
    """
    Without a schema an input is an object; what a schema says is checked where every API starts runs.

    Raises:
        InvalidRequest
    """
    if not isinstance(given, dict) and spec_of(agent).input_schema is None:
        raise InvalidRequest("the input is a JSON object", field=field)


def message_of(given: Any) -> str:
    """The words of an input: the first text among the usual fields, else the input as JSON."""
    if isinstance(given, dict):
        for field in _MESSAGE_FIELDS:
            if isinstance(given.get(field), str):
                text: str = given[field]
                return text
    return msgspec.json.encode(given).decode()


def _thread_id(query: Query) -> str | None:
    text = query.get("thread_id")
    if text is None:
        return None
    if len(text) > THREAD_ID_MAX or any(unicodedata.category(character) in _NOT_IN_THREAD_IDS for character in text):
        raise InvalidQuery(f"thread_id is 1 to {THREAD_ID_MAX} characters, none of them a control", field="thread_id")
    return text
