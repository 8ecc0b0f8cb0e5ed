"""
Secrets and signatures as Standard Webhooks has them: `v1,` and the base64 of an HMAC-SHA256 over `id.timestamp.body`.

No I/O.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

PREFIX: Final = "whsec_"
BYTES_MIN: Final = 24
BYTES_MAX: Final = 64
OUR_BYTES: Final = 32


def new_secret() -> str:
    """A secret that nobody can guess."""
    return PREFIX + base64.b64encode(secrets.token_bytes(OUR_BYTES)).decode()


def is_secret(text: str) -> bool:
    """Whether a text is `whsec_` and the base64 of 24 to 64 bytes."""
    try:
        return text.startswith(PREFIX) and BYTES_MIN <= len(_key(text)) <= BYTES_MAX
    except (binascii.Error, ValueError):
        return False


def signed_headers(event_id: str, seconds: int, body: bytes, with_secrets: Sequence[str]) -> dict[str, str]:
    """The headers of one attempt; a signature by each secret."""
    content = f"{event_id}.{seconds}.".encode() + body
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(_signature(secret, content) for secret in with_secrets),
    }


def plain_signature(body: bytes, secret: str) -> dict[str, str]:
    """The header of receivers that know no Standard Webhooks: an HMAC over the body alone, by the secret as a text."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-Webhook-Signature": f"sha256={digest}"}


def _signature(secret: str, content: bytes) -> str:
    digest = hmac.new(_key(secret), content, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def _key(secret: str) -> bytes:
    if not secret.startswith(PREFIX):
        return secret.encode()  # of an endpoint whose API takes any text
    return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
