"""The calls that start runs, and the one that uploads files for them."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from litestar import post

from holdfast.api.http.asgi import Answer
from holdfast.api.http.call import Call
from holdfast.api.http.idempotency import REPLAYED, idempotency_row, once
from holdfast.api.http.reply import Reply, json_reply
from holdfast.api.http.run_webhook import start_run
from holdfast.api.http.strict_json import read_json
from holdfast.api.workflow import files
from holdfast.api.workflow.fields import ignored_header, read_object, replayed_header, text
from holdfast.api.workflow.finding import find_agent
from holdfast.api.workflow.inputs import input_of, message_of, read_inputs
from holdfast.api.workflow.refusals import invalid
from holdfast.api.workflow.registry import check_unambiguous, tool_names
from holdfast.api.workflow.rows import initial_inputs
from holdfast.api.workflow.wishes import wish_of
from holdfast.errors import Forbidden
from holdfast.execution.program import Program
from holdfast.model import DEFAULT_TENANT
from holdfast.runs import WEBHOOK_ENDPOINT, StartRequest

BODY_BYTES_MAX: Final = 16 * 1024 * 1024
METADATA_BYTES_MAX: Final = 16 * 1024
ENVIRONMENTS: Final = ("playground", "test", "production")
_FIELDS: Final = ("inputs", "environment", "metadata", "thread_id", "webhook_url", "webhook_events", "webhook_secret")
# Of a multipart form, the parts that hold JSON.
_JSON_PARTS: Final = ("inputs", "metadata", "webhook_events")
_TENANT: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}\Z")
# Sent under both names: the server's own, and that of this API's specification.
REPLAYED_TOO: Final = (REPLAYED, (b"idempotent-replayed", b"true"))


@post("/api/workflow/execute/{agent:str}", opt={"role": "executor"}, status_code=200)
async def execute(request: Call) -> Answer:
    """Start a run of an agent; it is on disk when this answers."""
    query, program = request.query(), find_agent(request.runs, request.path_value("agent"))
    request.runs.check_rate(request.caller)
    request.exchange.agent = program.name
    body = await request.json_body(BODY_BYTES_MAX)
    found, unknown = read_object(body, _FIELDS)
    return await _start(request, program, found, unknown, query, body)


@post("/api/workflow/execute/{agent:str}/with-files", opt={"role": "executor"}, status_code=200)
async def execute_with_files(request: Call) -> Answer:
    """Start a run with files, as a multipart form: they fill the slots 1 and 2."""
    query, program = request.query(), find_agent(request.runs, request.path_value("agent"))
    request.runs.check_rate(request.caller)
    request.exchange.agent = program.name
    form = await files.read_form(request)
    body: dict[str, Any] = {}
    for name, given in form.texts.items():
        body[name] = read_json(given.encode()) if name in _JSON_PARTS else given
    found, unknown = read_object(body, _FIELDS)
    inputs, _ = read_object(found.get("inputs", {}), ("strings", "images"), "inputs")
    strings = inputs.get("strings", {})
    if not isinstance(strings, dict):
        raise invalid("inputs.strings", "an object of slots")
    facts_of_start(request, found, [])  # nothing is kept of a call that is refused
    for slot, name in enumerate(files.FORM_FILES, 1):
        if name in form.files:
            reference = await files.keep(request.runs, request.caller.tenant, form.files[name])
            strings = {**strings, str(slot): reference}
    found["inputs"] = {**inputs, "strings": strings}
    return await _start(request, program, found, unknown, query, form.compared())


@post("/api/workflow/upload-run-input", opt={"role": "executor"}, status_code=200)
async def upload_run_input(request: Call) -> Answer:
    """Keep one or two files for 24 hours; a run whose slot holds a reference keeps the file from then on."""
    query = request.query()
    tenant_label(request)
    form = await files.read_form(request)
    given = [(slot, form.files[name]) for slot, name in enumerate(files.FORM_FILES, 1) if name in form.files]
    if not given:
        raise invalid("file_1", "a file")
    reply = await once(request, query, form.compared(), lambda: _upload(request, given))
    return reply.with_headers(*replayed_header(reply))


async def _upload(request: Call, given: list[tuple[int, files.Upload]]) -> Reply:
    tenant = request.caller.tenant
    references = {str(slot): await files.keep(request.runs, tenant, upload) for slot, upload in given}
    if len(references) == 1:
        return json_reply({"reference": next(iter(references.values()))})
    return json_reply({"references": references})


async def _start(
    request: Call, program: Program, found: dict[str, Any], unknown: list[str], query: Any, compared: Any
) -> Reply:
    runs, tenant = request.runs, request.caller.tenant
    wish = wish_of(found)
    inputs = read_inputs(found.get("inputs", {}))
    facts = facts_of_start(request, found, await tool_names(runs, tenant, program))
    check_unambiguous(program, (await runs.worker.client_tools.of(tenant)).values())
    references = files.references_of(inputs)
    await files.check_references(runs, tenant, references)
    images = {
        slot: value if value in references else files.image(value, f"inputs.images.{slot}")
        for slot, value in inputs["images"].items()
    }
    for slot, image in images.items():
        if isinstance(image, files.Upload):
            inputs["images"][slot] = await files.keep(runs, tenant, image)
    row = idempotency_row(request, query, compared)
    start = StartRequest(
        agent=program.name,
        input=await input_of(runs, tenant, program, inputs),
        thread_id=text(found, "thread_id", least=1, most=255),
        message=message_of(inputs) if "thread_id" in found else None,
        metadata={"workflow": {**facts, "inputs": inputs}},
        idempotency=None if row is None else msgspec.structs.replace(row, expires_at=None),
    )
    started = await start_run(request, start, wish)
    kept = files.references_of(initial_inputs(started.run))
    if kept:
        await runs.store.attach_files(tenant, kept, started.run.number)
    reply = started_reply(started.run.number, started.run.run_id, started.run.agent_id, started.run.metadata)
    return reply.with_headers(*(REPLAYED_TOO if started.replayed else ()), *ignored_header(unknown))


def started_reply(number: int, run_id: str, agent_id: str, metadata: dict[str, Any]) -> Reply:
    """The answer to a start, made from what is kept of it, so that a repeat gets the same bytes."""
    body = {
        "task_id": number,
        "status": "started",
        "run_id": run_id,
        "agent_id": agent_id,
        "client_tools": metadata["workflow"]["client_tools"],
        "webhook_endpoint_id": metadata.get(WEBHOOK_ENDPOINT),
    }
    return json_reply(body)


def facts_of_start(request: Call, found: dict[str, Any], client_tools: list[str]) -> dict[str, Any]:
    """
    What this API keeps with the run.

    Raises:
        WorkflowRefusal, Forbidden
    """
    environment = found.get("environment", "production")
    if environment not in ENVIRONMENTS:
        raise invalid("environment", f"one of {', '.join(ENVIRONMENTS)}")
    metadata = found.get("metadata", {})
    if not isinstance(metadata, dict) or len(msgspec.json.encode(metadata)) > METADATA_BYTES_MAX:
        raise invalid("metadata", f"an object of up to {METADATA_BYTES_MAX} bytes")
    return {
        "environment": environment,
        "metadata": metadata,
        "tenant_id": tenant_label(request),
        "client_tools": client_tools,
    }


def tenant_label(request: Call) -> str | None:
    """
    The tenant that the caller's key sets, or the label that a key of the default tenant names.

    Raises:
        Forbidden: the key is of another tenant.
    """
    tenant, given = request.caller.tenant, request.header(b"x-tenant-id")
    named = None if given is None else given.decode("latin-1")
    if named is not None and not _TENANT.match(named):
        raise invalid("X-Tenant-Id", "1 to 128 letters, digits, _, . or -")
    if tenant == DEFAULT_TENANT:
        return named
    if named is not None and named != tenant:
        raise Forbidden(f"this key is not of the tenant {named!r}", needed=named)
    return tenant


HANDLERS: Final = (execute, execute_with_files, upload_run_input)
