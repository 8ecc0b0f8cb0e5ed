"""The calls about webhooks of skills and their runs; what they make is sent by the server's webhook service."""

from __future__ import annotations

from typing import Any, Final

from litestar import delete, get, post

from holdfast.api.http.asgi import Answer
from holdfast.api.http.call import Call
from holdfast.api.http.idempotency import once
from holdfast.api.http.reply import Reply, json_reply
from holdfast.api.skills.bodies import known_fields, read_body, take_trace, text_field, trace_id
from holdfast.api.skills.refusals import wrong
from holdfast.api.skills.webhook_body import ALL, EVENTS
from holdfast.api.workflow.wishes import SECRET_LENGTH_MAX, URL_LENGTH_MAX
from holdfast.errors import EndpointNotFound
from holdfast.webhooks import Endpoint
from holdfast.webhooks.endpoint import SKILLS


@post("/v1/webhooks", opt={"role": "operator"}, status_code=201)
async def create_webhook(request: Call) -> Answer:
    """Let a URL hear of skills and their runs; a secret that is made here is shown only by this answer."""
    query, body = request.query(), await read_body(request)
    found = known_fields(request, body, ("url", "events", "secret", "trace_id"))
    take_trace(request, found.get("trace_id"))
    url, secret = text_field(found, "url", most=URL_LENGTH_MAX), text_field(found, "secret", most=SECRET_LENGTH_MAX)
    if url is None:
        raise wrong("url", "where the events go to")
    events = _events(found)

    async def work() -> Reply:
        made = await request.services.hooks.create(request.caller, url=url, secret=secret, events=events, shape=SKILLS)
        shown = webhook_view(made) | {"trace_id": trace_id(request)}
        return json_reply(shown if secret is not None else shown | {"secret": made.secrets[0].text}, 201)

    return await once(request, query, body, work)


def _events(found: dict[str, Any]) -> tuple[str, ...]:
    """The names of the events that are wanted; all are none in particular."""
    names = found.get("events")
    if not isinstance(names, list) or not names or any(name not in (*EVENTS, ALL) for name in names):
        raise wrong("events", f"a list of {', '.join(EVENTS)}, or {ALL}")
    return () if ALL in names else tuple(dict.fromkeys(names))


def webhook_view(endpoint: Endpoint) -> dict[str, Any]:
    """A subscription, without its secret."""
    return {
        "id": endpoint.endpoint_id,
        "url": endpoint.url,
        "events": endpoint.events or (ALL,),
        "active": endpoint.enabled,
    }


@get("/v1/webhooks", opt={"role": "operator"})
async def list_webhooks(request: Call) -> Answer:
    """The subscriptions, oldest first."""
    request.query()
    found = await request.services.hooks.endpoints(request.caller, shape=SKILLS)
    return json_reply({"subscriptions": [webhook_view(item) for item in found], "trace_id": trace_id(request)})


@delete("/v1/webhooks/{id:str}", opt={"role": "operator"}, status_code=200)
async def delete_webhook(request: Call) -> Answer:
    """End a subscription; nothing more is sent to it."""
    request.query()
    name = request.path_value("id")
    hooks = request.services.hooks
    if (await hooks.get(request.caller, name)).shape != SKILLS:
        raise EndpointNotFound(f"there is no webhook {name!r}")
    await hooks.delete(request.caller, name)
    return json_reply({"deleted": True, "trace_id": trace_id(request)})


HANDLERS: Final = (create_webhook, list_webhooks, delete_webhook)
