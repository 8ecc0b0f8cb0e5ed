"""The calls about runs: read, listed, followed, cancelled, approved and denied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from litestar import get, post

from holdfast.api.http.asgi import Answer
from holdfast.api.http.call import Call
from holdfast.api.http.errors import InvalidQuery
from holdfast.api.http.idempotency import once
from holdfast.api.http.reply import Reply, json_reply
from holdfast.api.runtime.position import find_position, read_cursor
from holdfast.api.skills.bodies import known_fields, read_body, take_trace, text_field, trace_id
from holdfast.api.skills.catalog import pagination
from holdfast.api.skills.finding import asked_of, find_run, open_questions
from holdfast.api.skills.following import run_stream
from holdfast.api.skills.library import version_of
from holdfast.api.skills.outcome import STATUSES, record_of, status_of
from holdfast.api.skills.refusals import SkillsRefusal, wrong
from holdfast.api.skills.runs import CAPABILITY, SKILL
from holdfast.errors import InterruptNotFound, RunFinished
from holdfast.model import Interrupt, Kind, Run, Status
from holdfast.store.base import RunQuery

_UNDER_WAY: Final = (Status.QUEUED, Status.RUNNING)
# Of each status: those of the kernel, and whether a person is asked.
_FILTERS: Final[dict[str, tuple[tuple[Status, ...], bool | None]]] = {
    "running": (_UNDER_WAY, None),
    "waiting_for_human": ((Status.WAITING,), True),
    "waiting_for_signal": ((Status.WAITING,), False),
    "completed": ((Status.COMPLETED,), None),
    "failed": ((Status.FAILED, Status.CANCELLED), None),
}
_TEXT_MAX: Final = 4096
_OFFSET_MAX: Final = 2**53 - 1


@get("/v1/runs")
async def list_runs(request: Call) -> Answer:
    """The runs of skills and capabilities, newest first, page by page."""
    query = request.query("status", "skill_id", "offset", "limit")
    offset = query.integer("offset", 0, least=0, most=_OFFSET_MAX)
    limit = query.integer("limit", 100, least=1, most=1000)
    status = query.get("status")
    if status is not None and status not in _FILTERS:
        raise InvalidQuery(f"status is one of {', '.join(STATUSES)}", field="status")
    statuses, asks_person = _FILTERS[status] if status is not None else ((), None)
    wanted = RunQuery(
        tenant=request.caller.tenant,
        agent=_agent_of(query.get("skill_id")),
        agent_prefixes=(SKILL, CAPABILITY),
        caller=None if request.caller.has("operator") else request.caller.name,
        statuses=statuses,
        asks_person=asks_person,
        offset=offset,
        limit=limit,
    )
    total = sum((await request.runs.store.count_runs(wanted)).values())
    records = [await _record(request, run) for run in await request.runs.list(wanted)]
    return json_reply({"runs": records, "pagination": pagination(offset, limit, total), "trace_id": trace_id(request)})


def _agent_of(skill_id: str | None) -> str | None:
    if skill_id is None or skill_id.startswith(CAPABILITY):
        return skill_id
    return f"{SKILL}{skill_id}"


async def _record(request: Call, run: Run) -> dict[str, Any]:
    return record_of(run, await asked_of(request, run), version_of(request, run))


@get("/v1/runs/{run_id:str}")
async def show_run(request: Call) -> Answer:
    """The record of a run."""
    request.query()
    return json_reply(await _record(request, await find_run(request)))


@get("/v1/runs/{run_id:str}/stream")
async def stream_run(request: Call) -> Answer:
    """A run's frames from a place on: stored ones, then live ones, up to `done`."""
    query = request.query("from_sequence")
    from_sequence = read_cursor(query.get("from_sequence"), "from_sequence")
    last_event_id = read_cursor((request.header(b"last-event-id") or b"").decode("latin-1"), "Last-Event-ID")
    run = await find_run(request)
    position = find_position(run, from_sequence, last_event_id)
    if position.is_done:
        return Reply(204)
    return await run_stream(request, run, position, is_post=False)


@post("/v1/runs/{run_id:str}/cancel", opt={"role": "executor"}, status_code=200)
async def cancel_run(request: Call) -> Answer:
    """Cancel a run; its record comes back once that is final, or after 5 s."""
    query, body = request.query(), await read_body(request)
    found = known_fields(request, body, ("reason", "trace_id"))
    take_trace(request, found.get("trace_id"))
    reason = text_field(found, "reason", least=0, most=_TEXT_MAX) or ""
    run = await find_run(request)

    async def work() -> Reply:
        after = await request.runs.cancel(request.caller, run.run_id, reason=reason)
        return json_reply(await _record(request, after))

    return await once(request, query, body, work)


@post("/v1/runs/{run_id:str}/approve", opt={"role": "operator"}, status_code=200)
async def approve_run(request: Call) -> Answer:
    """Approve what a run asks; it goes on."""
    return await _decide(request, is_approved=True)


@post("/v1/runs/{run_id:str}/deny", opt={"role": "operator"}, status_code=200)
async def deny_run(request: Call) -> Answer:
    """Deny what a run asks; the step fails."""
    return await _decide(request, is_approved=False)


async def _decide(request: Call, *, is_approved: bool) -> Reply:
    query, body = request.query(), await read_body(request)
    found = known_fields(request, body, ("interrupt_id", "approver", "notes", "output", "trace_id"))
    take_trace(request, found.get("trace_id"))
    interrupt_id = text_field(found, "interrupt_id", most=200)
    approver, notes = text_field(found, "approver", most=200), text_field(found, "notes", least=0, most=_TEXT_MAX)
    run = await find_run(request)
    interrupt = _approval(run, await request.runs.store.interrupts(run.number), interrupt_id)
    answer: dict[str, Any] = {"approved": is_approved, "note": _note(approver, notes)}
    if "output" in body:
        if interrupt.reason != "outcome_unknown" or not is_approved:
            raise wrong("output", "only with the approval of a call whose outcome is unknown")
        answer["output"] = body["output"]

    async def work() -> Reply:
        try:
            await request.runs.answer(request.caller, run.run_id, answer, interrupt_id=interrupt.interrupt_id)
        except RunFinished:
            raise _not_waiting(run) from None
        after = await request.runs.get(request.caller, run.run_id)
        return json_reply(
            {
                "run_id": run.run_id,
                "interrupt_id": interrupt.interrupt_id,
                "answer": "approve" if is_approved else "deny",
                "approver": approver or request.caller.name,
                "status": status_of(after, await asked_of(request, after)),
                "trace_id": trace_id(request),
            }
        )

    return await once(request, query, body, work)


def _note(approver: str | None, notes: str | None) -> str | None:
    """What the journal keeps of who decided and why, beside the name of the key."""
    return f"{approver}: {notes or ''}".rstrip(": ") if approver else notes


def _approval(run: Run, interrupts: Sequence[Interrupt], interrupt_id: str | None) -> Interrupt:
    """
    The approval that is meant: the one that is named or that waits; where none waits, the last one that was decided.

    Raises:
        InterruptNotFound, SkillsRefusal
    """
    approvals = [item for item in interrupts if item.kind is Kind.APPROVAL]
    if interrupt_id is not None:
        for item in approvals:
            if item.interrupt_id == interrupt_id:
                return item
        raise InterruptNotFound(f"run {run.run_id} has no approval {interrupt_id!r}", interrupt_id=interrupt_id)
    pending = open_questions(approvals)
    if len(pending) > 1:
        ids = [item.interrupt_id for item in pending]
        message = f"Run {run.run_id} waits for {len(ids)} approvals: name one by its interrupt_id."
        raise SkillsRefusal("interrupt_ambiguous", message, interrupt_ids=ids)
    if pending:
        return pending[0]
    decided = [item for item in approvals if not item.is_reused]
    if not decided:
        raise _not_waiting(run)
    return max(decided, key=lambda item: item.resolved_at or 0)


def _not_waiting(run: Run) -> SkillsRefusal:
    return SkillsRefusal("not_waiting", f"Run {run.run_id} waits for no approval; it is {run.status.value}.")


HANDLERS: Final = (list_runs, show_run, stream_run, cancel_run, approve_run, deny_run)
