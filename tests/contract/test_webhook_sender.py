"""The way from the outbox to an endpoint, on both stores, by a clock that the test holds and a receiver that it plays."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import pytest

from holdfast.caller import Caller
from holdfast.clock import HeldClock
from holdfast.errors import EndpointNotFound, InvalidRequest, WebhookSecretRequired, WebhookUrlRefused
from holdfast.ids import SeededIds
from holdfast.model import Delivery, Run
from holdfast.store.base import OutboxRow, Store
from holdfast.webhooks import Endpoint, Webhooks, Wish
from holdfast.webhooks.endpoint import SKILLS, WORKFLOW
from holdfast.webhooks.guard import Allowed
from holdfast.webhooks.outcome import Outcome
from holdfast.webhooks.post import Poster
from holdfast.webhooks.schedule import DELAYS
from holdfast.webhooks.sender import Encoded, Sender
from holdfast.webhooks.service import KEPT_MICROSECONDS
from tests.contract.backends import Backend
from tests.contract.making import held, started

SECOND: Final = 1_000_000
CALLER: Final = Caller("me")
URL: Final = "https://example.com/hooks"
SECRET: Final = "whsec_aG9sZGZhc3QtZXhhbXBsZS1zZWNyZXQtMzItYnl0ZXM="
GOOD: Final = Outcome(status_code=200)
BAD: Final = Outcome(status_code=500, error="status")

Request = tuple[str, Mapping[str, str], bytes]


class Receiver(Poster):
    """What stands for the network: it keeps what comes, and answers as it is told."""

    def __init__(self, answer: Callable[[str], Outcome] = lambda _: GOOD) -> None:
        super().__init__(Allowed())
        self.answer = answer
        self.requests: list[Request] = []
        self.came = asyncio.Event()
        self.gates: dict[str, asyncio.Event] = {}  # an endpoint that hangs until the test lets it go
        self.open: dict[str, int] = {}
        self.open_most: dict[str, int] = {}

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        self.requests.append((url, headers, body))
        self.came.set()
        self.open[url] = self.open.get(url, 0) + 1
        self.open_most[url] = max(self.open_most.get(url, 0), self.open[url])
        try:
            if url in self.gates:
                await self.gates[url].wait()
            else:
                await asyncio.sleep(0)
            return self.answer(url)
        finally:
            self.open[url] -= 1


async def encode(run: Run, sequence: int, shape: str) -> Sequence[Encoded]:
    if sequence == 13:
        raise KeyError("an encoder that is wrong")
    told = Encoded(f"msg_{run.run_id}_{sequence}", "run.started", "production", f"{run.run_id} {sequence}".encode())
    return [told] if shape == WORKFLOW else [told, msgspec.structs.replace(told, event_id=f"{told.event_id}_2")]


def hooks_on(
    store: Store, clock: HeldClock, receiver: Receiver, *, secret: str | None = None, seed: int = 0
) -> Webhooks:
    return Webhooks(
        store,
        clock,
        SeededIds(clock, seed),
        encode=encode,
        encode_test=lambda endpoint, event_id, now: f"{endpoint.endpoint_id} {event_id} {now}".encode(),
        poster=receiver,
        secret=secret,
    )


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def hooks(store: Store, clock: HeldClock, receiver: Receiver) -> AsyncIterator[Webhooks]:
    made = hooks_on(store, clock, receiver, secret=SECRET)
    yield made
    await made.stop()


async def happen(store: Store, run_id: str = "r1", **options: Any) -> int:
    """A run begins, and with it comes a row of the outbox; its number."""
    return (await started(store, run_id, outbox=(OutboxRow("", 0, 0, 5),), **options)).number


async def turn(sender: Sender) -> None:
    await sender.turn()
    await sender.settled()


async def only(store: Store, endpoint: Endpoint) -> Delivery:
    (delivery,) = await store.deliveries(endpoint.endpoint_id)
    return delivery


async def test_an_event_is_delivered_once_and_signed(
    store: Store, clock: HeldClock, hooks: Webhooks, receiver: Receiver
) -> None:
    endpoint = await hooks.create(CALLER, url=URL, secret=SECRET)
    await happen(store)

    for _ in range(3):
        await turn(hooks.sender)

    ((url, headers, body),) = receiver.requests
    assert (url, body, headers["webhook-id"]) == (URL, b"r1 0", "msg_r1_0")
    assert headers["webhook-timestamp"] == str(clock.now() // SECOND)
    delivery = await only(store, endpoint)
    assert (delivery.status, delivery.next_attempt_at, delivery.tries) == ("delivered", None, 1)
    assert [item["status_code"] for item in msgspec.json.decode(delivery.attempts)] == [200]
    assert await store.outbox(limit=9) == []


async def test_ten_attempts_with_the_same_bytes_and_then_it_failed(
    store: Store, clock: HeldClock, hooks: Webhooks, receiver: Receiver
) -> None:
    endpoint = await hooks.create(CALLER, url=URL)
    await happen(store)
    receiver.answer = lambda _: BAD
    waited = []

    await turn(hooks.sender)
    while (due := (await only(store, endpoint)).next_attempt_at) is not None:
        waited.append((due - clock.now()) / SECOND)
        count = len(receiver.requests)
        clock.advance(waited[-1] - 0.001)
        await turn(hooks.sender)
        assert len(receiver.requests) == count  # not before its time
        clock.advance(0.002)
        await turn(hooks.sender)
        assert len(receiver.requests) == count + 1

    assert (await only(store, endpoint)).status == "failed"
    assert all(0.8 * told <= seen <= 1.2 * told for told, seen in zip(DELAYS[1:], waited, strict=True))
    assert len(receiver.requests) == 10
    assert len({(headers["webhook-id"], body) for _, headers, body in receiver.requests}) == 1
    assert len({headers["webhook-timestamp"] for _, headers, _ in receiver.requests}) == 10
    clock.advance(1e6)
    await turn(hooks.sender)
    assert len(receiver.requests) == 10


async def test_an_hour_of_failures_delays_and_loses_nothing(
    store: Store, clock: HeldClock, hooks: Webhooks, receiver: Receiver
) -> None:
    endpoint = await hooks.create(CALLER, url=URL)
    began = clock.now()
    receiver.answer = lambda _: BAD if clock.now() - began < 3600 * SECOND else GOOD
    for number in range(6):
        await happen(store, f"r{number}")
        await turn(hooks.sender)
        clock.advance(600)
    for _ in range(40):
        await turn(hooks.sender)
        clock.advance(300)

    assert {item.status for item in await store.deliveries(endpoint.endpoint_id)} == {"delivered"}
    assert {body for _, _, body in receiver.requests} == {f"r{number} 0".encode() for number in range(6)}
    current = await hooks.get(CALLER, endpoint.endpoint_id)
    assert (current.enabled, current.failures, current.failing_since) == (True, 0, None)


async def test_retry_after_is_obeyed(store: Store, clock: HeldClock, hooks: Webhooks, receiver: Receiver) -> None:
    endpoint = await hooks.create(CALLER, url=URL)
    await happen(store)
    receiver.answer = lambda _: Outcome(status_code=429, error="status", retry_after="90")

    await turn(hooks.sender)

    assert (await only(store, endpoint)).next_attempt_at == clock.now() + 90 * SECOND


async def test_an_endpoint_that_is_gone_is_disabled_and_its_events_are_held_until_their_replay(
    store: Store, clock: HeldClock, hooks: Webhooks, receiver: Receiver
) -> None:
    endpoint = await hooks.create(CALLER, url=URL)
    receiver.answer = lambda _: Outcome(status_code=410, error="status")
    await happen(store, "r1")
    await turn(hooks.sender)
    await happen(store, "r2")
    clock.advance(1e6)
    await turn(hooks.sender)

    current = await hooks.get(CALLER, endpoint.endpoint_id)
    assert (current.enabled, current.disabled_reason) == (False, "gone")
    assert [item.status for item in await store.deliveries(endpoint.endpoint_id)] == ["held", "held"]
    assert len(receiver.requests) == 1
    with pytest.raises(InvalidRequest, match="enable it first"):
        await hooks.replay(CALLER, endpoint.endpoint_id, status="held")

    receiver.answer = lambda _: GOOD
    await hooks.change(CALLER, endpoint.endpoint_id, enabled=True)
    await turn(hooks.sender)
    assert len(receiver.requests) == 1  # enabled alone sends nothing
    assert await hooks.replay(CALLER, endpoint.endpoint_id, status="held") == 2
    await turn(hooks.sender)

    assert [item.status for item in await store.deliveries(endpoint.endpoint_id)] == ["delivered", "delivered"]
    came = [(headers["webhook-id"], body) for _, headers, body in receiver.requests]
    assert sorted(came) == [("msg_r1_0", b"r1 0"), ("msg_r1_0", b"r1 0"), ("msg_r2_0", b"r2 0")]


async def test_an_endpoint_that_fails_for_a_day_is_disabled(
    store: Store, clock: HeldClock, hooks: Webhooks, receiver: Receiver
) -> None:
    endpoint = await hooks.create(CALLER, url=URL)
    receiver.answer = lambda _: BAD
    for number in range(25):
        await happen(store, f"r{number}")
    for _ in range(8):
        await turn(hooks.sender)
    assert (await hooks.get(CALLER, endpoint.endpoint_id)).enabled  # so many failures, but not over a day

    clock.advance(24 * 3600)
    await turn(hooks.sender)

    current = await hooks.get(CALLER, endpoint.endpoint_id)
    assert (current.enabled, current.disabled_reason) == (False, "failing")
    assert {item.status for item in await store.deliveries(endpoint.endpoint_id)} == {"held"}


async def test_a_hanging_endpoint_gets_four_requests_and_delays_no_other(
    store: Store, clock: HeldClock, hooks: Webhooks, receiver: Receiver
) -> None:
    await hooks.create(CALLER, url=f"{URL}/slow")
    await hooks.create(CALLER, url=f"{URL}/quick")
    receiver.gates[f"{URL}/slow"] = asyncio.Event()
    for number in range(7):
        await happen(store, f"r{number}")

    for _ in range(20):
        await hooks.sender.turn()
        await asyncio.sleep(0)
    while receiver.open.get(f"{URL}/quick") or len([1 for url, *_ in receiver.requests if "quick" in url]) < 7:
        await hooks.sender.turn()

    assert receiver.open[f"{URL}/slow"] == 4
    receiver.gates[f"{URL}/slow"].set()
    await hooks.sender.settled()
    await turn(hooks.sender)
    assert receiver.open_most == {f"{URL}/slow": 4, f"{URL}/quick": receiver.open_most[f"{URL}/quick"]}
    assert receiver.open_most[f"{URL}/quick"] <= 4
    assert len([1 for url, *_ in receiver.requests if "slow" in url]) == 7


async def test_several_senders_send_each_event_once_and_four_at_a_time(
    backend: Backend, clock: HeldClock, receiver: Receiver
) -> None:
    stores = [backend.store, await backend.another(), await backend.another()]
    every = [hooks_on(store, clock, receiver, seed=place) for place, store in enumerate(stores)]
    endpoint = await every[0].create(CALLER, url=URL)
    for number in range(30):
        await happen(backend.store, f"r{number}")

    for _ in range(30):
        await asyncio.gather(*(turn(hooks.sender) for hooks in every))

    assert sorted(body for _, _, body in receiver.requests) == sorted(f"r{number} 0".encode() for number in range(30))
    assert receiver.open_most[URL] <= 4
    assert {item.status for item in await backend.store.deliveries(endpoint.endpoint_id)} == {"delivered"}


async def test_what_a_dead_process_was_sending_is_sent_again(
    backend: Backend, clock: HeldClock, receiver: Receiver
) -> None:
    hooks = hooks_on(backend.store, clock, receiver)
    endpoint = await hooks.create(CALLER, url=URL)
    await happen(backend.store)
    receiver.gates[URL] = asyncio.Event()
    await hooks.sender.turn()
    await receiver.came.wait()
    await backend.close()  # before the answer
    await hooks.stop()
    await backend.open()
    receiver.gates.clear()
    hooks = hooks_on(backend.store, clock, receiver)

    await turn(hooks.sender)
    if not backend.is_embedded:  # nobody knows that the other process is dead, until its time is over
        assert len(receiver.requests) == 1
        clock.advance(9)
        await turn(hooks.sender)

    assert [body for _, _, body in receiver.requests] == [b"r1 0", b"r1 0"]
    assert (await only(backend.store, endpoint)).status == "delivered"


async def test_what_a_live_process_sends_for_long_is_sent_by_no_other(
    backend: Backend, clock: HeldClock, receiver: Receiver
) -> None:
    first = hooks_on(backend.store, clock, receiver, seed=1)
    second = hooks_on(await backend.another(), clock, receiver, seed=2)
    await first.create(CALLER, url=URL)
    await happen(backend.store)
    receiver.gates[URL] = asyncio.Event()
    for _ in range(10):
        await first.sender.turn()
        await second.sender.turn()
        clock.advance(2)
    receiver.gates[URL].set()
    await first.sender.settled()
    await turn(second.sender)

    assert [body for _, _, body in receiver.requests] == [b"r1 0"]
    await first.stop()
    await second.stop()


async def test_a_stopped_sender_gives_back_what_was_on_its_way(
    backend: Backend, clock: HeldClock, receiver: Receiver
) -> None:
    first, second = (hooks_on(backend.store, clock, receiver, seed=seed) for seed in (1, 2))
    await first.create(CALLER, url=URL)
    await happen(backend.store)
    receiver.gates[URL] = asyncio.Event()
    await first.sender.turn()
    await receiver.came.wait()

    await first.stop()
    receiver.gates.clear()
    await turn(second.sender)

    assert [body for _, _, body in receiver.requests] == [b"r1 0", b"r1 0"]


async def test_a_replay_during_an_attempt_is_not_lost(
    store: Store, clock: HeldClock, hooks: Webhooks, receiver: Receiver
) -> None:
    endpoint = await hooks.create(CALLER, url=URL)
    await happen(store)
    receiver.gates[URL] = asyncio.Event()
    await hooks.sender.turn()
    await receiver.came.wait()
    clock.advance(1)
    assert await hooks.replay(CALLER, endpoint.endpoint_id, status="pending") == 1
    receiver.gates[URL].set()
    await hooks.sender.settled()
    between = await only(store, endpoint)
    await turn(hooks.sender)

    assert (between.status, between.tries, len(msgspec.json.decode(between.attempts))) == ("pending", 0, 1)
    assert len(receiver.requests) == 2
    delivery = await only(store, endpoint)
    assert (delivery.status, len(msgspec.json.decode(delivery.attempts))) == ("delivered", 2)


async def test_an_event_that_cannot_be_encoded_holds_up_no_other_and_is_shown(
    store: Store, hooks: Webhooks, receiver: Receiver
) -> None:
    endpoint = await hooks.create(CALLER, url=URL)
    other = await hooks.create(CALLER, url=URL + "/2", agents=("other",))
    hand = await held(store)
    await hand.append(outbox=(OutboxRow("", hand.number, 13, 5), OutboxRow("", hand.number, 14, 5)))

    await turn(hooks.sender)

    assert [body for _, _, body in receiver.requests] == [b"r1 14"]
    assert await store.outbox(limit=9) == []
    assert await store.deliveries(other.endpoint_id) == []
    found = {delivery.sequence: delivery for delivery in await store.deliveries(endpoint.endpoint_id)}
    unread = found[13]
    assert (found[14].status, unread.status, unread.type, unread.next_attempt_at) == (
        "delivered",
        "failed",
        "unreadable",
        None,
    )
    assert [attempt["error"] for attempt in msgspec.json.decode(unread.attempts)] == ["unreadable"]


async def test_one_that_could_not_be_encoded_is_sent_by_a_replay_once_it_can(
    store: Store, clock: HeldClock, hooks: Webhooks, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = await hooks.create(CALLER, url=URL)
    hand = await held(store)
    await hand.append(outbox=(OutboxRow("", hand.number, 13, 5),))
    await turn(hooks.sender)

    assert await hooks.replay(CALLER, endpoint.endpoint_id, status="failed") == 1
    await turn(hooks.sender)

    unread = await only(store, endpoint)
    assert (unread.status, len(msgspec.json.decode(unread.attempts)), receiver.requests) == ("failed", 2, [])

    async def mended(run: Run, sequence: int, shape: str) -> Sequence[Encoded]:
        return [Encoded("msg_1", "run.completed", "production", b"whole")]

    monkeypatch.setattr(hooks.sender, "_encode", mended)
    await hooks.replay(CALLER, endpoint.endpoint_id, status="failed")
    await turn(hooks.sender)
    await turn(hooks.sender)

    assert [body for _, _, body in receiver.requests] == [b"whole"]
    kinds = {delivery.type: delivery.status for delivery in await store.deliveries(endpoint.endpoint_id)}
    assert kinds == {"unreadable": "delivered", "run.completed": "delivered"}


async def test_filters_and_tenants(store: Store, hooks: Webhooks, receiver: Receiver) -> None:
    other = Caller("other", tenant="acme")
    wanted: tuple[tuple[Caller, str, dict[str, Any]], ...] = (
        (CALLER, "all", {}),
        (CALLER, "agent", {"agents": ("agent",)}),
        (CALLER, "no-agent", {"agents": ("another",)}),
        (CALLER, "event", {"events": ("run.started",)}),
        (CALLER, "no-event", {"events": ("run.failed",)}),
        (CALLER, "no-environment", {"environments": ("test",)}),
        (other, "acme", {}),
    )
    for caller, path, fields in wanted:
        await hooks.create(caller, url=f"https://example.com/{path}", **fields)
    await happen(store)
    await happen(store, "theirs", tenant="acme")

    await turn(hooks.sender)

    came = sorted((url.rpartition("/")[2], body) for url, _, body in receiver.requests)
    assert came == [("acme", b"theirs 0"), ("agent", b"r1 0"), ("all", b"r1 0"), ("event", b"r1 0")]
    mine = await hooks.endpoints(CALLER)
    assert len(mine) == 6
    with pytest.raises(EndpointNotFound):
        await hooks.get(other, mine[0].endpoint_id)
    with pytest.raises(EndpointNotFound):
        await hooks.delete(other, mine[0].endpoint_id)


async def test_a_deleted_endpoint_is_sent_nothing_more(store: Store, hooks: Webhooks, receiver: Receiver) -> None:
    endpoint = await hooks.create(CALLER, url=URL)
    await happen(store)
    await hooks.delete(CALLER, endpoint.endpoint_id)
    await happen(store, "r2")

    await turn(hooks.sender)

    assert receiver.requests == []
    assert await hooks.endpoints(CALLER) == []


async def test_a_rotation_signs_with_both_secrets_until_its_overlap_is_over(
    store: Store, clock: HeldClock, hooks: Webhooks, receiver: Receiver
) -> None:
    endpoint = await hooks.create(CALLER, url=URL)
    after = await hooks.rotate(CALLER, endpoint.endpoint_id, 60)
    again = await hooks.rotate(CALLER, endpoint.endpoint_id, 0)
    third = await hooks.rotate(CALLER, endpoint.endpoint_id, 60)
    for number, seconds in enumerate((0, 59, 1)):
        clock.advance(seconds)
        await happen(store, f"r{number}")
        await turn(hooks.sender)

    counts = [len(headers["webhook-signature"].split()) for _, headers, _ in receiver.requests]
    assert counts == [2, 2, 1]
    assert len({item.secrets[0].text for item in (endpoint, after, again, third)}) == 4
    assert [len(item.secrets) for item in (after, again, third)] == [2, 1, 2]


async def test_a_test_is_one_attempt_and_is_kept(store: Store, hooks: Webhooks, receiver: Receiver) -> None:
    endpoint = await hooks.create(CALLER, url=URL)
    good = await hooks.test(CALLER, endpoint.endpoint_id)
    receiver.answer = lambda _: BAD
    bad = await hooks.test(CALLER, endpoint.endpoint_id)
    assert await hooks.replay(CALLER, endpoint.endpoint_id, status="failed") == 0
    await turn(hooks.sender)

    assert (good.status, bad.status, good.type) == ("delivered", "failed", "endpoint.test")
    assert good.event_id != bad.event_id
    assert len(receiver.requests) == 2
    assert [item.delivery_id for item in await store.deliveries(endpoint.endpoint_id)] == [
        bad.delivery_id,
        good.delivery_id,
    ]


async def test_the_endpoint_of_a_run_hears_of_that_run_alone(store: Store, hooks: Webhooks, receiver: Receiver) -> None:
    endpoint = await hooks.wish(CALLER, Wish(url=URL))
    await happen(store, "other")
    number = await happen(store, "mine", metadata={"webhook_endpoint": endpoint.endpoint_id})
    await turn(hooks.sender)  # before whoever started the run could say that it did

    assert [body for _, _, body in receiver.requests] == [b"mine 0"]
    assert (await hooks.get(CALLER, endpoint.endpoint_id)).number == number
    assert await hooks.endpoints(CALLER) == []


async def test_a_wish_that_came_to_nothing_leaves_nothing(store: Store, hooks: Webhooks) -> None:
    endpoint = await hooks.wish(CALLER, Wish(url=URL))

    await hooks.settle(endpoint, None)

    with pytest.raises(EndpointNotFound):
        await hooks.get(CALLER, endpoint.endpoint_id)


async def test_a_wish_that_a_crash_left_behind_is_forgotten_after_a_day(
    store: Store, clock: HeldClock, hooks: Webhooks
) -> None:
    left = await hooks.wish(CALLER, Wish(url=URL))
    taken = await hooks.wish(CALLER, Wish(url=URL))
    await hooks.settle(taken, await happen(store))
    clock.advance(24 * 3600 - 1)
    early = await hooks.prune()
    clock.advance(2)

    assert (early, await hooks.prune()) == (0, 1)
    assert (await hooks.get(CALLER, taken.endpoint_id)).number is not None
    with pytest.raises(EndpointNotFound):
        await hooks.get(CALLER, left.endpoint_id)


async def test_a_wish_needs_a_secret_and_a_url_that_is_let_through(
    store: Store, clock: HeldClock, receiver: Receiver
) -> None:
    hooks = hooks_on(store, clock, receiver)

    with pytest.raises(WebhookSecretRequired):
        await hooks.wish(CALLER, Wish(url=URL))
    with pytest.raises(WebhookUrlRefused):
        await hooks.wish(CALLER, Wish(url="https://127.0.0.1/", secret=SECRET))
    with pytest.raises(InvalidRequest):
        await hooks.wish(CALLER, Wish(url=URL, secret="whsec_short"))
    assert (await hooks.wish(CALLER, Wish(url=URL, secret=SECRET))).secrets[0].text == SECRET
    await hooks.stop()


async def test_deliveries_are_forgotten_after_thirty_days(
    store: Store, clock: HeldClock, hooks: Webhooks, receiver: Receiver
) -> None:
    endpoint = await hooks.create(CALLER, url=URL)
    await happen(store)
    await turn(hooks.sender)

    clock.advance(KEPT_MICROSECONDS / SECOND)
    assert await hooks.prune() == 0
    clock.advance(1)
    assert await hooks.prune() == 1
    assert await store.deliveries(endpoint.endpoint_id) == []


async def test_an_endpoint_of_skills_hears_of_one_event_under_each_of_its_names(
    store: Store, hooks: Webhooks, receiver: Receiver
) -> None:
    await hooks.create(CALLER, url=URL)
    endpoint = await hooks.create(CALLER, url=URL, secret="any text", shape=SKILLS)
    await happen(store)

    await turn(hooks.sender)

    found = await store.deliveries(endpoint.endpoint_id)
    assert [delivery.event_id for delivery in found] == ["msg_r1_0_2", "msg_r1_0"]
    assert [delivery.status for delivery in found] == ["delivered", "delivered"]
    signed = [headers.get("X-Webhook-Signature") for _, headers, _ in receiver.requests]
    digest = hmac.new(b"any text", b"r1 0", hashlib.sha256).hexdigest()
    assert sorted(filter(None, signed)) == [f"sha256={digest}"] * 2
    assert [endpoint.endpoint_id] == [item.endpoint_id for item in await hooks.endpoints(CALLER, shape=SKILLS)]
    assert endpoint not in await hooks.endpoints(CALLER)
