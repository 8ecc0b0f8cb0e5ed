"""The calls by which tools are registered, listed and retired."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec
from litestar import delete, get, post

from holdfast.api.http.asgi import Answer
from holdfast.api.http.call import Call
from holdfast.api.http.errors import InvalidQuery
from holdfast.api.http.idempotency import once
from holdfast.api.http.reply import Reply, json_reply
from holdfast.api.workflow.fields import ignored_header, read_object, replayed_header, text
from holdfast.api.workflow.refusals import WorkflowRefusal, invalid
from holdfast.execution.client_tools import (
    EXPIRES_SECONDS_MAX,
    KIND,
    NAME,
    NAME_RULE,
    ON_EXPIRY,
    ClientTool,
    tool_of,
)
from holdfast.execution.program import Program
from holdfast.execution.schema import InvalidSchema, schema_of
from holdfast.model import Record
from holdfast.model.encoding import format_time
from holdfast.runs import Runs

SCHEMA_BYTES_MAX: Final = 64 * 1024
TOOLS_MAX: Final = 1000
STATUSES: Final = ("active", "inactive")
_FIELDS: Final = (
    *("name", "namespace", "description", "schema_data", "strict"),
    *("expires_in", "on_expiry", "default", "overrides_quasi_tool"),
)


@post("/api/tools/register", opt={"role": "operator"}, status_code=200)
async def register(request: Call) -> Answer:
    """Register tools: all or none. One of the same namespace and name is replaced, and active again."""
    query = request.query()
    body = await request.json_body()
    found, unknown = read_object(body, ("tools",))
    given = found.get("tools")
    if not isinstance(given, list) or not 1 <= len(given) <= TOOLS_MAX:
        raise invalid("tools", f"a list of 1 to {TOOLS_MAX} definitions")
    tools = [read_tool(item, f"tools[{place}]", request.caller.name) for place, item in enumerate(given)]
    reply = await once(request, query, body, lambda: _register(request, tools))
    return reply.with_headers(*replayed_header(reply), *ignored_header(unknown))


async def _register(request: Call, tools: Sequence[ClientTool]) -> Reply:
    runs, tenant = request.runs, request.caller.tenant
    known = {tool.full_name: tool for tool in map(tool_of, await runs.store.records(KIND, tenant=tenant))}
    kept = [msgspec.structs.replace(tool, id=_id_of(tenant, tool)) for tool in tools]
    after = known | {tool.full_name: tool for tool in kept}
    for program in (runs.agent(name) for name in runs.worker.programs.names()):
        check_unambiguous(program, after.values())
    now = runs.worker.clock.now()
    await runs.store.put_records(
        [
            Record(
                kind=KIND,
                tenant=tenant,
                name=tool.full_name,
                body=msgspec.json.encode(tool),
                created_at=now,
                updated_at=now,
            )
            for tool in {tool.full_name: tool for tool in kept}.values()
        ]
    )
    runs.worker.client_tools.forget(tenant)
    shown = [{"id": tool.id, "name": tool.name, "namespace": tool.namespace} for tool in kept]
    return json_reply({"tools": shown})


def _id_of(tenant: str, tool: ClientTool) -> str:
    """Made of what a tool is replaced by, so that it has one id, whoever registers it and how often, also at once."""
    return f"tool_{hashlib.sha256(f'{tenant}/{tool.full_name}'.encode()).hexdigest()[:16]}"


def read_tool(given: Any, loc: str, created_by: str) -> ClientTool:
    """
    A definition, checked.

    Raises:
        WorkflowRefusal
    """
    found, _ = read_object(given, _FIELDS, loc)
    name, namespace = found.get("name"), found.get("namespace", "")
    if not isinstance(name, str) or not NAME.match(name):
        raise invalid(f"{loc}.name", NAME_RULE)
    if not isinstance(namespace, str) or (namespace and not NAME.match(namespace)):
        raise invalid(f"{loc}.namespace", f"{NAME_RULE}; or empty")
    strict = found.get("strict", False)
    if not isinstance(strict, bool):
        raise invalid(f"{loc}.strict", "true or false")
    expires_in, on_expiry = found.get("expires_in"), found.get("on_expiry")
    if expires_in is not None and (
        isinstance(expires_in, bool)
        or not isinstance(expires_in, int | float)
        or not 1 <= expires_in <= EXPIRES_SECONDS_MAX
    ):
        raise invalid(f"{loc}.expires_in", f"seconds, 1 to {EXPIRES_SECONDS_MAX}")
    if on_expiry is not None and on_expiry not in ON_EXPIRY:
        raise invalid(f"{loc}.on_expiry", f"one of {', '.join(ON_EXPIRY)}")
    return ClientTool(
        id="",  # the tenant's
        name=name,
        namespace=namespace,
        description=text(found, "description", most=10_000, default="") or "",
        schema=_schema(found.get("schema_data", {"type": "object"}), loc),
        strict=strict,
        expires_in=expires_in,
        on_expiry=on_expiry,
        default=text(found, "default", most=256 * 1024),
        created_by=created_by,
    )


def _schema(given: Any, loc: str) -> dict[str, Any]:
    def refuse(why: str) -> WorkflowRefusal:
        return WorkflowRefusal(
            "invalid_tool_schema", f"{loc}.schema_data: {why}", errors=[{"loc": [loc, "schema_data"], "msg": why}]
        )

    if not isinstance(given, dict):
        raise refuse("a JSON Schema, as an object")
    if len(msgspec.json.encode(given)) > SCHEMA_BYTES_MAX:
        raise refuse(f"over {SCHEMA_BYTES_MAX} bytes")
    if given.get("type") != "object":
        raise refuse('the schema of an object: "type" is "object"')
    try:
        schema_of(given)
    except InvalidSchema as exc:
        raise refuse(f"{exc.message} (at {exc.pointer or 'its root'})") from None
    return given


def allowed_tools(program: Program, tools: Iterable[ClientTool]) -> list[ClientTool]:
    """The active tools that an agent's declaration lets its model call; patterns such as `crm.*` are of full names."""
    patterns: Sequence[str] = getattr(program, "client_tools", ())
    return [
        tool for tool in tools if tool.is_active and any(fnmatchcase(tool.full_name, pattern) for pattern in patterns)
    ]


def check_unambiguous(program: Program, tools: Iterable[ClientTool]) -> None:
    """
    Make sure that a model that knows tools by their bare names can tell the registered ones apart. One of the agent's
    own of such a name is not offered: whoever registers `crm.find` for an agent that can `find` files means it.

    Raises:
        WorkflowRefusal
    """
    taken: dict[str, str] = {}
    for tool in allowed_tools(program, tools):
        other = taken.setdefault(tool.name, tool.full_name)
        if other != tool.full_name:
            raise WorkflowRefusal(
                "tool_name_ambiguous",
                f"agent {program.name!r} would have two tools named {tool.name!r}: {other} and {tool.full_name}",
                names=[other, tool.full_name],
            )


@get("/api/tools", opt={"role": "reader"})
async def list_tools(request: Call) -> Answer:
    """The registered tools, in the order of their first registration."""
    query = request.query("limit", "offset", "namespace", "status")
    limit = query.integer("limit", 100, least=1, most=1000)
    offset = query.integer("offset", 0, least=0, most=2**53 - 1)
    namespace, wanted = query.get("namespace"), query.get("status")
    if wanted and wanted not in STATUSES:
        raise InvalidQuery(f"status is one of {', '.join(STATUSES)}", field="status")
    shown = []
    for record in await request.runs.store.records(KIND, tenant=request.caller.tenant):
        tool = tool_of(record)
        status = "active" if tool.is_active else "inactive"
        if (namespace is None or namespace == tool.namespace or not namespace) and wanted in (None, "", status):
            shown.append(_shown(tool, record, status))
    return json_reply({"schemas": shown[offset : offset + limit]})


def _shown(tool: ClientTool, record: Record, status: str) -> dict[str, Any]:
    return {
        "id": tool.id,
        "name": tool.name,
        "namespace": tool.namespace,
        "description": tool.description,
        "status": status,
        "schema_data": {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.schema,
            "strict": tool.strict,
        },
        "expires_in": tool.expires_in,
        "on_expiry": tool.on_expiry,
        "default": tool.default,
        "created_by": tool.created_by,
        "created_at": format_time(record.created_at),
        "updated_at": format_time(record.updated_at),
    }


@delete("/api/tools/{tool:str}", opt={"role": "operator"}, status_code=200)
async def retire(request: Call) -> Answer:
    """Make a tool inactive: no new turn knows it, and calls that were asked stay."""
    query = request.query()
    reply = await once(request, query, None, lambda: _retire(request, request.path_value("tool")))
    return reply.with_headers(*replayed_header(reply))


async def _retire(request: Call, tool_id: str) -> Reply:
    runs, tenant = request.runs, request.caller.tenant
    for record in await runs.store.records(KIND, tenant=tenant):
        tool = tool_of(record)
        if tool.id == tool_id:
            body = msgspec.json.encode(msgspec.structs.replace(tool, is_active=False))
            now = runs.worker.clock.now()
            await runs.store.put_records([msgspec.structs.replace(record, body=body, updated_at=now)])
            runs.worker.client_tools.forget(tenant)
            return json_reply({"success": True})
    raise WorkflowRefusal("tool_not_found", f"there is no tool {tool_id!r}", status=404)


async def tool_names(runs: Runs, tenant: str, program: Program) -> list[str]:
    """The full names of the registered tools that an agent's model may call now."""
    if not getattr(program, "client_tools", ()):
        return []
    return [tool.full_name for tool in allowed_tools(program, (await runs.worker.client_tools.of(tenant)).values())]


HANDLERS: Final = (register, list_tools, retire)
