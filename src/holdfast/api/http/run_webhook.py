"""The endpoint that hears of one run alone: made for its start, gone again if that comes to nothing."""

from __future__ import annotations

import msgspec

from holdfast.api.http.call import Call
from holdfast.runs import WEBHOOK_ENDPOINT, ForkRequest, StartRequest
from holdfast.store.base import Started
from holdfast.webhooks import Wish


async def start_run(call: Call, request: StartRequest, wish: Wish | None) -> Started:
    """
    `Runs.start`, with an endpoint of the run's own if there is a wish for one. It hears of the run from its first event
    on: the run names it, in the transaction that starts it.

    Raises:
        WebhookUrlRefused, WebhookSecretRequired, InvalidRequest
        as `Runs.start`
    """
    return await _with_endpoint(call, request, wish, None)


async def fork_run(call: Call, run_id: str, fork: ForkRequest, wish: Wish | None) -> Started:
    """`Runs.fork`, likewise."""
    return await _with_endpoint(call, fork.start, wish, (run_id, fork))


async def _with_endpoint(
    call: Call, request: StartRequest, wish: Wish | None, of: tuple[str, ForkRequest] | None
) -> Started:
    if wish is None:
        return await _start(call, request, of)
    hooks = call.services.hooks
    endpoint = await hooks.wish(call.caller, wish)
    metadata = {**request.metadata, WEBHOOK_ENDPOINT: endpoint.endpoint_id}
    try:
        started = await _start(call, msgspec.structs.replace(request, metadata=metadata), of)
    except Exception:
        await hooks.settle(endpoint, None)
        raise
    await hooks.settle(endpoint, None if started.replayed else started.run.number)
    return started


async def _start(call: Call, request: StartRequest, of: tuple[str, ForkRequest] | None) -> Started:
    if of is None:
        return await call.runs.start(call.caller, request)
    run_id, fork = of
    return await call.runs.fork(call.caller, run_id, msgspec.structs.replace(fork, start=request))
