"""The calls that change a run from outside: cancelling it, and answering what it asks."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from litestar import delete, post

from holdfast.api.http.asgi import Answer
from holdfast.api.http.call import Call
from holdfast.api.http.idempotency import once
from holdfast.api.http.reply import Reply, json_reply
from holdfast.api.runtime.reading import run_headers
from holdfast.api.runtime.views import answer_view, receipt_view
from holdfast.errors import InvalidAnswer, InvalidRequest
from holdfast.model import Interrupt, Kind, Run
from holdfast.runs import ToolOutput

CANCEL_WAIT_SECONDS = 5.0
CANCEL_WAIT_SECONDS_MAX = 10
REASON_MAX = 1000


@delete("/runs/{run_id:str}", status_code=200, opt={"role": "executor"})
async def delete_run(request: Call) -> Answer:
    """Cancel a run; the reason is in the query."""
    query = request.query("reason", "wait")
    return await _cancel(request, query, None, query.get("reason", ""))


@post("/runs/{run_id:str}/cancel", opt={"role": "executor"})
async def cancel_run(request: Call) -> Answer:
    """Cancel a run; the reason is in the body, if there is one."""
    query = request.query("wait")
    body = await request.json_body() if request.has_body else {}
    check_members(body, ("reason",))
    reason = body.get("reason", "")
    if not isinstance(reason, str):
        raise InvalidRequest("reason is a text", field="reason")
    return await _cancel(request, query, body, reason)


async def _cancel(request: Call, query: Any, body: Any, reason: str) -> Reply:
    check_reason(reason)
    given = query.number("wait", least=0, most=CANCEL_WAIT_SECONDS_MAX)
    wait = CANCEL_WAIT_SECONDS if given is None else given

    async def work() -> Reply:
        run = await request.runs.cancel(request.caller, request.path_value("run_id"), reason=reason, wait=wait)
        return json_reply(receipt_view(run), 200 if run.status.is_final else 202, run_headers(run))

    return _about_run(request, await once(request, query, body, work))


def check_reason(reason: str) -> None:
    """
    Raises:
        InvalidRequest: it is too long.
    """
    if len(reason) > REASON_MAX:
        raise InvalidRequest(f"reason is at most {REASON_MAX} characters", field="reason")


@post("/runs/{run_id:str}/interrupts/{interrupt_id:str}", opt={"role": "executor"})
async def answer_interrupt(request: Call) -> Answer:
    """Answer an interrupt. The first answer wins; the same one again is a success."""
    query = request.query()
    body = await request.json_body(request.services.settings.body_bytes_max)
    check_members(body, ("answer",))
    if "answer" not in body:
        raise InvalidRequest("the body needs the member answer", field="answer")

    async def work() -> Reply:
        run = await request.runs.get(request.caller, request.path_value("run_id"))
        reply = await give_answer(request, run, request.path_value("interrupt_id"), body["answer"])
        return json_reply(reply, headers=run_headers(run))

    return _about_run(request, await once(request, query, body, work))


async def give_answer(request: Call, run: Run, interrupt_id: str, answer: Any) -> dict[str, Any]:
    """Answer an interrupt as this API takes answers; what it tells of that comes back."""
    known = {item.interrupt_id: item for item in await request.runs.interrupts(request.caller, run.run_id)}
    if interrupt_id in known and known[interrupt_id].kind is Kind.TOOL:
        answer = _tool_outputs(answer, known[interrupt_id])
    interrupt = await request.runs.answer(request.caller, run.run_id, answer, interrupt_id=interrupt_id)
    return {
        "interrupt_id": interrupt.interrupt_id,
        "status": interrupt.status,
        "answer": answer_view(interrupt),
        "by": interrupt.parts[-1].by,
        "sequence": interrupt.resolved_sequence,
    }


def _tool_outputs(answer: Any, interrupt: Interrupt) -> list[ToolOutput]:
    """The answer to tool calls: for each its output, any JSON, or an error. None that is still open is left out."""
    if not isinstance(answer, list):
        raise InvalidAnswer("the answer to tool calls is a list with an output or an error for each call")
    outputs = []
    for item in answer:
        members = set(item) if isinstance(item, dict) else set()
        if not isinstance(item, dict) or not isinstance(item.get("tool_call_id"), str):
            raise InvalidAnswer("each tool call is answered by an object with its tool_call_id")
        if members == {"tool_call_id", "output"}:
            outputs.append(ToolOutput(item["tool_call_id"], _as_text(item["output"])))
        elif members == {"tool_call_id", "error"} and isinstance(item["error"], str):
            outputs.append(ToolOutput(item["tool_call_id"], "", errored=True, error_message=item["error"]))
        else:
            raise InvalidAnswer("each tool call is answered by its tool_call_id and either output or error, a text")
    given = {item.tool_call_id for item in outputs}
    for part in interrupt.parts:
        if part.answer is None and part.tool_call_id not in given:
            raise InvalidAnswer(f"the call {part.tool_call_id} has no answer; answer all calls at once")
    return outputs


def _as_text(output: Any) -> str:
    return output if isinstance(output, str) else msgspec.json.encode(output).decode()


def _about_run(request: Call, reply: Reply) -> Reply:
    """The reply with its run's id; one that is told again comes without it."""
    if any(name == b"x-run-id" for name, _ in reply.headers):
        return reply
    return reply.with_headers((b"x-run-id", request.path_value("run_id").encode()))


def check_members(body: Any, known: tuple[str, ...]) -> None:
    """Let an object with none but these members pass, or refuse it."""
    if not isinstance(body, dict):
        raise InvalidRequest("the body is a JSON object")
    for name in body:
        if name not in known:
            raise InvalidRequest(f"unknown member {name[:64]!r}; known: {', '.join(known)}", field=name)


HANDLERS: Final = (delete_run, cancel_run, answer_interrupt)
