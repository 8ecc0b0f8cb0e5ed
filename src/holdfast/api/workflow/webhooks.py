"""The calls about webhooks: endpoints, their secrets, and what was delivered to them."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from litestar import delete, get, patch, post

from holdfast.api.http.asgi import Answer
from holdfast.api.http.call import Call
from holdfast.api.http.errors import InvalidQuery
from holdfast.api.http.idempotency import once
from holdfast.api.http.reply import Reply, json_reply
from holdfast.api.workflow.fields import read_strict, replayed_header, text, whole
from holdfast.api.workflow.finding import as_uuid
from holdfast.api.workflow.refusals import invalid
from holdfast.api.workflow.starting import ENVIRONMENTS
from holdfast.api.workflow.wishes import SECRET_LENGTH_MAX, URL_LENGTH_MAX, are_names, names
from holdfast.errors import InvalidRequest
from holdfast.model import Delivery
from holdfast.model.encoding import format_time, parse_time
from holdfast.webhooks import EVENTS, Endpoint

OVERLAP_SECONDS: Final = 86_400
OVERLAP_SECONDS_MAX: Final = 604_800
STATUSES: Final = ("pending", "delivered", "failed", "held")
_EVENT_IDS_MAX: Final = 1000
_FILTERS: Final = ("events", "agents", "environments")
_FIELDS: Final = ("url", *_FILTERS, "description")


@post("/webhooks", opt={"role": "operator"}, status_code=200)
async def create(request: Call) -> Answer:
    """Make an endpoint; the answer alone shows its secret."""
    query, body = request.query(), await request.json_body()
    found = read_strict(body, (*_FIELDS, "secret"))
    if "url" not in found:
        raise invalid("url", "where the events go to, as a text")
    fields, secret = fields_of(found), text(found, "secret", least=1, most=SECRET_LENGTH_MAX)

    async def work() -> Reply:
        made = await request.services.hooks.create(request.caller, secret=secret, **fields)
        return json_reply(shown(made) | {"secret": made.secrets[0].text})

    return await _once(request, query, body, work)


@get("/webhooks", opt={"role": "operator"})
async def listed(request: Call) -> Answer:
    """All endpoints of the tenant, oldest first."""
    request.query()
    found = await request.services.hooks.endpoints(request.caller)
    return json_reply({"endpoints": [shown(endpoint) for endpoint in found]})


@get("/webhooks/{id:str}", opt={"role": "operator"})
async def show(request: Call) -> Answer:
    """One endpoint."""
    request.query()
    return json_reply(shown(await request.services.hooks.get(request.caller, request.path_value("id"))))


@patch("/webhooks/{id:str}", opt={"role": "operator"})
async def change(request: Call) -> Answer:
    """Change fields of an endpoint; those left out stay."""
    query, body = request.query(), await request.json_body()
    found = read_strict(body, (*_FIELDS, "enabled"))
    fields = fields_of(found)
    if "enabled" in found:
        if not isinstance(found["enabled"], bool):
            raise invalid("enabled", "true or false")
        fields["enabled"] = found["enabled"]

    async def work() -> Reply:
        return json_reply(
            shown(await request.services.hooks.change(request.caller, request.path_value("id"), **fields))
        )

    return await _once(request, query, body, work)


@delete("/webhooks/{id:str}", opt={"role": "operator"}, status_code=200)
async def remove(request: Call) -> Answer:
    """Remove an endpoint; nothing more is sent to it."""
    query = request.query()

    async def work() -> Reply:
        await request.services.hooks.delete(request.caller, request.path_value("id"))
        return json_reply({"success": True})

    return await _once(request, query, None, work)


@post("/webhooks/{id:str}/rotate", opt={"role": "operator"}, status_code=200)
async def rotate(request: Call) -> Answer:
    """Give an endpoint a new secret, which signs first; the old one signs too until the overlap is over."""
    query, body = request.query(), await _body(request)
    found = read_strict(body, ("overlap_seconds",))
    overlap = whole(found, "overlap_seconds", least=0, most=OVERLAP_SECONDS_MAX, default=OVERLAP_SECONDS)

    async def work() -> Reply:
        after = await request.services.hooks.rotate(request.caller, request.path_value("id"), overlap)
        return json_reply(shown(after) | {"secret": after.secrets[0].text})

    return await _once(request, query, body, work)


@post("/webhooks/{id:str}/test", opt={"role": "operator"}, status_code=200)
async def test(request: Call) -> Answer:
    """Send `endpoint.test` once, now; the delivery tells what came of it."""
    query, body = request.query(), await _body(request)
    read_strict(body, ())

    async def work() -> Reply:
        return json_reply(shown_delivery(await request.services.hooks.test(request.caller, request.path_value("id"))))

    return await _once(request, query, body, work, is_outside=True)


@get("/webhooks/{id:str}/deliveries", opt={"role": "operator"})
async def deliveries(request: Call) -> Answer:
    """What was, or is to be, delivered to an endpoint, newest first."""
    query = request.query("status", "task_id", "limit", "before")
    limit = query.integer("limit", 100, least=1, most=1000)
    status = query.get("status")
    if status is not None and status not in STATUSES:
        raise InvalidQuery(f"status is one of {', '.join(STATUSES)}", field="status")
    number = query.integer("task_id", 0, least=1, most=2**53 - 1) if "task_id" in query else None
    found = await request.services.hooks.deliveries(
        request.caller,
        request.path_value("id"),
        status=status,
        number=number,
        before=query.get("before"),
        limit=limit + 1,
    )
    page = found[:limit]
    return json_reply(
        {
            "deliveries": [shown_delivery(delivery) for delivery in page],
            "next_before": page[-1].delivery_id if len(found) > limit else None,
        }
    )


@post("/webhooks/{id:str}/replay", opt={"role": "operator"}, status_code=200)
async def replay(request: Call) -> Answer:
    """Schedule deliveries anew: by the ids of events, by status, or by when they were made."""
    query, body = request.query(), await request.json_body()
    found = read_strict(body, ("event_ids", "status", "since", "until"))
    which = which_of(found)

    async def work() -> Reply:
        count = await request.services.hooks.replay(request.caller, request.path_value("id"), **which)
        return json_reply({"scheduled": count})

    return await _once(request, query, body, work)


def which_of(found: dict[str, Any]) -> dict[str, Any]:
    """
    Which deliveries a replay means: exactly one way to name them.

    Raises:
        WorkflowRefusal
    """
    if sum(name in found for name in ("event_ids", "status", "since")) != 1:
        raise invalid("body", "exactly one of event_ids, status and since")
    if "until" in found and "since" not in found:
        raise invalid("until", "goes with since")
    if "event_ids" in found:
        given = found["event_ids"]
        if not isinstance(given, list) or not 1 <= len(given) <= _EVENT_IDS_MAX or not are_names(given):
            raise invalid("event_ids", f"a list of up to {_EVENT_IDS_MAX} ids of events")
        return {"event_ids": given}
    if "status" in found:
        if found["status"] not in STATUSES:
            raise invalid("status", f"one of {', '.join(STATUSES)}")
        return {"status": found["status"]}
    return {name: _time(found, name) for name in ("since", "until") if name in found}


def fields_of(found: dict[str, Any]) -> dict[str, Any]:
    """
    The fields of an endpoint that a body names, checked but for where the URL leads.

    Raises:
        WorkflowRefusal
    """
    fields: dict[str, Any] = {}
    if "url" in found:
        fields["url"] = text(found, "url", least=1, most=URL_LENGTH_MAX)
    if "description" in found:
        fields["description"] = text(found, "description", most=1000)
    if "events" in found:
        fields["events"] = names(found, "events", EVENTS)
    if "environments" in found:
        fields["environments"] = names(found, "environments", ENVIRONMENTS)
    if "agents" in found:
        fields["agents"] = tuple(as_uuid(name) or name for name in names(found, "agents", None))
    return fields


def _time(found: dict[str, Any], name: str) -> int:
    value = found[name]
    if not isinstance(value, str):
        raise invalid(name, "a time as ISO 8601, as a text")
    try:
        return parse_time(value, field=name)
    except InvalidRequest as exc:
        raise invalid(name, exc.message) from None


async def _body(request: Call) -> Any:
    """A body that may be left out."""
    return await request.json_body() if request.has_body else {}


async def _once(request: Call, query: Any, body: Any, work: Any, *, is_outside: bool = False) -> Reply:
    reply = await once(request, query, body, work, is_outside=is_outside)
    return reply.with_headers(*replayed_header(reply))


def shown(endpoint: Endpoint) -> dict[str, Any]:
    """An endpoint without its secrets."""
    return {
        "id": endpoint.endpoint_id,
        "url": endpoint.url,
        "events": endpoint.events,
        "agents": endpoint.agents,
        "environments": endpoint.environments,
        "description": endpoint.description,
        "enabled": endpoint.enabled,
        "disabled_reason": endpoint.disabled_reason,
        "created_at": format_time(endpoint.created_at),
    }


def shown_delivery(delivery: Delivery) -> dict[str, Any]:
    """A delivery with its attempts; one of no run (a test) has neither task nor place."""
    is_of_run = delivery.number > 0
    return {
        "id": delivery.delivery_id,
        "endpoint_id": delivery.endpoint_id,
        "event_id": delivery.event_id,
        "type": delivery.type,
        "task_id": delivery.number if is_of_run else None,
        "seq": delivery.sequence if is_of_run else None,
        "status": delivery.status,
        "next_attempt_at": None if delivery.next_attempt_at is None else format_time(delivery.next_attempt_at),
        "attempts": msgspec.json.decode(delivery.attempts),
    }


HANDLERS: Final = (create, listed, show, change, remove, rotate, test, deliveries, replay)
