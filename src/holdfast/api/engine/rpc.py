"""
`POST /rpc`: a tool, a prompt skill or the memory, called without a conversation.

Tools and skills are called in a run of their own, by which they can be found later. Nobody is asked about them: what
would be asked is 403 before anything has happened.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NoReturn

from litestar import post

from holdfast.agents.catalog.calling import NAME
from holdfast.agents.prompt_skill import SKILL
from holdfast.api.engine import fields
from holdfast.api.engine.fields import Check, read_object, refuse, require
from holdfast.api.engine.memory import QUERY_MAX, SEARCH_DEFAULT, SEARCH_MAX, whole
from holdfast.api.engine.memory_fields import written_item
from holdfast.api.engine.refusals import ToolTimedOut
from holdfast.api.http import asgi
from holdfast.api.http.call import Call
from holdfast.api.http.idempotency import once
from holdfast.api.http.reply import Reply, json_reply
from holdfast.errors import (
    AgentFailed,
    ContextOverflow,
    Forbidden,
    HoldfastError,
    InvalidRequest,
    McpConnectionFailed,
    McpTokenExpired,
    MemoryItemNotFound,
    MethodNotFound,
    ModelFailed,
    ModelRateLimited,
    ModelTimedOut,
    NotConfigured,
    RunFinished,
    Stopping,
)
from holdfast.execution.codec import decode_result
from holdfast.memory import STORES, shown_item
from holdfast.model import Run, Status
from holdfast.runs import StartRequest

METHOD_MAX: Final = 255
CALL_SECONDS: Final = 120.0
# The run ends by itself; this is for one that did not even begin.
GRACE_SECONDS: Final = 5.0


def _params(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        refuse(path, "must be an object")
    return value


_BODY: Final[Mapping[str, Check]] = {"method": fields.text(1, METHOD_MAX), "params": _params}


@post("/rpc", opt={"role": "executor"}, status_code=200)
async def rpc(request: Call) -> asgi.Answer:
    """Call a tool, a prompt skill or the memory."""
    query, body = request.query(), await request.json_body()
    found = read_object(body, _BODY)
    require(found, "method")
    method, params = found["method"], found.get("params", {})
    remembered = _MEMORY.get(method)
    prepared = _calling(request, method, params) if remembered is None else remembered(request, params)

    async def work() -> Reply:
        return json_reply({"result": await prepared()})

    return await once(request, query, body, work, is_outside=True)


Work = Callable[[], Awaitable[Any]]


# The memory


def _search(request: Call, params: dict[str, Any]) -> Work:
    checks = {"store": fields.one_of(STORES), "query": fields.text(1, QUERY_MAX), "limit": whole(1, SEARCH_MAX)}
    found = read_object(params, checks, "params")
    require(found, "store", "query", path="params")
    memory = request.runs.memory

    async def work() -> Any:
        limit = found.get("limit", SEARCH_DEFAULT)
        hits = await memory.search(request.caller.tenant, found["store"], found["query"], limit=limit)
        now = memory.now()
        return [shown_item(hit.item, now, score=hit.score) for hit in hits]

    return work


def _write(request: Call, params: dict[str, Any]) -> Work:
    store = fields.one_of(STORES)(params.get("store", ""), "params.store")
    memory, caller = request.runs.memory, request.caller
    item = {name: value for name, value in params.items() if name != "store"}
    draft = written_item(store, item, memory.now(), "params")

    async def work() -> Any:
        (written,) = await memory.write(caller.tenant, draft, source=f"api:{caller.name}")
        return shown_item(await memory.read(caller.tenant, store, written.item.item_id), memory.now())

    return work


def _delete(request: Call, params: dict[str, Any]) -> Work:
    request.caller.require("operator")
    found = read_object(params, {"store": fields.one_of(STORES), "id": fields.task_id}, "params")
    require(found, "store", "id", path="params")

    async def work() -> Any:
        await request.runs.memory.forget(request.caller.tenant, found["store"], found["id"])
        return {"status": "deleted", "id": found["id"]}

    return work


def _soul(request: Call, params: dict[str, Any]) -> Work:
    read_object(params, {}, "params")

    async def work() -> Any:
        return dict((await request.runs.memory.soul(request.caller.tenant)).body)

    return work


_MEMORY: Final[Mapping[str, Callable[[Call, dict[str, Any]], Work]]] = {
    "memory.search": _search,
    "memory.write": _write,
    "memory.delete": _delete,
    "memory.soul": _soul,
}


# Tools and skills


async def _check(request: Call, method: str, params: dict[str, Any]) -> None:
    calling = request.services.calling
    if calling is None:
        raise MethodNotFound(f"there is no method {method!r}: this server has no assistant", method=method)
    if request.services.shutdown.is_set:
        raise Stopping("the server is stopping; try again", retry_after=1)
    await calling.check(request.caller.tenant, method, params)


def _calling(request: Call, method: str, params: dict[str, Any]) -> Work:
    runs, caller = request.runs, request.caller

    async def work() -> Any:
        await _check(request, method, params)
        start = StartRequest(agent=NAME, input={"method": method, "params": params}, timeout_seconds=CALL_SECONDS)
        started = await runs.start(caller, start)
        run = await runs.wait(caller, started.run.run_id, timeout=CALL_SECONDS + GRACE_SECONDS, until_waiting=False)
        if not run.status.is_final:
            try:
                run = await runs.cancel(caller, run.run_id, wait=0)
            except RunFinished:
                run = await runs.get(caller, run.run_id)
        return _result(run, method)

    return work


def _result(run: Run, method: str) -> Any:
    """What the run gave, or the error that says why it gave nothing."""
    if run.status is Status.COMPLETED:
        output = decode_result(run.output or b"null")
        if "error" in output:
            _fail(output["error"], output["message"], {}, method)
        return output["output"]
    error = run.error
    if error is None:
        _fail("timeout_error", f"it took more than {CALL_SECONDS:g} s", {}, method)
    if error.code == AgentFailed.code:
        raise RuntimeError(f"run {run.run_id} failed: {error.message}")  # a defect of ours: 500, and it is in the log
    return _fail(error.code, error.message, error.details, method)


# Codes of failures, and what they are as an answer.
_AS_THEY_ARE: Final[Mapping[str, type[HoldfastError]]] = {
    kind.code: kind
    for kind in (
        ModelFailed,
        ModelRateLimited,
        ModelTimedOut,
        ContextOverflow,
        McpConnectionFailed,
        McpTokenExpired,
        MemoryItemNotFound,
    )
}
_TIMEOUTS: Final = ("timeout_error", "tool_timeout")
_FORBIDDEN: Final = ("permission_denied", "outside_roots", "address_refused")
_NOT_CONFIGURED: Final[Mapping[str, str]] = {
    "sandbox_unavailable": "HOLDFAST_UNSANDBOXED_SHELL",
    "not_configured": "HOLDFAST_SEARCH_URL",
}


def _fail(code: str, message: str, details: Mapping[str, Any], method: str) -> NoReturn:
    if code in _AS_THEY_ARE:
        raise _AS_THEY_ARE[code](message)
    if code in _TIMEOUTS:
        raise ModelTimedOut(message) if method.startswith(SKILL) else ToolTimedOut(message)
    if code in _FORBIDDEN:
        raise Forbidden(message, rule=details.get("rule", code))
    if code in _NOT_CONFIGURED:
        raise NotConfigured(message, setting=_NOT_CONFIGURED[code])
    if code in ("cancelled", "interrupted"):
        raise Stopping("the call was cut off by a stop of the server; its outcome is unknown", retry_after=1)
    raise InvalidRequest(f"params: {code}: {message}", field="params", code=code)


HANDLERS: Final = (rpc,)
