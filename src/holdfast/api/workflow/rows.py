"""
What the Workflow API shows of a run: its state, its nodes, its row and its task status. No I/O.

`State` is a fold over canonical events, so the same journal up to the same event gives the same picture in a status, a
stream, a row and a webhook, however late it is asked for. What no event carries (deadlines and claims of calls) is
taken from the run's interrupts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from holdfast.model import Interrupt, Kind, Part, Run, Status
from holdfast.model.encoding import decode_event, event_type, format_time

# Larger pictures lose the texts of their oldest nodes.
TEXT_BYTES_MAX: Final = 1024 * 1024
TERMINAL: Final = {"complete": "completed", "error": "failed", "cancelled": "cancelled"}
_ENDED_STEPS: Final = ("step_completed", "step_failed", "step_skipped", "step_degraded")
_SHOWN: Final = frozenset(
    ("started", "restarted", "interrupt", "interrupt_resolved", "tool_result", "usage", *_ENDED_STEPS, *TERMINAL)
)


class Node(msgspec.Struct):
    """One line of the record: a finished step, a round of calls, or the result."""

    name: str
    sequence: int
    output: str = ""
    requests: list[dict[str, Any]] = []
    responses: list[dict[str, Any]] = []
    answered: set[str] = set()
    failure: tuple[str, str, str | None] | None = None  # reason, code, details as JSON text
    is_open: bool = False
    file: str | None = None  # holds the output, which is too large for an event; see `State.files`

    def shown(self) -> dict[str, Any]:
        """The node as this API shows it; an open round shows the calls that still lack an answer."""
        requests = [item for item in self.requests if not self.is_open or item["call_id"] not in self.answered]
        reason, code, details = self.failure or (None, None, None)
        return {
            "node_name": self.name,
            "current_step_input": "",
            "full_output": self.output,
            "tool_call_requests": requests,
            "tool_call_responses": list(self.responses),
            "node_exit_tool_call_request": None,
            "failure_reason": reason,
            "failure_code": code,
            "failure_code_details": details,
        }


class State:
    """A run as its events tell it, up to the last one that was fed."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.version = 1  # of the agent, as it is declared where the run is looked at
        self.seq = 0
        self.ended: str | None = None
        self.end: dict[str, Any] = {}
        self.attempt = 1
        self.round: int | None = None
        self.tokens_in = 0
        self.tokens_out = 0
        self.nodes: list[Node] = []
        self.open_round: Node | None = None
        self.waiting: dict[str, dict[str, Any]] = {}
        self._kinds: dict[str, str] = {}
        self._asked: dict[str, Node] = {}

    def feed_lines(self, lines: Iterable[str]) -> None:
        """Take canonical lines; those that show nothing here are not even parsed."""
        for line in lines:
            if event_type(line) in _SHOWN:
                self.feed(decode_event(line))

    def feed(self, event: dict[str, Any]) -> None:
        """Take one event."""
        kind = event["type"]
        if kind in TERMINAL:
            self._on_end(event)
        elif kind == "interrupt":
            self._on_interrupt(event)
        elif kind == "interrupt_resolved":
            self._on_resolved(event)
        elif kind == "tool_result":
            self._on_result(event)
        elif kind == "restarted":
            self._on_restart(event)
        elif kind in _ENDED_STEPS:
            self._on_step(event)
        elif kind == "usage":
            self.tokens_in += int(event.get("input_tokens") or 0)
            self.tokens_out += int(event.get("output_tokens") or 0)

    @property
    def result(self) -> str | None:
        """The output of a completed run, as text."""
        return self.nodes[-1].output if self.ended == "completed" else None

    @property
    def status(self) -> str:
        """The word for where the run stands."""
        if self.ended is not None:
            return self.ended
        if self.open_round is not None:
            return "awaiting_tool_calls"
        is_new = self.run.status is Status.QUEUED and self.run.lease_epoch == 0
        return "pending" if is_new else "running"

    def _on_end(self, event: dict[str, Any]) -> None:
        self.seq, self.ended, self.end = event["sequence"], TERMINAL[event["type"]], event
        self._close_round()
        self.waiting = {}
        node = Node(self.run.agent, event["sequence"])
        if event["type"] == "complete":
            node.file = file_of(event.get("output"))
            node.output = text_of(event.get("output"))
        elif event["type"] == "error":
            node.failure = (text_of(event.get("error")), text_of(event.get("code")), details_text(event.get("details")))
        self.nodes.append(node)

    def _on_interrupt(self, event: dict[str, Any]) -> None:
        kind, interrupt_id = event["kind"], event["interrupt_id"]
        self._kinds[interrupt_id] = kind
        if kind == Kind.TIMER:
            return
        self.seq = event["sequence"]
        if kind != Kind.TOOL:
            fields = ("interrupt_id", "kind", "question", "choices", "expires_at")
            self.waiting[interrupt_id] = {name: event.get(name) for name in fields}
            return
        self.round = event.get("round")
        requests = [request_of(call) for call in event["tool_calls"]]
        node = Node(event.get("step") or self.run.agent, event["sequence"], requests=requests, is_open=True)
        for request in requests:
            self._asked[request["call_id"]] = node
        self.open_round = node

    def _on_resolved(self, event: dict[str, Any]) -> None:
        kind = self._kinds.get(event["interrupt_id"], event.get("kind"))
        if kind == Kind.TIMER:
            return
        self.seq = event["sequence"]
        if kind == Kind.TOOL:
            self._close_round()
        else:
            self.waiting.pop(event["interrupt_id"], None)

    def _on_result(self, event: dict[str, Any]) -> None:
        node = self._asked.get(event["tool_call_id"])
        if node is not None and event["tool_call_id"] not in node.answered:
            node.responses = [*node.responses, response_of(event)]
            node.answered = node.answered | {event["tool_call_id"]}

    def _on_restart(self, event: dict[str, Any]) -> None:
        self.seq, self.attempt = event["sequence"], event["attempt"]
        void = [tuple(pair) for pair in event.get("discard") or []]
        self.nodes = [node for node in self.nodes if not any(low <= node.sequence <= high for low, high in void)]

    def _on_step(self, event: dict[str, Any]) -> None:
        if event["type"] == "step_failed" and event.get("will_retry"):
            return
        output = event.get("output")
        node = Node(event["step"], event["sequence"], output=text_of(output), file=file_of(output))
        if event["type"] == "step_failed":
            node.failure = (text_of(event.get("error")), text_of(event.get("code")), details_text(event.get("details")))
        self.nodes.append(node)

    def _close_round(self) -> None:
        if self.open_round is not None:
            self.open_round.is_open = False
            self.nodes.append(self.open_round)
            self.open_round = None


def text_of(value: Any) -> str:
    """A value where text is due: text as it is, nothing as the empty text, all else as compact JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def file_of(value: Any) -> str | None:
    """The id of the file that stands for a value; None where the value itself is there."""
    if isinstance(value, dict) and value.keys() == {"file", "bytes", "sha256"} and isinstance(value["file"], str):
        return value["file"]
    return None


def details_text(details: Any) -> str | None:
    return text_of(details) if details else None


def request_of(call: dict[str, Any]) -> dict[str, Any]:
    """A call as a documented client finds it in a node."""
    namespace, _, name = call["tool"].rpartition(".")
    return {
        "id": call["tool_call_id"],
        "call_id": call["tool_call_id"],
        "type": "function_call",
        "name": name,
        "namespace": namespace,
        "arguments": text_of(call["input"]),
    }


def response_of(event: dict[str, Any]) -> dict[str, Any]:
    """An answer as a node shows it."""
    is_errored = "error" in event
    return {
        "call_id": event["tool_call_id"],
        "type": "function_call_output",
        "output": text_of(event.get("output")),
        "errored": is_errored,
        "error_message": event.get("message") if is_errored else None,
    }


def nodes_of(state: State) -> list[dict[str, Any]]:
    """The nodes in the order of the journal, an open round last."""
    nodes = [node.shown() for node in state.nodes]
    return nodes if state.open_round is None else [*nodes, state.open_round.shown()]


def short_nodes_of(state: State) -> tuple[list[dict[str, Any]], bool]:
    """The same, as short as statuses show them; and whether texts had to be left out."""
    nodes = nodes_of(state)
    return nodes, _truncate(nodes, keep_last=state.open_round is not None)


def _truncate(nodes: list[dict[str, Any]], *, keep_last: bool) -> bool:
    size = sum(map(_size, nodes))
    is_truncated = False
    for place, node in enumerate(nodes):
        if size <= TEXT_BYTES_MAX:
            break
        size -= _size(node)
        is_truncated = True
        node["full_output"] = ""
        node["tool_call_responses"] = [{**item, "output": ""} for item in node["tool_call_responses"]]
        if not (keep_last and place == len(nodes) - 1):
            node["tool_call_requests"] = [{**item, "arguments": "{}"} for item in node["tool_call_requests"]]
    return is_truncated


def _size(node: dict[str, Any]) -> int:
    return (
        len(node["full_output"].encode())
        + sum(len(item["output"].encode()) for item in node["tool_call_responses"])
        + sum(len(item["arguments"].encode()) for item in node["tool_call_requests"])
    )


def pending_calls(state: State, interrupts: Sequence[Interrupt], now: int) -> list[dict[str, Any]]:
    """The calls of the open round without an answer, with their deadlines and claims."""
    if state.open_round is None:
        return []
    parts = {part.tool_call_id: (item, part) for item in interrupts for part in item.parts}
    shown = []
    for request in state.open_round.shown()["tool_call_requests"]:
        interrupt, part = parts[request["call_id"]]
        shown.append(
            {
                **{name: request[name] for name in ("call_id", "name", "namespace", "arguments")},
                "asked_at": format_time(interrupt.created_at),
                "expires_at": None if part.expires_at is None else format_time(part.expires_at),
                "on_expiry": part.on_expiry,
                "claim": claim_of(part, now),
            }
        )
    return shown


def claim_of(part: Part, now: int) -> dict[str, Any] | None:
    """Who has the call for now; None: nobody."""
    if part.claim_worker is None or part.claim_until is None or part.claim_until <= now:
        return None
    return {"worker": part.claim_worker, "claim": part.claim_number, "lease_until": format_time(part.claim_until)}


def task_status(
    state: State, interrupts: Sequence[Interrupt], children: Sequence[dict[str, Any]], now: int
) -> dict[str, Any]:
    """The `task_status` of statuses and streams; for `children` see `child_of`."""
    run = state.run
    nodes, is_truncated = short_nodes_of(state)
    return {
        "completed": state.ended is not None,
        "status": state.status,
        "seq": state.seq,
        "task_info": {
            "task_id": run.number,
            "paused_for_tool_calls": state.status == "awaiting_tool_calls",
            "agent_node_execution_statuses": nodes,
            "run_id": run.run_id,
            "agent_id": run.agent_id,
            "agent_name": run.agent,
            "attempt": state.attempt,
            "round": state.round,
            "pending_tool_calls": pending_calls(state, interrupts, now),
            "waiting_for": list(state.waiting.values()),
            "children": list(children),
            "truncated": is_truncated,
        },
    }


def child_of(run: Run, interrupts: Sequence[Interrupt]) -> dict[str, Any]:
    """A run as the status of the one that started it shows it."""
    return {"task_id": run.number, "agent_id": run.agent_id, "status": status_word(run, interrupts)}


def status_word(run: Run, interrupts: Sequence[Interrupt]) -> str:
    """The word for where a run stands, from its row and its interrupts, without its events."""
    if run.status.is_final:
        return run.status.value
    if any(item.kind is Kind.TOOL and item.is_pending for item in interrupts):
        return "awaiting_tool_calls"
    return "pending" if run.status is Status.QUEUED and run.lease_epoch == 0 else "running"


def facts_of(run: Run) -> dict[str, Any]:
    """What this API keeps with a run; nothing for runs of other APIs."""
    facts = run.metadata.get("workflow")
    return facts if isinstance(facts, dict) else {}


def initial_inputs(run: Run) -> dict[str, Any]:
    """The inputs as they were given; those of another API as JSON text in the first slot."""
    given = facts_of(run).get("inputs")
    if given is not None:
        return {"strings": given.get("strings", {}), "images": given.get("images", {})}
    value = msgspec.json.decode(run.input)
    if facts_of(run) and isinstance(value, dict) and set(value) == {"strings", "images"}:
        return value
    return {"strings": {"1": text_of(value)}, "images": {}}


def row_of(state: State, *, with_nodes: bool = True) -> dict[str, Any]:
    """A run as one flat row, as of the last event that the state has."""
    run, facts, end = state.run, facts_of(state.run), state.end
    nodes = nodes_of(state) if with_nodes else []
    is_failed, is_cancelled = state.ended == "failed", state.ended == "cancelled"
    ended_at = end.get("timestamp")
    return {
        "task_id": run.number,
        "id": run.number,
        "run_id": run.run_id,
        "agent_id": run.agent_id,
        "workflow_id": run.agent_id,
        "agent_name": run.agent,
        "version": state.version,
        "environment": facts.get("environment", "production"),
        "status": state.status,
        "result": state.result,
        "seq": state.seq,
        "started_at": format_time(run.created_at),
        "completed_at": ended_at,
        "tokens_in": state.tokens_in,
        "tokens_out": state.tokens_out,
        "num_steps": len(state.nodes) + (state.open_round is not None),
        "metadata": facts.get("metadata", {}),
        "initial_inputs": initial_inputs(run),
        "parent_task_id": run.parent,
        "subgraph_task_id": None,
        "tenant_id": facts.get("tenant_id") or (run.tenant if run.tenant != "default" else None),
        "failure_code": end.get("code") if is_failed else None,
        "failure_reason": end.get("error") if is_failed else None,
        "failure_code_details": details_text(end.get("details")) if is_failed else None,
        "cancel_reason": end.get("reason") if is_cancelled else None,
        "grader_result": None,
        "execution_context": None,
        "timestamp": None,
        "executed_node_records": [],
        "prior_nodes_execution_records": nodes,
    }
