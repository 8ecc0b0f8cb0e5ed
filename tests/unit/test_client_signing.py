"""Deliveries are taken as the server's when, and only when, one of the secrets signed them lately."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final

import pytest
from standardwebhooks.webhooks import Webhook

from holdfast.client.workflow import WebhookRejected, verify_webhook

# The vector of the specification.
SECRET: Final = "whsec_aG9sZGZhc3QtZXhhbXBsZS1zZWNyZXQtMzItYnl0ZXM="
OTHER: Final = "whsec_b3RoZXItaG9sZGZhc3Qtc2VjcmV0LTMyLWJ5dGVzLWxvbmc="
AT: Final = 1795219223
EVENT_ID: Final = "msg_660d78ee1ab1f1aa0a3bc0804453766f"
BODY: Final = (
    b'{"type":"run.completed","event_id":"msg_660d78ee1ab1f1aa0a3bc0804453766f","seq":8,'
    b'"occurred_at":"2026-11-21T00:00:22.104311Z","task_id":17,"status":"completed"}'
)
HEADERS: Final = {
    "Webhook-Id": EVENT_ID,
    "Webhook-Timestamp": str(AT),
    "Webhook-Signature": "v1,UI0+cyVQbXWXmPEkJaMpirm/wtsRFYZgzIwnpOjJgDg=",
}


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, AT)


def _set(monkeypatch: pytest.MonkeyPatch, at: float) -> None:
    monkeypatch.setattr(time, "time", lambda: float(at))


@pytest.mark.usefixtures("now")
def test_the_published_vector_is_taken() -> None:
    assert verify_webhook(BODY, HEADERS, SECRET)["task_id"] == 17


@pytest.mark.usefixtures("now")
def test_during_a_rotation_either_secret_and_either_signature_will_do() -> None:
    two = {**HEADERS, "Webhook-Signature": f"v1,{'A' * 43}= {HEADERS['Webhook-Signature']}"}

    assert verify_webhook(BODY, two, [OTHER, SECRET])["seq"] == 8


@pytest.mark.usefixtures("now")
@pytest.mark.parametrize("place", [0, len(BODY) // 2, len(BODY) - 1])
def test_a_flipped_bit_is_refused(place: int) -> None:
    changed = bytearray(BODY)
    changed[place] ^= 1

    with pytest.raises(WebhookRejected) as refused:
        verify_webhook(bytes(changed), HEADERS, SECRET)

    assert refused.value.status_code == 401


@pytest.mark.usefixtures("now")
def test_another_secret_is_refused() -> None:
    with pytest.raises(WebhookRejected):
        verify_webhook(BODY, HEADERS, OTHER)


@pytest.mark.parametrize(("seconds", "is_taken"), [(-301, False), (-300, True), (300, True), (301, False)])
def test_what_is_older_or_younger_than_the_tolerance_is_refused(
    monkeypatch: pytest.MonkeyPatch, seconds: int, is_taken: bool
) -> None:
    _set(monkeypatch, AT + seconds)

    if is_taken:
        assert verify_webhook(BODY, HEADERS, SECRET)["seq"] == 8
    else:
        with pytest.raises(WebhookRejected):
            verify_webhook(BODY, HEADERS, SECRET)


def test_what_the_reference_library_signs_is_taken() -> None:
    at = datetime.now(UTC)
    signature = Webhook(SECRET).sign(EVENT_ID, at, BODY.decode())
    headers = {
        "webhook-id": EVENT_ID,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": signature,
    }

    assert verify_webhook(BODY, headers, SECRET)["event_id"] == EVENT_ID


@pytest.mark.parametrize("name", HEADERS)
def test_without_a_header_it_is_refused(name: str) -> None:
    with pytest.raises(WebhookRejected, match=name.lower()):
        verify_webhook(BODY, {key: value for key, value in HEADERS.items() if key != name}, SECRET)
