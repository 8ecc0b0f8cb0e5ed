"""The call by which workers of a caller agree who executes which tool call."""

from __future__ import annotations

from typing import Any, Final

from litestar import post

from holdfast.api.http.asgi import Answer
from holdfast.api.http.call import Call
from holdfast.api.http.idempotency import once
from holdfast.api.http.reply import Reply, json_reply
from holdfast.api.workflow.answering import check_asked
from holdfast.api.workflow.fields import read_strict, replayed_header, text
from holdfast.api.workflow.finding import find_run
from holdfast.api.workflow.refusals import WorkflowRefusal, invalid
from holdfast.model import Part, Run
from holdfast.model.encoding import format_time

CALLS_MAX: Final = 1000
LEASE_SECONDS: Final = 60
LEASE_SECONDS_MIN: Final = 5
LEASE_SECONDS_MAX: Final = 3600


@post("/api/agent/{agent:str}/{task:str}/tool_calls/claim", opt={"role": "executor"}, status_code=200)
async def claim(request: Call) -> Answer:
    """Claim calls for a worker, for some time. The claim is durable when this answers; it extends no deadline."""
    query = request.query()
    run = await find_run(request, agent=request.path_value("agent"))
    body = await request.json_body()
    found = read_strict(body, ("worker", "call_ids", "lease_seconds"))
    worker = text(found, "worker", least=1, most=255)
    if worker is None:
        raise invalid("worker", "the name of the worker, as a text")
    seconds = found.get("lease_seconds", LEASE_SECONDS)
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or (seconds != 0 and not LEASE_SECONDS_MIN <= seconds <= LEASE_SECONDS_MAX):
        raise invalid("lease_seconds", f"0, or from {LEASE_SECONDS_MIN} to {LEASE_SECONDS_MAX}")
    call_ids = _call_ids(found.get("call_ids"))
    reply = await once(request, query, body, lambda: _claim(request, run, worker, call_ids, seconds))
    return reply.with_headers(*replayed_header(reply))


def _call_ids(given: Any) -> list[str]:
    if given is None or given == []:
        raise WorkflowRefusal("no_tool_responses", "call_ids is empty; name a call")
    if not isinstance(given, list) or len(given) > CALLS_MAX or not all(isinstance(item, str) for item in given):
        raise invalid("call_ids", f"a list of up to {CALLS_MAX} ids of calls")
    if len(set(given)) != len(given):
        raise WorkflowRefusal("duplicate_call_ids_in_request", "a call_id stands twice in this request")
    return given


async def _claim(request: Call, run: Run, worker: str, call_ids: list[str], seconds: float) -> Reply:
    runs = request.runs
    await runs.expire_calls(run)
    check_asked(run, await runs.store.interrupts(run.number), call_ids)
    parts = await runs.claim_calls(request.caller, run, worker, call_ids, seconds=seconds)
    now = runs.worker.clock.now()
    claimed = [_claimed(part) for part in parts.values() if _is_of(part, worker)]
    refused = [_refused(part, now) for part in parts.values() if not _is_of(part, worker)]
    return json_reply({"claimed": claimed, "refused": refused})


def _is_of(part: Part, worker: str) -> bool:
    return part.answer is None and part.claim_worker == worker


def _claimed(part: Part) -> dict[str, Any]:
    return {
        "call_id": part.tool_call_id,
        "claim": part.claim_number,
        "lease_until": format_time(part.claim_until or 0),
    }


def _refused(part: Part, now: int) -> dict[str, Any]:
    if part.answer is not None:
        return {"call_id": part.tool_call_id, "reason": "answered"}
    seconds = max(((part.claim_until or now) - now) / 1_000_000, 0.0)
    return {"call_id": part.tool_call_id, "reason": "claimed", "retry_after": round(seconds, 1)}


HANDLERS: Final = (claim,)
