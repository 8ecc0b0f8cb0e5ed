"""The receiver as an ASGI application: what it answers, and what it keeps of that."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from holdfast.client.workflow import MemoryLedger, WebhookReceiver, WorkflowClient
from holdfast.client.workflow.receiver import BODY_BYTES_MAX

SECRET = "whsec_aG9sZGZhc3QtZXhhbXBsZS1zZWNyZXQtMzItYnl0ZXM="
ENDED = {"type": "run.completed", "event_id": "msg_1", "agent_id": "a", "agent_name": "clock", "task_id": 1}


def signed(body: bytes, event_id: str = "msg_1") -> dict[str, str]:
    moment = datetime.fromtimestamp(int(time.time()), UTC)
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(SECRET).sign(event_id, moment, body.decode()),
    }


class Desk:
    """A receiver, what reaches its handler, and a way to post to it."""

    def __init__(self) -> None:
        self.ended: list[Any] = []
        self.fails = False
        self.ledger = MemoryLedger()
        self.client = WorkflowClient("http://127.0.0.1:1", ledger=self.ledger)
        self.receiver = WebhookReceiver(self.client, SECRET, agent_handlers={"clock": self.end})
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(self.receiver.asgi()), base_url="http://desk")

    async def end(self, result: Any) -> None:
        if self.fails:
            raise RuntimeError("not now")
        self.ended.append(result.task_id)

    async def post(self, body: bytes, headers: dict[str, str]) -> int:
        return (await self.http.post("/any/path", content=body, headers=headers)).status_code


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    yield made
    await made.receiver.settle()
    await made.http.aclose()
    await made.client.aclose()


async def test_a_delivery_reaches_the_handler_once(desk: Desk) -> None:
    body = json.dumps(ENDED).encode()

    statuses = [await desk.post(body, signed(body)) for _ in range(2)]
    await desk.receiver.settle()

    assert statuses == [200, 200]
    assert desk.ended == [1]
    assert await desk.ledger.take_events() == []


async def test_what_a_handler_did_not_finish_is_done_at_the_next_start(desk: Desk) -> None:
    body = json.dumps(ENDED).encode()
    desk.fails = True
    await desk.post(body, signed(body))
    await desk.receiver.settle()
    left = await desk.ledger.take_events()

    desk.fails = False
    await desk.receiver.reconcile([])

    assert left == [("msg_1", body)]
    assert desk.ended == [1]
    assert await desk.ledger.take_events() == []


@pytest.mark.parametrize(
    ("body", "signed_body", "status"),
    [
        pytest.param(b"{}", b"[]", 401, id="another body"),
        pytest.param(b"no JSON", b"no JSON", 400, id="no JSON"),
        pytest.param(b" " * (BODY_BYTES_MAX + 1), b"{}", 413, id="too large"),
    ],
)
async def test_what_is_refused_leaves_nothing(desk: Desk, body: bytes, signed_body: bytes, status: int) -> None:
    assert await desk.post(body, signed(signed_body)) == status
    assert await desk.ledger.take_events() == []


async def test_only_posts_are_taken(desk: Desk) -> None:
    assert (await desk.http.get("/")).status_code == 405


async def test_an_event_that_asks_for_nothing_is_done(desk: Desk) -> None:
    body = json.dumps({"type": "endpoint.test", "event_id": "msg_2", "status": "test"}).encode()

    status = await desk.post(body, signed(body, "msg_2"))
    await desk.receiver.settle()

    assert status == 200
    assert await desk.ledger.take_events() == []
