"""
Canonical events as frames of the Runtime API. Pure functions from a chunk to bytes; no I/O.

A frame's data is the canonical line as it is, but for two types: a completed step is shown as `step`, and the code of
an `error` is in upper case. So a token costs one format string, and its frame is shared by all readers of a run.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Final

from holdfast.api.http.frames import text_messages
from holdfast.api.runtime.filters import EVERYTHING, EventFilter
from holdfast.journal import Chunk
from holdfast.model import Run
from holdfast.model.encoding import FIXED_FIELDS, decode_event, encode_value

_TRANSLATED: Final = frozenset({"step_completed", "error"})


def shared_frames(epoch: int, wanted: EventFilter = EVERYTHING) -> tuple[Callable[[Chunk], bytes], Hashable]:
    """
    The projection that all readers of a journal with this epoch and this filter share, and the key to share it by.

    Where a filter hides nothing of a chunk, its readers share the frames of those who have none.
    """
    suffix = _suffix(epoch)
    key = ("runtime", epoch)

    def whole(chunk: Chunk) -> bytes:
        return _frames(chunk, suffix, "}")

    if wanted.key is None:
        return whole, key

    def narrowed(chunk: Chunk) -> bytes:
        if hides_nothing(chunk, wanted):
            return chunk.made_once(key, whole)
        return _frames(chunk, suffix, "}", wanted)

    return narrowed, (*key, wanted.key)


def shared_messages(wanted: EventFilter = EVERYTHING) -> tuple[Callable[[Chunk], bytes], Hashable]:
    """The same for readers on WebSockets: text messages, each the `data:` of the event's frame, whatever the epoch."""

    def make(chunk: Chunk) -> bytes:
        if hides_nothing(chunk, wanted):
            lines = [line for _, line in _shown(chunk)]
        else:
            rows = zip(chunk.types, chunk.lines, strict=True)
            admitted = [row for row in rows if wanted.admits(row[0])]
            lines = [translate(*row)[1] if row[0] in _TRANSLATED else row[1] for row in admitted]
        # A line has no line end within, so all can be encoded at once.
        return text_messages("\n".join(lines).encode().split(b"\n")) if lines else b""

    return make, ("socket", wanted.key)


def frames_for_request(epoch: int, request_id: str, wanted: EventFilter = EVERYTHING) -> Callable[[Chunk], bytes]:
    """The projection of `/invoke/stream`: every event has the request's id as its last member."""
    suffix, last = _suffix(epoch), request_member(request_id)

    def make(chunk: Chunk) -> bytes:
        return _frames(chunk, suffix, last, None if hides_nothing(chunk, wanted) else wanted)

    return make


def request_member(request_id: str) -> str:
    """What an event ends with on `/invoke/stream`, instead of its closing brace."""
    return f',"request_id":{encode_value(request_id)}}}'


def frame(sequence: int, name: str, line: str, *, epoch: int = 0, last: str = "}") -> str:
    """One event as a frame; `last` is what it ends with."""
    if name in _TRANSLATED:
        name, line = translate(name, line)
    return f"id: {sequence}{_suffix(epoch)}\nevent: {name}\ndata: {line[:-1]}{last}\n\n"


def hides_nothing(chunk: Chunk, wanted: EventFilter) -> bool:
    """Whether a filter lets a whole chunk pass."""
    return wanted.key is None or all(map(wanted.admits, set(chunk.types)))


def _frames(chunk: Chunk, suffix: str, last: str, wanted: EventFilter | None = None) -> bytes:
    if wanted is not None:
        return "".join(_narrowed(chunk, suffix, last, wanted)).encode()
    if last == "}":
        parts = [
            f"id: {sequence}{suffix}\nevent: {name}\ndata: {line}\n\n"
            for sequence, (name, line) in enumerate(_shown(chunk), chunk.first)
        ]
    else:
        parts = [
            f"id: {sequence}{suffix}\nevent: {name}\ndata: {line[:-1]}{last}\n\n"
            for sequence, (name, line) in enumerate(_shown(chunk), chunk.first)
        ]
    return "".join(parts).encode()


def _narrowed(chunk: Chunk, suffix: str, last: str, wanted: EventFilter) -> Iterator[str]:
    admitted = {name for name in set(chunk.types) if wanted.admits(name)}
    for sequence, (name, line) in enumerate(zip(chunk.types, chunk.lines, strict=True), chunk.first):
        if name in admitted:
            if name in _TRANSLATED:
                name, line = translate(name, line)  # noqa: PLW2901  # the pair is translated together
            yield f"id: {sequence}{suffix}\nevent: {name}\ndata: {line[:-1]}{last}\n\n"


def _shown(chunk: Chunk) -> Iterable[tuple[str, str]]:
    """Type and line of each event, as this API shows them."""
    rows = zip(chunk.types, chunk.lines, strict=True)
    if _TRANSLATED.isdisjoint(chunk.types):
        return rows
    return [translate(name, line) if name in _TRANSLATED else (name, line) for name, line in rows]


def translate(name: str, line: str) -> tuple[str, str]:
    """Type and line as this API shows them, of an event that it does not show as it is."""
    event = decode_event(line)
    if name == "error":
        event["code"] = str(event.get("code", "")).upper()
        return name, encode_value(event)
    shown: dict[str, Any] = {field: event[field] for field in FIXED_FIELDS}
    output = event.get("output")
    shown["type"] = "step"
    shown["node_name"] = event.get("step")
    shown["duration_ms"] = event.get("duration_ms")
    shown["input_keys"] = event.get("input_keys", [])
    shown["output_keys"] = event.get("output_keys", list(output) if isinstance(output, dict) else [])
    shown["output"] = output
    return "step", encode_value(shown)


def gap_frame(
    run_id: str, *, requested: int, first_sequence: int, tail_sequence: int, epoch: int, reason: str
) -> bytes:
    """The frame that says that history is missing, rolled back, or not written yet."""
    data = encode_value(
        {
            "type": "gap",
            "run_id": run_id,
            "requested": requested,
            "first_sequence": first_sequence,
            "tail_sequence": tail_sequence,
            "epoch": epoch,
            "reason": reason,
        }
    )
    return f"event: gap\ndata: {data}\n\n".encode()


def gap_of(run: Run, requested: int, first: int, reason: str) -> bytes:
    """The gap frame of a run, to a reader that asked for `requested` and whose next event is `first`."""
    return gap_frame(
        run.run_id,
        requested=requested,
        first_sequence=first,
        tail_sequence=run.tail_sequence,
        epoch=run.epoch,
        reason=reason,
    )


def _suffix(epoch: int) -> str:
    return f"@{epoch}" if epoch else ""
