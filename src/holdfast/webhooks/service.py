"""
What APIs call: endpoints and their deliveries, and the endpoint of a single run. Scoped by tenant.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final

import msgspec

from holdfast.caller import Caller
from holdfast.clock import Clock
from holdfast.errors import EndpointNotFound, InvalidRequest, WebhookSecretRequired
from holdfast.ids import Ids
from holdfast.journal import Journal
from holdfast.model import Delivery
from holdfast.store.base import Store
from holdfast.webhooks.endpoint import (
    ENDPOINT,
    RUN_ENDPOINT,
    SKILLS,
    TEST_EVENT,
    WORKFLOW,
    Endpoint,
    Secret,
    endpoint_of,
)
from holdfast.webhooks.guard import check_url
from holdfast.webhooks.post import Poster
from holdfast.webhooks.schedule import MICROSECONDS
from holdfast.webhooks.sender import Encode, Sender
from holdfast.webhooks.signing import is_secret, new_secret

DAY_MICROSECONDS: Final = 24 * 3600 * MICROSECONDS
KEPT_MICROSECONDS: Final = 30 * DAY_MICROSECONDS

EncodeTest = Callable[[Endpoint, str, int], bytes]
"""The body of `endpoint.test`: for this endpoint, with this event id, at this time."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What the start of a run says of its own endpoint. `secret` None: that of the settings."""

    url: str
    events: tuple[str, ...] = ()
    secret: str | None = None


class Webhooks:
    """Made once per server; used on its event loop."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        ids: Ids,
        *,
        encode: Encode,
        encode_test: EncodeTest,
        poster: Poster,
        secret: str | None = None,
    ) -> None:
        self.sender = Sender(store, clock, ids, encode, poster)
        self._store = store
        self._clock = clock
        self._ids = ids
        self._encode_test = encode_test
        self._allowed = poster.allowed
        self._secret = secret

    async def start(self, journal: Journal) -> None:
        """Begin to send, and listen to what this process commits; what others commit is found within a second."""
        journal.on_notable = self.sender.hint
        await self.sender.start()

    async def stop(self) -> None:
        """Break off; whoever opens the store next, or shares it, goes on."""
        await self.sender.stop()

    # Endpoints

    async def create(self, caller: Caller, *, url: str, secret: str | None = None, **fields: Any) -> Endpoint:
        """
        A new endpoint of the caller's tenant; durable when this returns. One of the shape of skills may have any secret.

        Raises:
            WebhookUrlRefused, InvalidRequest
        """
        check_url(url, self._allowed)
        if fields.get("shape") != SKILLS:
            secret = _checked(secret)
        endpoint = self._new(caller.tenant, url, secret or new_secret(), **fields)
        await self._put(endpoint)
        return endpoint

    async def _put(self, endpoint: Endpoint) -> None:
        await self._store.put_records([endpoint.record(endpoint.created_at)])
        self.sender.is_needed = True

    async def endpoints(self, caller: Caller, *, shape: str = WORKFLOW) -> list[Endpoint]:
        """The endpoints of the caller's tenant with bodies of a shape, oldest first, without those of single runs."""
        found = [endpoint_of(record) for record in await self._store.records(ENDPOINT, tenant=caller.tenant)]
        return [endpoint for endpoint in found if endpoint.shape == shape]

    async def get(self, caller: Caller, endpoint_id: str) -> Endpoint:
        """
        Raises:
            EndpointNotFound
        """
        found = await self.sender.endpoint(caller.tenant, endpoint_id)
        if found is None:
            raise _unknown(endpoint_id)
        return found

    async def change(self, caller: Caller, endpoint_id: str, **fields: Any) -> Endpoint:
        """
        Change fields. Enabled again, an endpoint begins without failures; what is held waits for its replay.

        Raises:
            EndpointNotFound, WebhookUrlRefused
        """
        if "url" in fields:
            check_url(fields["url"], self._allowed)
        if fields.get("enabled"):
            fields |= {"disabled_reason": None, "failures": 0, "failing_since": None}
        elif "enabled" in fields:
            fields["disabled_reason"] = "caller"

        after = await self._changed(caller, endpoint_id, lambda before: msgspec.structs.replace(before, **fields))
        if not after.enabled:
            await self._store.hold_deliveries(endpoint_id)
        return after

    async def delete(self, caller: Caller, endpoint_id: str) -> None:
        """
        Remove an endpoint; nothing more is sent to it.

        Raises:
            EndpointNotFound
        """
        await self.get(caller, endpoint_id)
        await self._store.delete_record(caller.tenant, ENDPOINT, endpoint_id)
        await self._store.delete_record(caller.tenant, RUN_ENDPOINT, endpoint_id)
        await self._store.hold_deliveries(endpoint_id)

    async def rotate(self, caller: Caller, endpoint_id: str, overlap_seconds: int) -> Endpoint:
        """
        Give an endpoint a new secret, which signs first; those before it sign too until the overlap is over.

        Raises:
            EndpointNotFound
        """
        made, now = new_secret(), self._clock.now()
        until = now + overlap_seconds * MICROSECONDS

        def rotated(before: Endpoint) -> Endpoint:
            old = [Secret(item.text, min(item.until or until, until)) for item in before.secrets]
            kept = [item for item in old if item.until is not None and item.until > now]
            return msgspec.structs.replace(before, secrets=(Secret(made), *kept))

        return await self._changed(caller, endpoint_id, rotated)

    async def _changed(self, caller: Caller, endpoint_id: str, change: Callable[[Endpoint], Endpoint]) -> Endpoint:
        after = await self.sender.change(caller.tenant, endpoint_id, change)
        if after is None:
            raise _unknown(endpoint_id)
        return after

    # The endpoint of one run

    async def wish(self, caller: Caller, wish: Wish) -> Endpoint:
        """
        An endpoint that a run may name at its start (in its metadata, under `WEBHOOK_ENDPOINT`), and then hears of that
        run alone, from its first event on. `settle` it once the start is over.

        Raises:
            WebhookUrlRefused, WebhookSecretRequired, InvalidRequest
        """
        check_url(wish.url, self._allowed)
        secret = _checked(wish.secret) or self._secret
        if secret is None:
            raise WebhookSecretRequired(
                "a URL for the webhooks of a run needs a secret to sign them with: with the call, or as the setting "
                "webhook_secret",
                field="webhook_secret",
            )
        endpoint = self._new(caller.tenant, wish.url, secret, events=wish.events, is_of_run=True)
        await self._put(endpoint)
        return endpoint

    async def settle(self, endpoint: Endpoint, number: int | None) -> None:
        """The run with this number took it; None: no run did."""
        if number is None:
            await self._store.delete_record(endpoint.tenant, RUN_ENDPOINT, endpoint.endpoint_id)
            return
        await self.sender.settle(endpoint, number)
        self.sender.wake()

    def _new(self, tenant: str, url: str, secret: str, **fields: Any) -> Endpoint:
        return Endpoint(
            endpoint_id=self._ids.short("whe"),
            tenant=tenant,
            url=url,
            secrets=(Secret(secret),),
            created_at=self._clock.now(),
            **fields,
        )

    # Deliveries

    async def deliveries(
        self,
        caller: Caller,
        endpoint_id: str,
        *,
        status: str | None,
        number: int | None,
        before: str | None,
        limit: int,
    ) -> list[Delivery]:
        """
        Newest first.

        Raises:
            EndpointNotFound
        """
        await self.get(caller, endpoint_id)
        return await self._store.deliveries(endpoint_id, status=status, number=number, before=before, limit=limit)

    async def replay(self, caller: Caller, endpoint_id: str, **which: Any) -> int:
        """
        Schedule deliveries anew, with the same bytes; how many.

        Raises:
            EndpointNotFound
            InvalidRequest: the endpoint is disabled.
        """
        endpoint = await self.get(caller, endpoint_id)
        if not endpoint.enabled:
            raise InvalidRequest("the endpoint is disabled; enable it first", field="enabled")
        count = await self._store.replay_deliveries(endpoint_id, now=self._clock.now(), **which)
        self.sender.wake()
        return count

    async def test(self, caller: Caller, endpoint_id: str) -> Delivery:
        """
        One attempt of `endpoint.test`, now; the delivery with what became of it. It is not tried again.

        Raises:
            EndpointNotFound
        """
        endpoint = await self.get(caller, endpoint_id)
        now, event_id = self._clock.now(), f"msg_{secrets.token_hex(16)}"
        delivery = Delivery(
            delivery_id=self._ids.short("whd"),
            endpoint_id=endpoint_id,
            tenant=endpoint.tenant,
            event_id=event_id,
            type=TEST_EVENT,
            number=0,
            sequence=0,
            status="failed",  # until it went through
            body=self._encode_test(endpoint, event_id, now),
            created_at=now,
        )
        outcome = await self.sender.post(endpoint, delivery, now)
        after = self.sender.after(delivery, outcome, now)
        if after.status == "pending":
            after = msgspec.structs.replace(after, status="failed", next_attempt_at=None)
        await self._store.deliver([after], ())
        return after

    async def prune(self) -> int:
        """Forget deliveries that are over 30 days old, and endpoints whose run a crash kept from being started."""
        now = self._clock.now()
        went = await self._store.prune_deliveries(now - KEPT_MICROSECONDS)
        return went + await self._store.prune_loose(RUN_ENDPOINT, now - DAY_MICROSECONDS)


def _checked(secret: str | None) -> str | None:
    if secret is not None and not is_secret(secret):
        raise InvalidRequest("a secret is whsec_ and the base64 of 24 to 64 bytes", field="secret")
    return secret


def _unknown(endpoint_id: str) -> EndpointNotFound:
    return EndpointNotFound(f"there is no webhook endpoint {endpoint_id!r}")
