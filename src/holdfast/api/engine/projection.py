"""
Canonical events as frames of the Engine API: a fold over lines, without I/O and without a clock.

    token                 text_delta, or sub_agent_delta: sliced out of the line without parsing it
    all else              parsed once into fields that stay JSON text, so that no number or text changes on the way

The frames of a chunk are made for its first reader and shared by all who read along. Lines have every character
escaped at which some client's line reader would cut, so a JSON text that is copied from one is safe in a frame.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum
from typing import Final, TypeAlias

import msgspec

from holdfast.api.engine.codes import engine_code
from holdfast.api.engine.timestamps import milliseconds
from holdfast.journal.chunk import Chunk
from holdfast.model.encoding import (
    CANONICAL_TYPES,
    FIXED_FIELDS,
    encode_text,
    encode_value,
    event_time,
    format_time,
)

Fields: TypeAlias = Mapping[str, str]
"""An event's or a frame's fields, each as JSON text."""

Frame: TypeAlias = tuple[str, Fields]
"""The name of a frame and its own fields."""

COMMON_FIELDS: Final = ("type", "task_id", "turn_id", "sequence", "timestamp")

_Line = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NO_USAGE: Final = '{"input_tokens":0,"output_tokens":0,"cache_hit_tokens":0}'
_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")


class _Head(msgspec.Struct):
    run_id: str
    sequence: int


# Where things stand in `{"id":"evt_<n>","type":"token","run_id":"<run>","sequence":<n>,"timestamp":"<time>","content":`.
_TYPE_AT: Final = len('{"id":"evt_","type":"')
_TIME_AT: Final = len('{"id":"evt_","type":"token","run_id":"","sequence":,"timestamp":"')
_TIME_LENGTH: Final = len("2026-11-20T23:59:19.987298Z")
_CONTENT: Final = '","content":"'


class FrameId(Enum):
    """What the `id:` line of a frame holds."""

    SEQUENCE = "sequence"  # in a stream of one turn
    TIMESTAMP = "timestamp"  # in a stream that may hold several turns


class Projection:
    """
    The frames of one turn.

    A frame is `id:`, `event:`, one `data:` line and an empty one; the frame `error` has no `id:`, because it shares its
    sequence with the `thread_lifecycle` behind it.
    """

    def __init__(self, task_id: str, turn_id: str, *, epoch: int = 0, ids: FrameId = FrameId.SEQUENCE) -> None:
        self.task_id = task_id
        self.turn_id = turn_id
        self._task = encode_text(task_id)
        self._common = f'"task_id":{self._task},"turn_id":"{turn_id}","sequence":'
        self._ids = ids
        self._suffix = f"@{epoch}" if epoch else ""
        self._key = ("engine", ids, epoch)

    def frames(self, chunk: Chunk) -> bytes:
        """The frames of all events of a chunk; made once for all readers."""
        return chunk.made_once(self._key, self._render)

    def frames_after(self, chunk: Chunk, after: int) -> bytes:
        """The frames of a chunk whose timestamps (in microseconds) lie behind a cursor."""
        if event_time(chunk.lines[0]) > after + 1:
            return self.frames(chunk)
        text = format_time(after)
        behind = next((i for i, line in enumerate(chunk.lines) if _time_text(line) > text), len(chunk.lines))
        if behind == len(chunk.lines):
            return b""
        rest = chunk.after(chunk.first + behind - 1)
        # A cursor between `error` and the event that it belongs to: the reader has the former already.
        has_error_frame = event_time(rest.lines[0]) - 1 > after
        return self._render(rest) if has_error_frame else self._render(rest, skip_error=True)

    def cursor(self, sequence: int, timestamp: int) -> str:
        """A place in the turn (the timestamp in microseconds) as the `id:` lines of this stream give it."""
        return milliseconds(timestamp) if self._ids is FrameId.TIMESTAMP else f"{sequence}{self._suffix}"

    def common(self, type: str, sequence: int | None, timestamp: int) -> str:
        """The fields that every frame has, as the inside of a JSON object."""
        number = "null" if sequence is None else str(sequence)
        return f'"type":"{type}",{self._common}{number},"timestamp":{milliseconds(timestamp)}'

    def _render(self, chunk: Chunk, *, skip_error: bool = False) -> bytes:
        """The frames of a chunk; `skip_error`: of its first event without the frame `error`."""
        run_length = len(self.turn_id)
        head = f'event: text_delta\ndata: {{"type":"text_delta",{self._common}'
        by_time = self._ids is FrameId.TIMESTAMP
        suffix = self._suffix
        second, second_text = "", ""
        frames: list[str] = []
        sequence = chunk.first
        for line in chunk.lines:
            number = str(sequence)
            digits = len(number)
            at = _TIME_AT + 2 * digits + run_length
            if (
                line.startswith('token"', _TYPE_AT + digits)
                and line.startswith(_CONTENT, at + _TIME_LENGTH)
                and _is_last(line, at + _TIME_LENGTH + len(_CONTENT))
            ):
                if line[at : at + 19] != second:
                    second = line[at : at + 19]
                    second_text = str(int(datetime.fromisoformat(second + "+00:00").timestamp()))
                stamp = second_text + line[at + 20 : at + 23]
                rest = line[at + 23 : at + 26]
                if rest != "000":
                    stamp = f"{stamp}.{rest}".rstrip("0")
                frames.append(
                    f"id: {stamp if by_time else number + suffix}\n{head}{number}"
                    f',"timestamp":{stamp},"text":{line[at + _TIME_LENGTH + len(_CONTENT) - 1 : -1]}}}\n\n'
                )
            else:
                frames += self._parsed(line, sequence, skip_error and sequence == chunk.first)
            sequence += 1
        return "".join(frames).encode()

    def _parsed(self, line: str, sequence: int, skip_error: bool) -> list[str]:
        fields = {name: bytes(value).decode() for name, value in _Line.decode(line).items()}
        timestamp = event_time(line)
        name, own = frame_of(fields)
        frames = [f"id: {self.cursor(sequence, timestamp)}\n{self._frame(name, own, sequence, timestamp)}"]
        if fields["type"] == '"error"' and not skip_error:
            frames.insert(0, self._frame("error", _error(fields), sequence, timestamp - 1))
        return frames

    def _frame(self, name: str, own: Fields, sequence: int, timestamp: int) -> str:
        rest = "".join(f",{encode_text(key)}:{value}" for key, value in own.items())
        return f"event: {name}\ndata: {{{self.common(name, sequence, timestamp)}{rest}}}\n\n"


def frame_data(task_id: str, line: str) -> str:
    """The data of the frame of a single event, as a JSON object."""
    event = msgspec.json.decode(line, type=_Head)
    (frame,) = Projection(task_id, event.run_id)._parsed(line, event.sequence, skip_error=True)
    return frame.split("\ndata: ", 1)[1].rstrip("\n")


def frame_of(fields: Fields) -> Frame:
    """The frame of an event, by its fields; that of a failed turn's `error` event is its `thread_lifecycle`."""
    name = fields["type"][1:-1]
    project = _PROJECTED.get(name)
    if project is not None:
        return project(fields)
    return _own_name(fields) if name in CANONICAL_TYPES else _custom(name, fields)


def _started(fields: Fields) -> Frame:
    own = {
        "phase": '"started"',
        "time": fields["timestamp"],
        "agent": fields["agent_name"],
        "attempt": fields["attempt"],
        "user_message_id": fields.get("user_message_id", "null"),
    }
    return "thread_lifecycle", own | _present(fields, "supersedes")


def _completed(fields: Fields) -> Frame:
    usage = fields.get("usage", "null")
    return "thread_lifecycle", {
        "phase": '"completed"',
        "time": fields["timestamp"],
        "stop_reason": fields.get("stop_reason", '"end_turn"'),
        "message_id": fields.get("message_id", "null"),
        "latency_seconds": fields["latency_seconds"],
        "output": fields["output"],
        "usage": _NO_USAGE if usage == "null" else usage,
    }


def _cancelled(fields: Fields) -> Frame:
    return "thread_lifecycle", {"phase": '"errored"', "time": fields["timestamp"], "reason": '"cancelled"'}


def _failed(fields: Fields) -> Frame:
    own = {"phase": '"errored"', "time": fields["timestamp"], "reason": '"failed"'}
    return "thread_lifecycle", own | {"error": _code(fields)}


def _error(fields: Fields) -> Fields:
    own = {"error": _code(fields), "message": fields["error"]}
    return own if fields.get("details", "{}") in ("{}", "null") else own | {"details": fields["details"]}


def _code(fields: Fields) -> str:
    return encode_text(engine_code(_text(fields["code"])))


def _token(fields: Fields) -> Frame:
    if "agent" not in fields and "parent_tool_call_id" not in fields:
        return "text_delta", {"text": fields["content"]}
    return "sub_agent_delta", {"content": fields["content"]} | _origin(fields)


def _thinking(fields: Fields) -> Frame:
    return "thinking_delta", {"text": fields["content"]} | _origin(fields)


def _block(name: str) -> Callable[[Fields], Frame]:
    return lambda fields: (name, _present(fields, "block_index", "block_type") | _origin(fields))


def _tool_call(fields: Fields) -> Frame:
    given = fields.get("input", "null")
    own = _present(fields, "tool", "tool_call_id")
    own["input"] = given if given.startswith("{") else "{}" if given == "null" else f'{{"input":{given}}}'
    return "tool_call", own | _origin(fields)


# Codes of tool results are the tool's own words; these two are the API's as well, and written as there.
_UPPER: Final = {f'"{code}"': f'"{code.upper()}"' for code in ("mcp_connection_failed", "mcp_token_expired")}


def _tool_result(fields: Fields) -> Frame:
    own = _present(fields, "tool", "tool_call_id")
    own["output"] = _as_string(fields.get("output", '""'))
    own["truncated"] = fields.get("truncated", "false")
    error = fields.get("error", "null")
    if error != "null":
        # Tools of the caller's own process report a text; here `error` is a code.
        is_code = error.startswith('"') and _CODE.match(_text(error)) is not None
        own["error"] = _UPPER.get(error, error) if is_code else '"tool_call_failed"'
        message = fields.get("message", "null")
        own["message"] = _as_string(error if message == "null" else message)
    return "tool_result", own | _origin(fields)


def _usage(fields: Fields) -> Frame:
    own = {name: fields.get(name, "0") for name in ("input_tokens", "output_tokens", "cache_hit_tokens")}
    return "usage", {"model": fields.get("model", "null")} | own | _origin(fields)


def _interrupt(fields: Fields) -> Frame:
    kind = _text(fields["kind"])
    if kind not in ("question", "approval"):
        return _own_name(fields)
    own = {
        "request_id": fields["interrupt_id"],
        "kind": '"question"',
        **{name: fields.get(name, "null") for name in ("question", "choices", "default", "expires_at")},
    }
    if kind == "question":
        return "hitl_request", own
    own["kind"] = '"permission"'
    own["default"] = {"true": '"yes"', "false": '"no"'}.get(own["default"], "null")
    if own["choices"] == "null":
        own["choices"] = '["yes","no"]'
    about = {name: fields.get(name, "null") for name in ("tool", "tool_call_id", "input", "rule", "input_hash")}
    return "hitl_request", own | about


def _interrupt_resolved(fields: Fields) -> Frame:
    kind = _text(fields["kind"])
    if kind not in ("question", "approval") or fields["by"] not in ('"caller"', '"expiry"'):
        return _own_name(fields)
    own = {"request_id": fields["interrupt_id"], "kind": '"question"', "answer": fields["answer"], "by": fields["by"]}
    if kind == "approval":
        own["kind"] = '"permission"'
        yes = '"always"' if fields.get("remember") == "true" else '"yes"'
        own["answer"] = {"true": yes, "false": '"no"'}.get(fields["answer"], "null")
    return "hitl_resolved", own | ({"feedback": fields["note"]} if "note" in fields else {})


def _memory(fields: Fields) -> Frame:
    if fields.get("store") != '"working"':
        return "memory_update", _present(fields, "store", "action", "item")
    item = msgspec.json.decode(fields.get("item", "null"), type=dict[str, msgspec.Raw] | None) or {}
    known = {name: bytes(item[name]).decode() for name in ("key", "value") if name in item}
    return "working_memory_update", {"key": "null", "value": "null"} | known | _present(fields, "key", "value")


def _compaction(fields: Fields) -> Frame:
    return "compaction_event", _present(fields, "messages_collapsed", "tokens_before", "tokens_after")


def _restarted(fields: Fields) -> Frame:
    return "restarted", _present(fields, "attempt", "discard_from", "reason")


_PROJECTED: Final[Mapping[str, Callable[[Fields], Frame]]] = {
    "started": _started,
    "complete": _completed,
    "cancelled": _cancelled,
    "error": _failed,
    "token": _token,
    "thinking": _thinking,
    "block_started": _block("content_block_start"),
    "block_stopped": _block("content_block_stop"),
    "tool_call": _tool_call,
    "tool_result": _tool_result,
    "usage": _usage,
    "interrupt": _interrupt,
    "interrupt_resolved": _interrupt_resolved,
    "memory": _memory,
    "compaction": _compaction,
    "restarted": _restarted,
}

NAMES: Final = frozenset(
    {
        *("thread_lifecycle", "error", "text_delta", "thinking_delta", "content_block_start", "content_block_stop"),
        *("tool_call", "tool_result", "usage", "hitl_request", "hitl_resolved", "working_memory_update"),
        *("memory_update", "compaction_event", "restarted", "sub_agent_delta", "heartbeat", "replay_gap"),
    }
)
"""The names of frames that the specification uses: an agent's own event of such a name is `custom.<name>`."""


def _own_name(fields: Fields) -> Frame:
    """A canonical event that has no frame of another name. Only text frames have a top-level `text`."""
    hidden = (*FIXED_FIELDS, *COMMON_FIELDS, "text")
    return _text(fields["type"]), {name: value for name, value in fields.items() if name not in hidden}


def _custom(type: str, fields: Fields) -> Frame:
    own = {name: value for name, value in fields.items() if name not in FIXED_FIELDS}
    if set(own) == {"data"}:
        data = own["data"]
    else:
        data = "{" + ",".join(f"{encode_text(name)}:{value}" for name, value in own.items()) + "}"
    return (f"custom.{type}" if type in NAMES else type), {"data": data}


def _present(fields: Fields, *names: str) -> dict[str, str]:
    return {name: fields[name] for name in names if name in fields}


def _origin(fields: Fields) -> dict[str, str]:
    """Which sub-agent an event comes from."""
    return _present(fields, "agent", "parent_tool_call_id")


def _text(value: str) -> str:
    """The text that a JSON string stands for."""
    return msgspec.json.decode(value, type=str)


def _as_string(value: str) -> str:
    """A JSON value as a JSON string: itself, or its compact JSON text."""
    return value if value.startswith('"') else encode_value(value)


def _is_last(line: str, at: int) -> bool:
    """Whether the JSON string whose inside begins here is the last field of the line."""
    # A quote inside the string is escaped, so `","` is only found where the string ends: with a field behind it, or,
    # if the text itself ends in `",`, right before the closing brace.
    found = line.find('","', at)
    return found < 0 or found == len(line) - 4


def _time_text(line: str) -> str:
    at = line.index('"timestamp":"') + 13
    return line[at : at + _TIME_LENGTH]
