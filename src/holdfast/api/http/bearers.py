"""
Callers with a token of another issuer: its keys are fetched and kept fresh here, its claims become a `Grant`.

The issuer's keys are read at the start and every REFRESH_SECONDS; a token with a key that is not known has them read
at once, but not more often than every UNKNOWN_SECONDS, so that forged tokens cost the issuer nothing. While it cannot be
reached, the keys as they were stay in force.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final

import msgspec
import structlog

from holdfast.access import Access, TokenRules
from holdfast.api.http.auth import Grant, role_of
from holdfast.clock import Clock
from holdfast.errors import Unauthenticated
from holdfast.runs import Caller
from holdfast.tokens import Bearer, TokenVerifier

log = structlog.get_logger(__name__)

REFRESH_SECONDS = 300.0
UNKNOWN_SECONDS = 10.0
# Before the issuer answered for the first time, calls do not queue up behind one attempt after the other.
RETRY_SECONDS = 1.0
FETCH_SECONDS = 5.0
KEY_SET_BYTES_MAX: Final = 1024 * 1024
# Checking a signature costs more than the rest of a small call; a token is checked once and then known by its hash.
KNOWN_MAX: Final = 1024


class Bearers:
    """Made once per server; used on its event loop."""

    def __init__(self, access: Access, rules: TokenRules, clock: Clock) -> None:
        self._access = access
        self._url = rules.jwks_url
        self._clock = clock
        self._verifier = TokenVerifier(rules)
        self._known: dict[str, tuple[Grant, float | None]] = {}
        self._fetching: asyncio.Task[None] | None = None
        self._fetched_at: float | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Read the issuer's keys, and keep reading them until `stop`."""
        if self._url is not None:
            self._task = asyncio.create_task(self._refresh_forever(), name="jwks")

    async def stop(self) -> None:
        tasks = [task for task in (self._task, self._fetching) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def prepare(self, token: bytes) -> None:
        """Have the issuer's keys read (again) if this token's is not among those that are known."""
        if not self._verifier.lacks_key_of(token):
            return
        pause = UNKNOWN_SECONDS if self._verifier.has_key_set else RETRY_SECONDS
        is_recent = self._fetched_at is not None and self._clock.monotonic() - self._fetched_at < pause
        if self._fetching is None and not is_recent:
            self._fetching = asyncio.create_task(self._fetch(), name="jwks fetch")
        if self._fetching is not None:
            # Shared: whoever leaves does not stop it for the others.
            await asyncio.shield(self._fetching)

    def grant_of(self, token: bytes) -> Grant:
        """
        The grant of a token.

        Raises:
            Unauthenticated: `reason` is token_expired or invalid_credentials.
            CapacityError: the issuer's keys are not known yet.
        """
        digest = hashlib.sha256(token).hexdigest()
        known = self._known.get(digest)
        if known is not None:
            grant, expires_at = known
            if expires_at is None or self._clock.now() / 1_000_000 < expires_at:
                return grant
            del self._known[digest]
            raise Unauthenticated("this token has expired: get a new one", reason="token_expired")
        bearer = self._verifier.verify(token)
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        grant = Grant(self._caller(bearer), digest)
        self._known[digest] = grant, bearer.expires_at
        return grant

    def expiry_of(self, grant: Grant) -> float | None:
        """When the token of a grant runs out, in seconds since 1970; None: never, or it is none of ours."""
        known = self._known.get(grant.hash)
        return None if known is None else known[1]

    def _caller(self, bearer: Bearer) -> Caller:
        rights = self._access.rights(bearer.roles, bearer.permissions)
        return Caller(bearer.user, bearer.tenant, role_of(rights), permissions=rights.permissions, rate=rights.rate)

    async def _refresh_forever(self) -> None:
        while True:
            if self._fetching is None:
                self._fetching = asyncio.create_task(self._fetch(), name="jwks fetch")
            await asyncio.shield(self._fetching)
            await asyncio.sleep(REFRESH_SECONDS if self._verifier.has_key_set else UNKNOWN_SECONDS)

    async def _fetch(self) -> None:
        """Read the key set. What goes wrong is logged; the keys as they were stay in force."""
        assert self._url is not None
        import httpx2

        try:
            async with httpx2.AsyncClient(timeout=FETCH_SECONDS) as client:
                reply = await client.get(self._url, headers={"accept": "application/json"})
            reply.raise_for_status()
            if len(reply.content) > KEY_SET_BYTES_MAX:
                raise ValueError(f"it is over {KEY_SET_BYTES_MAX} bytes")
            self._verifier.take_key_set(msgspec.json.decode(reply.content))
            # A key that is gone must take its tokens with it.
            self._known.clear()
        except (httpx2.HTTPError, ValueError, msgspec.DecodeError) as error:
            log.warning("jwks_not_read", url=self._url, message=str(error) or type(error).__name__)
        finally:
            self._fetched_at = self._clock.monotonic()
            self._fetching = None
