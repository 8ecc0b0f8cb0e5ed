"""
Whether a webhook comes from the server: Standard Webhooks, `v1` signatures. No I/O.

Who sends is shown by the signature, when by the timestamp that it covers: a delivery that was listened to cannot be
sent again later than the tolerance, and within it, it has the same id.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from holdfast.client.workflow.errors import WebhookRejected

TOLERANCE_SECONDS: Final = 300
_PREFIX: Final = "whsec_"


def verify_webhook(
    body: bytes | str,
    headers: Mapping[str, str],
    secrets: str | Sequence[str],
    *,
    tolerance: float = TOLERANCE_SECONDS,
) -> dict[str, Any]:
    """
    The decoded body of a delivery that one of the secrets signed, not longer ago, or ahead, than `tolerance` seconds.

    Args:
        body: the bytes as they came; decoded and encoded again, they are other ones.
        headers: `webhook-id`, `webhook-timestamp` and `webhook-signature`, in any case.
        secrets: one or, during a rotation, several.

    Raises:
        WebhookRejected: 401: it is not shown to come from the server; 400: it does, and is no JSON object.
        ValueError: a secret is none.
    """
    raw = body.encode() if isinstance(body, str) else body
    keys = [_key(secret) for secret in ([secrets] if isinstance(secrets, str) else secrets)]
    event_id, timestamp, signatures = (_header(headers, f"webhook-{name}") for name in ("id", "timestamp", "signature"))
    if not (timestamp.isascii() and timestamp.isdigit() and abs(time.time() - int(timestamp[:15])) <= tolerance):
        raise WebhookRejected(f"the webhook-timestamp is not within {tolerance:g} s of now", status_code=401)
    signed = f"{event_id}.{timestamp}.".encode() + raw
    expected = [base64.b64encode(hmac.digest(key, signed, hashlib.sha256)) for key in keys]
    given = [
        value.encode() for version, _, value in (item.partition(",") for item in signatures.split()) if version == "v1"
    ]
    # Every pair is compared, so that the time tells nothing about which one fits.
    if not sum([hmac.compare_digest(one, other) for one in expected for other in given]):
        raise WebhookRejected("no webhook-signature is by one of the secrets", status_code=401)
    try:
        decoded = json.loads(raw)
    except (ValueError, RecursionError):
        decoded = None
    if not isinstance(decoded, dict):
        raise WebhookRejected("the body is no JSON object", status_code=400)
    return decoded


def event_id_of(headers: Mapping[str, str]) -> str:
    """The `webhook-id`, the same for every delivery of an event."""
    return _header(headers, "webhook-id")


def checked_secrets(secrets: str | Sequence[str]) -> tuple[str, ...]:
    """
    The secrets as a list that is known to be usable.

    Raises:
        ValueError
    """
    found = (secrets,) if isinstance(secrets, str) else tuple(secrets)
    if not found:
        raise ValueError("expected at least one secret")
    for secret in found:
        _key(secret)
    return found


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not 24 <= len(key) <= 64:
        raise ValueError("a secret is whsec_ and the base64 of 24 to 64 bytes")
    return key


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name)
    if value is None:
        value = next((value for key, value in headers.items() if key.lower() == name), None)
    if not value:
        raise WebhookRejected(f"the header {name} is missing", status_code=401)
    return value
