"""The call that starts a run."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import msgspec
from litestar import post

from holdfast.api.http.asgi import Answer
from holdfast.api.http.call import Call
from holdfast.api.http.idempotency import REPLAYED, idempotency_row
from holdfast.api.http.reply import Reply, json_reply
from holdfast.api.workflow.fields import ignored_header, read_object, text
from holdfast.api.workflow.finding import find_agent
from holdfast.api.workflow.refusals import WorkflowRefusal, invalid
from holdfast.api.workflow.rows import text_of
from holdfast.errors import Forbidden
from holdfast.execution.program import Program, spec_of
from holdfast.model import DEFAULT_TENANT
from holdfast.runs import StartRequest

BODY_BYTES_MAX: Final = 16 * 1024 * 1024
METADATA_BYTES_MAX: Final = 16 * 1024
ENVIRONMENTS: Final = ("playground", "test", "production")
_FIELDS: Final = ("inputs", "environment", "metadata", "thread_id", "webhook_url", "webhook_events", "webhook_secret")
_SLOT: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
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
    if "webhook_url" in found:
        raise WorkflowRefusal("webhook_url_refused", "this server does not take webhook_url at a start yet")
    inputs = read_inputs(found.get("inputs", {}))
    row = idempotency_row(request, query, body)
    start = StartRequest(
        agent=program.name,
        input=input_of(program, inputs),
        thread_id=text(found, "thread_id", least=1, most=255),
        message=_message(inputs) if "thread_id" in found else None,
        metadata={"workflow": facts_of_start(request, found, inputs, program)},
        idempotency=None if row is None else msgspec.structs.replace(row, expires_at=None),
    )
    started = await request.runs.start(request.caller, start)
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
        "webhook_endpoint_id": None,
    }
    return json_reply(body)


def read_inputs(given: Any) -> dict[str, dict[str, Any]]:
    """
    The slots of a start, checked.

    Raises:
        WorkflowRefusal
    """
    found, _ = read_object(given, ("strings", "images"), "inputs")
    inputs = {"strings": found.get("strings", {}), "images": found.get("images", {})}
    for kind, slots in inputs.items():
        if not isinstance(slots, dict):
            raise invalid(f"inputs.{kind}", "an object of slots")
        for slot, value in slots.items():
            if not _SLOT.match(slot):
                raise invalid(f"inputs.{kind}", f"a slot is 1 to 64 letters, digits, _ or -, not {slot[:64]!r}")
            if kind == "images" and not isinstance(value, str):
                raise invalid(f"inputs.images.{slot}", "base64 or a data: URL, as a text")
    return inputs


def facts_of_start(
    request: Call, found: dict[str, Any], inputs: dict[str, dict[str, Any]], program: Program
) -> dict[str, Any]:
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
        "inputs": inputs,
        "tenant_id": tenant_label(request),
        "client_tools": list(getattr(program, "client_tools", ())),
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


def input_of(program: Program, inputs: dict[str, dict[str, Any]]) -> Any:
    """
    The agent's input, made of the slots: by name where names are declared, else as the kind of agent takes it.

    Raises:
        WorkflowRefusal
    """
    schema = spec_of(program).input_schema
    if schema is not None:
        return _declared_input(schema, inputs["strings"])
    if program.framework == "assistant":
        return {"message": _message(inputs)}
    return inputs


def _message(inputs: dict[str, dict[str, Any]]) -> str:
    ordered = sorted(
        inputs["strings"].items(),
        key=lambda item: (not item[0].isdigit(), int(item[0]) if item[0].isdigit() else 0, item[0]),
    )
    return "\n\n".join(text_of(value) for _, value in ordered)


def _declared_input(schema: dict[str, Any], slots: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = schema.get("properties", {})
    names = list(properties)
    filled: dict[str, Any] = {}
    for slot, value in slots.items():
        name = slot
        if slot not in properties and slot.isdigit() and 1 <= int(slot) <= len(names):
            name = names[int(slot) - 1]
        filled[name] = _as_declared(properties.get(name), name, value)
    return filled


def _as_declared(declared: Any, name: str, value: Any) -> Any:
    """A text for a slot of another type is read as JSON."""
    kind = declared.get("type") if isinstance(declared, dict) else None
    kinds = kind if isinstance(kind, list) else [kind]
    if not isinstance(value, str) or kind is None or "string" in kinds:
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise invalid(f"inputs.strings.{name}", f"no JSON text of type {kind}") from None


HANDLERS: Final = (execute,)
