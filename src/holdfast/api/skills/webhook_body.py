"""
The bodies of this API's webhooks: `{event, data, timestamp, trace_id}`.

The end of a skill's run is two events, one of the skill and one of its run, for whoever wants to hear of either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from holdfast.api.skills.codes import CANCELLED, error_of_run
from holdfast.api.skills.projection import interrupt_data
from holdfast.api.skills.runs import SKILL, is_ours, skill_id_of, trace_of
from holdfast.api.workflow.webhook_body import event_at, event_id_of
from holdfast.model import Run
from holdfast.model.encoding import encode_value
from holdfast.runs import Runs
from holdfast.webhooks.sender import Encoded

EVENTS: Final = (
    "skill.started",
    "skill.completed",
    "skill.failed",
    "run.waiting",
    "run.completed",
    "run.failed",
)
ALL: Final = "*"
BODY_BYTES_MAX: Final = 256 * 1024

_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "started": ("skill.started",),
    "complete": ("skill.completed", "run.completed"),
    "error": ("skill.failed", "run.failed"),
    "cancelled": ("skill.failed", "run.failed"),
    "interrupt": ("run.waiting",),
}


async def encode_skills_webhook(runs: Runs, run: Run, sequence: int) -> Sequence[Encoded]:
    """
    What the event of this sequence is told as; nothing for other runs than those of skills and capabilities.

    Raises:
        JournalCorrupt, StoreUnavailable
    """
    event = await event_at(runs.journal, run, sequence) if is_ours(run) else None
    if event is None:
        return []
    event_id = event_id_of(run, sequence)
    return [
        Encoded(f"{event_id}_{name.partition('.')[0]}", name, "production", body_of(run, name, event))
        for name in names_of(run, event)
    ]


def names_of(run: Run, event: Mapping[str, Any]) -> list[str]:
    """What an event is called here; a bare capability is no skill."""
    if event.get("kind") == "timer":
        return []
    found = _NAMES.get(event["type"], ())
    return [name for name in found if run.agent.startswith(SKILL) or not name.startswith("skill.")]


def body_of(run: Run, name: str, event: Mapping[str, Any]) -> bytes:
    """The body for one of the names of an event; outputs that do not fit are left out, and the body says so."""
    data: dict[str, Any] = {"skill_id": skill_id_of(run.agent), "run_id": run.run_id}
    kind = event["type"]
    if kind == "complete":
        data |= {"status": "completed", "outputs": event.get("output")}
    elif kind in ("error", "cancelled"):
        data |= {"status": "failed", "outputs": {}, "error": _error(event)}
    elif kind == "interrupt":
        waits = "waiting_for_signal" if event["kind"] == "tool" else "waiting_for_human"
        data |= {"status": waits, "interrupt": {"step_id": event.get("step"), **interrupt_data(event)}}
    else:
        data["status"] = "running"
    body = {"event": name, "data": data, "timestamp": event["timestamp"], "trace_id": trace_of(run)}
    encoded = encode_value(body).encode()
    if len(encoded) <= BODY_BYTES_MAX:
        return encoded
    data |= {"outputs": {}, "truncated": True}
    data.pop("interrupt", None)
    return encode_value(body).encode()


def _error(event: Mapping[str, Any]) -> Mapping[str, Any]:
    if event["type"] == "cancelled":
        return CANCELLED
    return error_of_run(event["code"], event["error"], event.get("details") or {})
