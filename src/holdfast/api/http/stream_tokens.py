"""
Stream tokens: what opens the reading of one run to a page that can set no header. No I/O.

    hst_ base64url( claims as JSON , HMAC-SHA256(secret, claims) )

Nothing is stored. The secret is the store's, so every process of a store reads the tokens of all others. The claims
name the key that made the token (by a keyed hash, which tells nothing about the key), so a token dies with its key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final

import msgspec

PREFIX: Final = "hst_"
SECONDS_MIN: Final = 10
SECONDS_MAX: Final = 3600
SECONDS_DEFAULT: Final = 900
_MAC_BYTES: Final = 32


class Claims(msgspec.Struct, frozen=True, array_like=True):
    """What a token says: which run, until when, and in whose name."""

    run_id: str
    tenant: str
    expires_at: int  # microseconds
    maker: str  # `key_mark` of the key; empty for a caller without a key of ours, like one with a JWT
    caller: str = ""  # the caller's name, where there is no key to look it up by


class NotAToken(ValueError):
    """The text was not made by `seal` with this secret."""


def seal(secret: bytes, claims: Claims) -> str:
    """The token of these claims."""
    text = msgspec.json.encode(claims)
    return PREFIX + base64.urlsafe_b64encode(text + _mac(secret, text)).decode().rstrip("=")


def unseal(secret: bytes, token: str) -> Claims:
    """
    What a token says. Whether it still holds is for the caller to see.

    Raises:
        NotAToken
    """
    if not token.startswith(PREFIX):
        raise NotAToken(f"a stream token begins with {PREFIX}")
    encoded = token[len(PREFIX) :]
    try:
        sealed = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise NotAToken("the token is no base64url") from None
    text, mac = sealed[:-_MAC_BYTES], sealed[-_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(secret, text)):
        raise NotAToken("the token was not made here, or was changed")
    return msgspec.json.decode(text, type=Claims)


def key_mark(secret: bytes, key_hash: str) -> str:
    """How tokens name a key: nobody without the secret can tell which key it is, or guess at it."""
    return hmac.digest(secret, b"key " + key_hash.encode(), hashlib.sha256).hex()[:32]


def _mac(secret: bytes, text: bytes) -> bytes:
    return hmac.digest(secret, b"token " + text, hashlib.sha256)
