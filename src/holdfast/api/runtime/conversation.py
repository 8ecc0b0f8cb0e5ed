"""
What may be said on a WebSocket of the Runtime API: messages in, decisions out. No I/O, no clock.

A socket is let in (`let_in`), by a header or by its first message; then it begins, by `subscribe` or, where runs are
started, by `start`; until then it has a deadline. Whoever holds the socket tells what time it is and carries the
decisions out. A message that cannot be understood at all closes the socket; one that is wrong is refused, and the
socket stays open.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final

import msgspec

from holdfast.api.http.errors import MalformedBody
from holdfast.api.http.query import Query
from holdfast.api.http.strict_json import read_json
from holdfast.errors import Forbidden, HoldfastError, InvalidRequest

AUTH_SECONDS: Final = 10.0
BEGIN_SECONDS: Final = 30.0
REF_MAX: Final = 64


class CloseCode(IntEnum):
    """Why a socket is closed."""

    FINISHED = 1000  # the terminal event was sent, or nothing follows in a finished run
    SHUTDOWN = 1001  # or another database took the place of the one that was read: come back in either case
    INTERNAL = 1011  # a fault of ours; the log says which
    NOT_UNDERSTOOD = 4400
    UNAUTHENTICATED = 4401
    NO_SUCH_RUN = 4404
    TOO_SLOW = 4408
    TOO_MANY = 4429


class Close(msgspec.Struct, frozen=True):
    """Close the socket."""

    code: CloseCode
    reason: str


class Refuse(msgspec.Struct, frozen=True):
    """Tell what is wrong with a message."""

    error: HoldfastError
    ref: str | None = None


class Authenticate(msgspec.Struct, frozen=True):
    """Look whether this credential lets the socket in. `kind` is api_key, bearer or token."""

    kind: str
    credential: str
    ref: str | None


class Welcome(msgspec.Struct, frozen=True):
    """Acknowledge a credential that nobody asked for: the socket is in already."""

    ref: str | None


class Start(msgspec.Struct, frozen=True):
    """Start a run; `controls` are those of a call, as in its query."""

    input: Any
    agent: str | None
    controls: Query
    idempotency_key: str | None
    ref: str | None


class Subscribe(msgspec.Struct, frozen=True):
    """Follow the run from here on; `reading` says what is shown, as in a query."""

    from_sequence: str | None
    reading: Query
    ref: str | None


class GiveAnswer(msgspec.Struct, frozen=True):
    """Answer an interrupt of the run."""

    interrupt_id: str
    answer: Any
    ref: str | None


class Cancel(msgspec.Struct, frozen=True):
    """Cancel the run."""

    reason: str
    ref: str | None


class Pong(msgspec.Struct, frozen=True):
    """Answer a ping."""

    ref: str | None


Decision = Close | Refuse | Authenticate | Welcome | Start | Subscribe | GiveAnswer | Cancel | Pong

_CREDENTIALS: Final = ("api_key", "bearer", "token")
_READING: Final = ("types", "preset", "view")
_START: Final = ("run_id", "thread_id", "timeout", "timeout_sec", "webhook_url", "types", "preset")
MEMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    "auth": _CREDENTIALS,
    "start": ("input", "agent", "idempotency_key", *_START),
    "subscribe": ("from_sequence", *_READING),
    "answer": ("interrupt_id", "answer"),
    "cancel": ("reason",),
    "ping": (),
}
"""The messages of a client, with their members beside `type` and `ref`."""


class Conversation:
    """
    One socket's side of it. Times are seconds of one clock.

    Args:
        starts_runs: the socket is one that starts a run, and has none before that.
    """

    def __init__(self, *, starts_runs: bool, now: float) -> None:
        self._starts_runs = starts_runs
        self._has_run = not starts_runs
        self._is_in = False
        self._only_reads = False
        self.deadline: float | None = now + AUTH_SECONDS

    def let_in(self, now: float, *, only_reads: bool) -> None:
        """The credential is good; `only_reads`: it is a stream token."""
        self._is_in = True
        self._only_reads = only_reads
        self.deadline = now + BEGIN_SECONDS

    def begun(self) -> None:
        """Events are on their way, now or after the next ones of the run."""
        self._has_run = True
        self.deadline = None

    def overdue(self, now: float) -> Close | None:
        """What to do at this time if nothing came."""
        if self.deadline is None or now < self.deadline:
            return None
        if not self._is_in:
            return Close(CloseCode.TOO_SLOW, f"no auth came within {AUTH_SECONDS:g} seconds")
        return Close(CloseCode.TOO_SLOW, f"no start and no subscribe came within {BEGIN_SECONDS:g} seconds")

    def hear(self, text: bytes) -> Decision:
        """What to do about a message."""
        try:
            message = read_json(text)
        except MalformedBody as error:
            return _about_broken(text, error)
        if not isinstance(message, dict):
            return Close(CloseCode.NOT_UNDERSTOOD, "a message is a JSON object")
        name = message.get("type")
        if not isinstance(name, str) or name not in MEMBERS:
            return Close(CloseCode.NOT_UNDERSTOOD, f"the type of a message is one of {', '.join(MEMBERS)}")
        if not self._is_in and name != "auth":
            return Close(CloseCode.UNAUTHENTICATED, "the first message is auth, with an API key or a token")
        ref = message.get("ref")
        if ref is not None and not (isinstance(ref, str) and len(ref) <= REF_MAX):
            return Refuse(InvalidRequest(f"ref is a text of at most {REF_MAX} characters", field="ref"))
        try:
            return self._decide(name, message, ref)
        except HoldfastError as error:
            return Refuse(error, ref)

    def _decide(self, name: str, message: dict[str, Any], ref: str | None) -> Decision:
        _check_members(name, message)
        if name == "ping":
            return Pong(ref)
        if name == "auth":
            kind, credential = _credential(message)
            return Welcome(ref) if self._is_in else Authenticate(kind, credential, ref)
        if name == "subscribe":
            self._need_run()
            return Subscribe(_from_sequence(message), _texts(message, _READING), ref)
        if self._only_reads:
            raise Forbidden("a stream token opens subscribe and ping; send an API key for the rest")
        if name == "start":
            return self._start(message, ref)
        self._need_run()
        if name == "cancel":
            return Cancel(_text(message, "reason") or "", ref)
        if "answer" not in message:
            raise InvalidRequest("the message needs the member answer", field="answer")
        interrupt_id = _text(message, "interrupt_id")
        if interrupt_id is None:
            raise InvalidRequest("the message needs the member interrupt_id", field="interrupt_id")
        return GiveAnswer(interrupt_id, message["answer"], ref)

    def _start(self, message: dict[str, Any], ref: str | None) -> Start:
        if not self._starts_runs:
            raise InvalidRequest("this socket follows a run; start others at /invoke/ws", field="type")
        if self._has_run:
            raise InvalidRequest("this socket has started its run; open another one for the next", field="type")
        if "input" not in message:
            raise InvalidRequest("the message needs the member input", field="input")
        key = _text(message, "idempotency_key")
        return Start(message["input"], _text(message, "agent"), _texts(message, _START), key, ref)

    def _need_run(self) -> None:
        if not self._has_run:
            raise InvalidRequest("there is no run yet; send start first", field="type")


def _about_broken(text: bytes, error: MalformedBody) -> Decision:
    """Text that any reader takes for a known message, if not ours, is refused; all else is not understood."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    name = message.get("type") if isinstance(message, dict) else None
    if isinstance(name, str) and name in MEMBERS:
        ref = message.get("ref")
        return Refuse(error, ref if isinstance(ref, str) and len(ref) <= REF_MAX else None)
    return Close(CloseCode.NOT_UNDERSTOOD, error.message)


def _check_members(name: str, message: dict[str, Any]) -> None:
    known = ("type", "ref", *MEMBERS[name])
    for member in message:
        if member not in known:
            raise InvalidRequest(f"unknown member {member[:64]!r}; known: {', '.join(known)}", field=member)


def _credential(message: dict[str, Any]) -> tuple[str, str]:
    given = [kind for kind in _CREDENTIALS if kind in message]
    if len(given) != 1 or not isinstance(message[given[0]], str):
        raise InvalidRequest(f"auth has one of {', '.join(_CREDENTIALS)}, a text", field="auth")
    return given[0], message[given[0]]


def _text(message: dict[str, Any], name: str) -> str | None:
    value = message.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"{name} is a text", field=name)
    return value or None


def _from_sequence(message: dict[str, Any]) -> str | None:
    value = message.get("from_sequence")
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequest("from_sequence is a sequence like 5, or a text like 5@1", field="from_sequence")
    return str(value)


def _texts(message: dict[str, Any], names: tuple[str, ...]) -> Query:
    """Members as a query would bring them: numbers in digits, lists with commas."""
    query = Query()
    for name in names:
        value = message.get(name)
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            value = ",".join(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if value is not None and not isinstance(value, str):
            raise InvalidRequest(f"{name} is a text, or a number where it counts something", field=name)
        if value:
            query[name] = value
    return query
