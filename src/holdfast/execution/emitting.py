"""
The names under which handlers written for the documented runtime emit: `emit_token`, `sync_emit_token` and so on.

`Context` and `SyncContext` get them from here, beside their own shorter names. All that is emitted is recorded; what
comes back tells whether readers are shown it.

    in async code    `await context.emit_token(…)` gives the event, or None where `events.allowed` hides its type
    `sync_` twins    from any thread, without `await`: True, or False
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

from holdfast.errors import Cancelled
from holdfast.execution.program import spec_of
from holdfast.execution.released import Released
from holdfast.model.encoding import (
    CANONICAL_TYPES,
    FIXED_FIELDS,
    decode_event,
    encode_fields,
    is_type_name,
)

if TYPE_CHECKING:
    from holdfast.execution.execution import Execution
    from holdfast.journal.writer import Writer

# One event is one frame; clients and proxies hold it whole.
EVENT_BYTES_MAX: Final = 1024 * 1024
# So many characters fit into it, whatever they are: a character has at most 6 bytes as JSON (an escape).
SAFE_CHARACTERS: Final = EVENT_BYTES_MAX // 6

# Readers are sent these whatever they ask for, and whatever a server allows.
ALWAYS_SHOWN: Final = frozenset(
    {"started", "complete", "error", "cancelled", "restarted", "interrupt", "interrupt_resolved"}
)

_warned: set[str] = set()

Event = dict[str, Any]


class Emitting:
    """What both contexts have: the twins, and what the documented handlers ask their context."""

    _execution: Execution
    _writer: Writer

    @property
    def _mark(self) -> str | None:
        """The step that the calling code is in."""
        raise NotImplementedError

    def _is_known(self) -> bool:
        """Whether an earlier attempt emitted what comes now."""
        raise NotImplementedError

    # Asking

    @property
    def events_filter(self) -> tuple[str, ...] | None:
        """The types of events that readers may be shown (`events.allowed`); None: all."""
        return self._execution.events_allowed

    @property
    def queue_mode(self) -> bool:
        """False: nothing is queued for a reader, what is emitted goes into the journal."""
        return False

    @property
    def streaming_backend(self) -> None:
        """None: the journal is the stream."""
        return

    def drain_queued_events(self) -> list[Event]:
        """Empty, for the same reason."""
        return []

    def is_tool_allowed(self, name: str) -> bool:
        """Whether the agent's policy lets it call a tool of this name."""
        return spec_of(self._execution.program).tools.allows(name)

    # The twins

    def sync_emit_progress(self, step: str, progress: float, message: str = "") -> bool:
        """Tell how far a step is: 0 to 1, clamped."""
        return self._put("progress", progress_fields(step, progress, message))

    def sync_emit_token(self, content: str, finish_reason: str | None = None) -> bool:
        """Emit a piece of text of the answer."""
        return self._put("token", token_fields(content, finish_reason))

    def sync_checkpoint(self, name: str, data: Any = None) -> bool:
        """Note a state for people."""
        return self._put("checkpoint", canonical_fields({"name": name, "data": data}))

    def sync_emit_step(
        self,
        node_name: str,
        duration_ms: float | None = None,
        input_keys: Sequence[str] | None = None,
        output_keys: Sequence[str] | None = None,
    ) -> bool:
        """Tell that a node of a graph, or any other piece of work, is over. It is not recorded as `step` does."""
        return self._put("step_completed", step_fields(node_name, duration_ms, input_keys, output_keys))

    def sync_emit_heartbeat(self) -> bool:
        """Emit an event `heartbeat`, so that readers see that the work goes on."""
        return self._put("heartbeat", "")

    def sync_emit(self, type: str, data: Any = None, **fields: Any) -> bool:
        """
        Emit an event of your own. A dict in `data` gives its fields; any other value the field `data`.

        Raises:
            ValueError: a canonical type, a bad name, a fixed field, or over 1 MiB.
        """
        return self._put(type, custom_fields(type, data, fields))

    def sync_emit_started(self, *_: Any, **__: Any) -> None:
        """Writes nothing: the server writes `started`."""
        _warn("emit_started")

    def sync_emit_complete(self, *_: Any, **__: Any) -> None:
        """Writes nothing: the server writes `complete`, with what the handler returns."""
        _warn("emit_complete")

    def sync_emit_error(self, *_: Any, **__: Any) -> None:
        """Writes nothing: the server writes `error`, when the handler raises."""
        _warn("emit_error")

    def sync_emit_cancelled(self, *_: Any, **__: Any) -> None:
        """Writes nothing: the server writes `cancelled`."""
        _warn("emit_cancelled")

    # Carrying out

    def _put(self, type: str, own: str) -> bool:
        """Write an event from whatever thread; a thread waits where the run has too much waiting for the disk."""
        is_on_loop = _is_on_loop()
        if not is_on_loop and self._execution.is_ending:
            raise_ended(self._execution)
        if not self._is_known():
            self._writer.write((type, own), mark=self._mark)
            if not is_on_loop and self._writer.size > self._execution.pending_bytes_max:
                self._writer.room_in_thread()
        return is_shown(type, self.events_filter)

    def put(self, type: str, fields: dict[str, Any]) -> None:
        """Emit a canonical event from whatever thread; for adapters that bring other libraries' agents here."""
        self._put(type, canonical_fields(fields))

    def put_any(self, type: str, fields: dict[str, Any]) -> None:
        """
        Emit what another library's object says: token, thinking, progress, checkpoint or a finished node as such,
        anything else as an event of the author's own, `custom` if its name or a field is not free.
        """
        if type == "token" and isinstance(fields.get("content"), str):
            self._put("token", token_fields(fields["content"], fields.get("finish_reason")))
        elif type == "thinking" and isinstance(fields.get("content"), str):
            self.put("thinking", {"content": fields["content"]})
        elif type == "progress" and isinstance(fields.get("progress"), int | float):
            self._put(
                "progress", progress_fields(fields.get("step"), fields["progress"], str(fields.get("message") or ""))
            )
        elif type == "checkpoint" and isinstance(fields.get("name"), str):
            self.put("checkpoint", {"name": fields["name"], "data": fields.get("data")})
        elif type == "step_completed":
            self.put(type, {"attempt": 1, "message": "", "duration_ms": None, "input_keys": [], **fields})
        elif is_type_name(type) and type not in CANONICAL_TYPES and fields.keys().isdisjoint(FIXED_FIELDS):
            self._put(type, custom_fields(type, fields, {}))
        else:
            self._put("custom", canonical_fields({"data": {"type": type, **fields}}))

    def _written(self, type: str, own: str) -> Event | None:
        """Write an event and give it back, if readers are shown it."""
        line = None if self._is_known() else self._writer.append(type, own, self._mark)
        if not is_shown(type, self.events_filter):
            return None
        if line is None:
            # An earlier attempt emitted it, or it is held back for a filter: it has no number here.
            return decode_event(f'{{"type":"{type}","run_id":"{self._execution.run.run_id}"{own}}}')
        return decode_event(line)


def raise_ended(execution: Execution) -> NoReturn:
    """Tell sync code that its run ends, or is let go."""
    if execution.is_cancelled:
        raise Cancelled(f"run {execution.run.run_id} was cancelled")
    raise Released(f"run {execution.run.run_id} is not executed here any more")


def is_shown(type: str, allowed: Sequence[str] | None) -> bool:
    """Whether readers are shown events of this type where only the `allowed` ones are."""
    if allowed is None or type in ALWAYS_SHOWN:
        return True
    if type == "step_completed":
        return "step" in allowed
    if type in CANONICAL_TYPES or type == "heartbeat":
        return type in allowed
    return "custom" in allowed or f"custom:{type}" in allowed


# Fields


def token_fields(content: str, finish_reason: str | None) -> str:
    fields = {"content": text_of(content, "content")}
    return canonical_fields(fields if finish_reason is None else {**fields, "finish_reason": finish_reason})


def progress_fields(step: str | None, progress: float, message: str) -> str:
    share = min(max(float(progress), 0.0), 1.0)
    return canonical_fields({"step": step, "progress": share, "message": message})


def step_fields(
    node_name: str,
    duration_ms: float | None,
    input_keys: Sequence[str] | None,
    output_keys: Sequence[str] | None,
) -> str:
    return canonical_fields(
        {
            "step": text_of(node_name, "node_name"),
            "attempt": 1,
            "message": "",
            "output": None,
            "duration_ms": duration_ms,
            "input_keys": list(input_keys or ()),
            "output_keys": list(output_keys or ()),
        }
    )


def canonical_fields(fields: dict[str, Any]) -> str:
    """The own fields of a canonical event as JSON, bounded."""
    return bounded(
        encode_fields({name: value for name, value in fields.items() if value is not None or name != "step"})
    )


def bounded(own: str) -> str:
    """An event's own fields, or ValueError where they are too many bytes."""
    if len(own) > SAFE_CHARACTERS and (size := len(own.encode())) > EVENT_BYTES_MAX:
        raise ValueError(f"an event may have {EVENT_BYTES_MAX} bytes; this one has {size}")
    return own


def custom_fields(type: str, data: Any, fields: dict[str, Any]) -> str:
    """The own fields of a custom event, or ValueError where its type or a name is not free."""
    if type in CANONICAL_TYPES:
        raise ValueError(f"{type!r} is an event of the server; use the context's method for it, or another name")
    if not is_type_name(type):
        raise ValueError(f"{type!r} is no event type: a letter or _, then at most 63 letters, digits or _")
    own = dict(data) if isinstance(data, dict) else {} if data is None else {"data": data}
    own |= fields
    for name in FIXED_FIELDS:
        if name in own:
            raise ValueError(f"{name!r} is a fixed field of every event; choose another name")
    return canonical_fields(own)


def checked_token(content: Any) -> str:
    """The content of a token: text, and not too long for an event."""
    text = text_of(content, "content")
    if len(text) > SAFE_CHARACTERS:
        bounded(encode_fields({"content": text}))
    return text


def text_of(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text; it is {type(value).__name__}")
    return value


def _is_on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _warn(name: str) -> None:
    if name not in _warned:
        import structlog  # takes as long as all else that `import holdfast` loads

        _warned.add(name)
        structlog.get_logger(__name__).warning(
            "not_emitted", name=name, reason="the server writes this event itself; the call did nothing"
        )
