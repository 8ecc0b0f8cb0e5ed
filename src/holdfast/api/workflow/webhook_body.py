"""
The bodies of webhooks: a run's row as of the event, with what the event was.

Made once for each event and kept, so that all attempts send the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from holdfast.api.workflow.finding import fold, with_texts
from holdfast.api.workflow.rows import State, facts_of, pending_calls, row_of
from holdfast.journal import Journal
from holdfast.model import Interrupt, Run, Status
from holdfast.model.encoding import decode_event, format_time
from holdfast.runs import Runs
from holdfast.webhooks.endpoint import TEST_EVENT, Endpoint, event_name
from holdfast.webhooks.sender import Encoded

BODY_BYTES_MAX: Final = 256 * 1024
# Claims are not shown: they change while the event is on its way.
_NEVER: Final = 1 << 62


async def encode_webhook(runs: Runs, run: Run, sequence: int) -> Encoded | None:
    """
    The body for the event of a run that has this sequence; None: nobody is told of such an event, or it is gone.

    Raises:
        JournalCorrupt, StoreUnavailable
    """
    event = await event_at(runs.journal, run, sequence)
    name = None if event is None else event_name(event)
    if event is None or name is None:
        return None
    state = await with_texts(
        runs, await fold(runs, msgspec.structs.replace(run, tail_sequence=sequence)), bytes_max=BODY_BYTES_MAX
    )
    interrupts = await runs.store.interrupts(run.number)
    event_id = event_id_of(run, sequence)
    body = body_of(state, interrupts, name, event_id, sequence, event["timestamp"])
    return Encoded(event_id, name, facts_of(run).get("environment", "production"), body)


async def event_at(journal: Journal, run: Run, sequence: int) -> dict[str, Any] | None:
    """One event of a run; None: retention took it."""
    for segment in await journal.store.segments(run.number, after=sequence - 1, bytes_max=1):
        if segment.first <= sequence <= segment.last:
            return decode_event(segment.body.decode().split("\n")[sequence - segment.first])
    return None


def event_id_of(run: Run, sequence: int) -> str:
    """The id of an event, the same for all endpoints, attempts and replays; history that was rolled back had others."""
    epoch = max((epoch for epoch, first in run.epochs if first <= sequence), default=0)
    digest = hashlib.sha256(f"{epoch}/{run.run_id}/{sequence}".encode()).hexdigest()
    return f"msg_{digest[:32]}"


def body_of(
    state: State, interrupts: Sequence[Interrupt], name: str, event_id: str, sequence: int, occurred_at: str
) -> bytes:
    """The body for the event of this sequence, up to which `state` was fed."""
    row = row_of(state)
    moment = {
        "type": name,
        "event_id": event_id,
        "seq": sequence,
        "occurred_at": occurred_at,
        "timestamp": seconds_of(occurred_at),
        "round": state.round,
        "pending_tool_calls": pending_calls(state, interrupts, _NEVER),
        "waiting_for": list(state.waiting.values()),
        "truncated": False,
        "executed_node_records": row["prior_nodes_execution_records"],
        "prior_nodes_execution_records": [],
    }
    return fitting(row | moment)


def body_of_test(endpoint: Endpoint, event_id: str, now: int) -> bytes:
    """The body of `endpoint.test`: a row of no run."""
    nothing = Run(
        number=0,
        run_id="",
        tenant=endpoint.tenant,
        agent="",
        agent_id="",
        status=Status.COMPLETED,
        input=b"{}",
        created_at=now,
        tail_sequence=0,
        metadata={"workflow": {"inputs": {}}},
    )
    row = row_of(State(nothing), with_nodes=False)
    occurred_at = format_time(now)
    moment = {
        "type": TEST_EVENT,
        "event_id": event_id,
        "status": "test",
        "occurred_at": occurred_at,
        "timestamp": seconds_of(occurred_at),
        "round": None,
        "pending_tool_calls": [],
        "waiting_for": [],
        "truncated": False,
    }
    return msgspec.json.encode(row | moment)


def seconds_of(timestamp: str) -> float:
    """A canonical timestamp as Unix seconds."""
    return datetime.fromisoformat(timestamp).timestamp()


def fitting(body: dict[str, Any]) -> bytes:
    """
    The body, shortened until it fits: first all nodes but the last go, then the last one's texts, the result and the
    inputs are emptied. Pending calls stay.
    """
    encoded = msgspec.json.encode(body)
    if len(encoded) <= BODY_BYTES_MAX:
        return encoded
    body = body | {"truncated": True, "executed_node_records": body["executed_node_records"][-1:]}
    encoded = msgspec.json.encode(body)
    if len(encoded) <= BODY_BYTES_MAX:
        return encoded
    is_open = bool(body["pending_tool_calls"])  # then the last node's requests are those
    nodes = [_emptied(node, keeps_requests=is_open) for node in body["executed_node_records"]]
    body |= {
        "executed_node_records": nodes,
        "result": None if body["result"] is None else "",
        "initial_inputs": {"strings": {}, "images": {}},
    }
    return msgspec.json.encode(body)


def _emptied(node: dict[str, Any], *, keeps_requests: bool) -> dict[str, Any]:
    requests = node["tool_call_requests"]
    return node | {
        "full_output": "",
        "tool_call_requests": requests if keeps_requests else [{**item, "arguments": "{}"} for item in requests],
        "tool_call_responses": [{**item, "output": ""} for item in node["tool_call_responses"]],
    }
