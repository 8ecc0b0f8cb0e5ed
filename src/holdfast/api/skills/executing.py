"""The calls that execute a skill: one that waits, one that streams, one that answers at once."""

from __future__ import annotations

from typing import Any, Final

from litestar import post

from holdfast.api.http.asgi import Answer
from holdfast.api.http.call import Call
from holdfast.api.http.reply import json_reply
from holdfast.api.runtime.position import find_position, read_cursor
from holdfast.api.skills.bodies import read_body
from holdfast.api.skills.following import run_stream
from holdfast.api.skills.library import definition_of, may_be_legacy
from holdfast.api.skills.runs import SKILL
from holdfast.api.skills.starting import accepted, answer_reply, answered, start_request, start_run
from holdfast.api.skills.wishes import Wish, read_wish
from holdfast.store.base import Started


@post("/v1/skills/{id:str}/execute", opt={"role": "executor"}, status_code=200)
async def execute(request: Call) -> Answer:
    """Execute a skill and answer with its outputs, or with what it waits for."""
    may_be_legacy(request)
    started, wish = await _start(request, "http")
    return answer_reply(*await answered(request, started.run, wish))


@post("/v1/skills/{id:str}/execute/stream", opt={"role": "executor"}, status_code=200)
async def execute_stream(request: Call) -> Answer:
    """Execute a skill and stream its frames, up to `done`."""
    cursor = read_cursor((request.header(b"last-event-id") or b"").decode("latin-1"), "Last-Event-ID")
    started, _ = await _start(request, "http-stream")
    position = find_position(started.run, None, cursor if started.replayed else None)
    return await run_stream(request, started.run, position, is_post=True)


@post("/v1/skills/{id:str}/execute/async", opt={"role": "executor"}, status_code=202)
async def execute_async(request: Call) -> Answer:
    """Start to execute a skill; the run is on disk when this answers."""
    started, _ = await _start(request, "http-async")
    return json_reply(accepted(started.run), 202)


async def _start(request: Call, channel: str) -> tuple[Started, Wish]:
    body: dict[str, Any] = await read_body(request)
    wish, _ = read_wish(request, body)
    definition = definition_of(request, f"{SKILL}{request.path_value('id')}")
    start = start_request(request, wish, definition, channel=channel, body=body)
    return await start_run(request, start), wish


HANDLERS: Final = (execute, execute_stream, execute_async)
