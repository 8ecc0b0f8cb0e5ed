"""What may be said on a WebSocket, and what is decided about it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from holdfast.api.http.query import Query
from holdfast.api.runtime.conversation import (
    AUTH_SECONDS,
    BEGIN_SECONDS,
    MEMBERS,
    Authenticate,
    Cancel,
    Close,
    CloseCode,
    Conversation,
    GiveAnswer,
    Pong,
    Refuse,
    Start,
    Subscribe,
    Welcome,
)
from holdfast.errors import Forbidden


def conversation(*, starts_runs: bool = False, only_reads: bool = False, is_in: bool = True) -> Conversation:
    made = Conversation(starts_runs=starts_runs, now=0.0)
    if is_in:
        made.let_in(0.0, only_reads=only_reads)
    return made


def said(type: str, **members: Any) -> bytes:
    return json.dumps({"type": type, **members}).encode()


def refused(made: Conversation, message: bytes) -> Refuse:
    decision = made.hear(message)
    assert isinstance(decision, Refuse), decision
    return decision


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"no json",
        b"[]",
        b'"ping"',
        b"{}",
        b'{"type":"nonsense"}',
        b'{"type":[]}',
        b'{"type":["ping"],"a":NaN}',
        b"\xef\xbb\xbf{}",
    ],
)
def test_what_is_not_understood_closes(text: bytes) -> None:
    decision = conversation().hear(text)

    assert isinstance(decision, Close)
    assert decision.code is CloseCode.NOT_UNDERSTOOD


@pytest.mark.parametrize(
    "text",
    [
        b'{"type":"ping","ref":"r","ref":"r"}',
        b'{"type":"ping","ref":"r","a":NaN}',
        b'{"type":"start","ref":"r","input":{"n":9223372036854775808}}',
        b'{"type":"start","ref":"r","input":{"t":"\\ud800"}}',
    ],
)
def test_json_that_we_do_not_take_is_refused_and_not_more(text: bytes) -> None:
    assert refused(conversation(starts_runs=True), text).ref == "r"


@pytest.mark.parametrize("name", sorted(set(MEMBERS) - {"auth"}))
def test_nothing_is_heard_before_the_credential(name: str) -> None:
    decision = conversation(is_in=False).hear(said(name))

    assert isinstance(decision, Close)
    assert decision.code is CloseCode.UNAUTHENTICATED


@pytest.mark.parametrize("kind", ["api_key", "bearer", "token"])
def test_one_credential_is_looked_at(kind: str) -> None:
    assert conversation(is_in=False).hear(said("auth", **{kind: "c"}, ref="r")) == Authenticate(kind, "c", "r")


@pytest.mark.parametrize("members", [{}, {"api_key": 1}, {"api_key": "a", "token": "b"}, {"key": "a"}])
def test_a_credential_of_a_wrong_shape_is_refused(members: dict[str, Any]) -> None:
    refused(conversation(is_in=False), said("auth", **members))


def test_a_credential_that_nobody_asked_for_is_welcome() -> None:
    assert conversation().hear(said("auth", api_key="a", ref="r")) == Welcome("r")


def test_each_message_becomes_its_decision() -> None:
    made = conversation()

    assert made.hear(said("ping")) == Pong(None)
    assert made.hear(said("ping", ref="r")) == Pong("r")
    assert made.hear(said("subscribe")) == Subscribe(None, Query(), None)
    assert made.hear(said("subscribe", from_sequence=5, ref="r")) == Subscribe("5", Query(), "r")
    assert made.hear(said("subscribe", from_sequence="5@1", types=["token", "step"], view="compact")) == Subscribe(
        "5@1", Query(types="token,step", view="compact"), None
    )
    assert made.hear(said("answer", interrupt_id="int_1", answer=None)) == GiveAnswer("int_1", None, None)
    assert made.hear(said("cancel")) == Cancel("", None)
    assert made.hear(said("cancel", reason="left", ref="r")) == Cancel("left", "r")


def test_a_start_brings_its_controls_as_a_query_would() -> None:
    decision = conversation(starts_runs=True).hear(
        said("start", input={"n": 1}, run_id="one", timeout=5, agent="a", idempotency_key="k", thread_id="")
    )

    assert decision == Start({"n": 1}, "a", Query(run_id="one", timeout="5"), "k", None)


@pytest.mark.parametrize(
    "message",
    [
        said("ping", ref=5),
        said("ping", ref="x" * 65),
        said("ping", unknown=1),
        said("subscribe", from_sequence=1.5),
        said("subscribe", from_sequence=True),
        said("subscribe", types=[1]),
        said("subscribe", last_event_id=5),
        said("answer", answer=1),
        said("answer", interrupt_id="int_1"),
        said("answer", interrupt_id=1, answer=1),
        said("cancel", reason=1),
        said("start", input={}),
    ],
)
def test_a_wrong_message_is_refused(message: bytes) -> None:
    refused(conversation(), message)


def test_a_socket_starts_one_run() -> None:
    made = conversation(starts_runs=True)

    for early in ("subscribe", "cancel"):
        refused(made, said(early))
    refused(made, said("start"))
    assert isinstance(made.hear(said("start", input={})), Start)
    assert isinstance(made.hear(said("start", input={})), Start), "the first one may have been refused"
    made.begun()
    refused(made, said("start", input={}))
    assert isinstance(made.hear(said("subscribe")), Subscribe)


@pytest.mark.parametrize("name", ["start", "answer", "cancel"])
def test_a_stream_token_opens_subscribe_and_ping(name: str) -> None:
    made = conversation(only_reads=True)

    assert isinstance(refused(made, said(name)).error, Forbidden)
    assert isinstance(made.hear(said("subscribe")), Subscribe)
    assert isinstance(made.hear(said("ping")), Pong)


def test_there_is_a_deadline_until_events_are_on_their_way() -> None:
    made = conversation(is_in=False)
    assert made.overdue(AUTH_SECONDS - 0.1) is None
    assert made.overdue(AUTH_SECONDS) == Close(CloseCode.TOO_SLOW, "no auth came within 10 seconds")

    made.let_in(5.0, only_reads=False)
    made.hear(said("ping"))
    assert made.overdue(5.0 + BEGIN_SECONDS - 0.1) is None
    late = made.overdue(5.0 + BEGIN_SECONDS)
    assert late is not None
    assert late.code is CloseCode.TOO_SLOW

    made.begun()
    assert made.overdue(1e9) is None
