"""The calls by which callers answer tool calls, and cancel runs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import Any, Final

from litestar import post

from holdfast.api.http.asgi import Answer
from holdfast.api.http.call import Call
from holdfast.api.http.idempotency import once
from holdfast.api.http.reply import Reply, json_reply
from holdfast.api.workflow.fields import ignored_header, read_object, replayed_header, text
from holdfast.api.workflow.finding import find_run, fold
from holdfast.api.workflow.refusals import WorkflowRefusal, invalid
from holdfast.errors import RunFinished
from holdfast.model import Interrupt, Kind, Part, Run
from holdfast.runs import GivenOutput, ToolOutput

BODY_BYTES_MAX: Final = 8 * 1024 * 1024
OUTPUT_BYTES_MAX: Final = 256 * 1024
MESSAGE_BYTES_MAX: Final = 4 * 1024
RESULTS_MAX: Final = 1000


@post("/api/agent/{agent:str}/{task:str}/tool_responses", opt={"role": "executor"}, status_code=200)
async def tool_responses(request: Call) -> Answer:
    """Answer calls of a run: any pending ones, in any order. What is accepted is durable when this answers."""
    query = request.query()
    run = await find_run(request, agent=request.path_value("agent"))
    body = await request.json_body(BODY_BYTES_MAX)
    found, unknown = read_object(body, ("results",))
    given = read_results(found.get("results"))
    reply = await once(request, query, body, lambda: _answer(request, run, given))
    return reply.with_headers(*replayed_header(reply), *ignored_header(unknown))


def read_results(results: Any) -> list[tuple[ToolOutput, int | None]]:
    """
    The results of a post, checked but for the calls that they name; with the number of the claim each was made under.

    Raises:
        WorkflowRefusal
    """
    if results is None or results == []:
        raise WorkflowRefusal("no_tool_responses", "results is empty; post an output for each call")
    if not isinstance(results, list) or len(results) > RESULTS_MAX:
        raise invalid("results", f"a list of up to {RESULTS_MAX} results")
    read = [_result(item, place) for place, item in enumerate(results)]
    ids = [output.tool_call_id for output, _ in read]
    if len(set(ids)) != len(ids):
        raise WorkflowRefusal("duplicate_call_ids_in_request", "a call_id stands twice in this request")
    return read


def _result(item: Any, place: int) -> tuple[ToolOutput, int | None]:
    loc = f"results[{place}]"
    fields = ("call_id", "type", "output", "errored", "error_message", "claim")
    found, _ = read_object(item, fields, loc)
    call_id = found.get("call_id")
    if not isinstance(call_id, str):
        raise invalid(f"{loc}.call_id", "the id of a call, as a text")
    errored, message, claim = found.get("errored", False), found.get("error_message"), found.get("claim")
    if not isinstance(errored, bool):
        raise invalid(f"{loc}.errored", "true or false")
    if message is not None and not isinstance(message, str):
        raise invalid(f"{loc}.error_message", "a text")
    if claim is not None and (not isinstance(claim, int) or isinstance(claim, bool) or claim < 1):
        raise invalid(f"{loc}.claim", "the number of a claim")
    output = output_text(found.get("output"))
    for text_given, most in ((output, OUTPUT_BYTES_MAX), (message or "", MESSAGE_BYTES_MAX)):
        if len(text_given.encode()) > most:
            raise WorkflowRefusal("tool_output_too_large", f"{loc}: over {most} bytes", status=413, limit=most)
    return ToolOutput(call_id, output, errored, message), claim


def output_text(output: Any) -> str:
    """An output as it is kept: text to the byte, null as the empty text, other JSON as compact text."""
    if isinstance(output, str):
        return output
    return "" if output is None else json.dumps(output, ensure_ascii=False, separators=(",", ":"))


async def _answer(request: Call, run: Run, given: list[tuple[ToolOutput, int | None]]) -> Reply:
    runs = request.runs
    await runs.expire_calls(run)
    interrupts = await runs.store.interrupts(run.number)
    check_asked(run, interrupts, [output.tool_call_id for output, _ in given])
    outputs = [GivenOutput(output, claim) for output, claim in given]
    results = await runs.answer_calls(request.caller, run, outputs)
    shown = [
        {"call_id": item.call_id, "state": item.state} | ({"reason": item.reason} if item.reason else {})
        for item in results
    ]
    states = {item.state for item in results}
    if "accepted" not in states and states != {"repeated"}:
        is_answered = any(item.reason == "answered" for item in results)
        code = "tool_responses_already_submitted" if is_answered else "claim_lost"
        raise WorkflowRefusal(code, "nothing of this was stored: others were first", status=409, results=shown)
    round_, pending = _round_of(await runs.store.interrupts(run.number), given[0][0].tool_call_id)
    stored = sum(item.state == "accepted" for item in results)
    body = {
        "status": "accepted",
        "message": f"{stored} stored, {len(pending)} pending",
        "task_id": run.number,
        "round": round_,
        "round_complete": not pending,
        "pending": pending,
        "results": shown,
    }
    return json_reply(body)


def check_asked(run: Run, interrupts: Sequence[Interrupt], ids: Sequence[str]) -> None:
    """
    Make sure that the calls were asked, and that there is a round whose calls can be answered, if any of them still can.

    Raises:
        WorkflowRefusal
    """
    asked: dict[str, Part] = {}
    is_open = False
    for interrupt in interrupts:
        if interrupt.kind is Kind.TOOL:
            is_open = is_open or (interrupt.is_pending and not run.status.is_final)
            asked.update({part.tool_call_id: part for part in interrupt.parts})
    without = [call_id for call_id in ids if call_id not in asked or asked[call_id].answer is None]
    if without and not is_open:
        raise WorkflowRefusal("run_not_awaiting_tools", f"run {run.number} waits for no tool call", status=409)
    unknown = [call_id for call_id in ids if call_id not in asked]
    if unknown:
        raise WorkflowRefusal("tool_call_ids_mismatch", "the run never asked for these calls", call_ids=unknown)


def _round_of(interrupts: list[Interrupt], call_id: str) -> tuple[int | None, list[str]]:
    for interrupt in interrupts:
        if any(part.tool_call_id == call_id for part in interrupt.parts):
            pending = [part.tool_call_id for part in interrupt.parts if part.answer is None]
            return interrupt.round, pending if interrupt.is_pending else []
    return None, []


@post("/api/workflow/runs/{task:str}/schedule-cancel", opt={"role": "executor"}, status_code=200)
async def schedule_cancel(request: Call) -> Answer:
    """Cancel a run and its children; one that is over stays as it is."""
    query = request.query()
    run = await find_run(request)
    body = await request.json_body() if request.has_body else {}
    found, unknown = read_object(body, ("reason",))
    reason = text(found, "reason", most=1000, default="") or ""
    reply = await once(request, query, body, lambda: _cancel(request, run, reason))
    return reply.with_headers(*replayed_header(reply), *ignored_header(unknown))


async def _cancel(request: Call, run: Run, reason: str) -> Reply:
    with contextlib.suppress(RunFinished):  # it keeps the status that it has
        await request.runs.cancel(request.caller, run.run_id, reason=reason)
    state = await fold(request.runs, await request.runs.get(request.caller, run.run_id))
    return json_reply({"success": True, "status": state.status})


HANDLERS: Final = (tool_responses, schedule_cancel)
