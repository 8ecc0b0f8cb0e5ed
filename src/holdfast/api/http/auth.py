"""
Who calls: one authenticator for all APIs and all sources of keys.

Keys come from the store (rows that the CLI adds and revokes), from the environment and flags, and from a Dockfile, which
may have tokens of another issuer taken too (see bearers.py). Only SHA-256 hashes are kept. The store's rows are held in memory and read again every REFRESH_SECONDS, so a request costs no read, and a
revoked key is refused after that time; the streams that it opened see `Grant.is_revoked` and end.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from holdfast.access import INVOKE, PERMISSIONS, Access, DeclaredKey, Rights
from holdfast.api.http.stream_tokens import Claims, NotAToken, key_mark, seal, unseal
from holdfast.clock import Clock, SystemClock
from holdfast.errors import KeyRotationPending, StoreError, Unauthenticated
from holdfast.ids import Ids
from holdfast.model import ApiKey
from holdfast.runs import NO_ROLE, Caller
from holdfast.store.base import Store
from holdfast.tokens import looks_like_token

if TYPE_CHECKING:
    from holdfast.api.http.bearers import Bearers

log = structlog.get_logger(__name__)

# Revoked keys are refused within 5 s; one second is left for the read itself.
REFRESH_SECONDS = 4.0
DEVELOPMENT_KEY: Final = "dev-engine-key"
DEFAULT_TRUST: Final = "standard"

# The first header that is present decides, even if it is wrong and another one would be right.
KEY_HEADERS: Final = (b"x-engine-key", b"x-api-key")


class Grant:
    """
    A key that is in force, for as long as `is_revoked` is false. One object for all its calls.

    With a `run_id` it is the grant of a stream token, which opens the reading of that run alone and ends with the
    grant of the key that made it.
    """

    __slots__ = ("_is_revoked", "_maker", "caller", "hash", "run_id")

    def __init__(self, caller: Caller, hash: str, *, run_id: str | None = None, maker: Grant | None = None) -> None:
        self.caller = caller
        self.hash = hash
        self.run_id = run_id
        self._maker = maker
        self._is_revoked = False

    @property
    def is_revoked(self) -> bool:
        return self._is_revoked or (self._maker is not None and self._maker.is_revoked)

    @is_revoked.setter
    def is_revoked(self, value: bool) -> None:
        self._is_revoked = value


ANYBODY: Final = Grant(Caller("", role="admin"), "")
"""The caller where no key is asked for: a server without authentication."""

UNASKED: Final = Grant(Caller("", role="reader"), "")
"""The caller of a WebSocket that came without a credential, until its first message brings one."""

NOBODY: Final = Grant(Caller("", role="reader"), "")
"""The caller of public calls, which show nothing of any run."""


class Authenticator:
    """Made once per server; used on its event loop."""

    def __init__(
        self,
        fixed: Sequence[Grant] = (),
        *,
        header: str | None = None,
        is_open: bool = False,
        allow_bearer: bool = True,
        bearers: Bearers | None = None,
        clock: Clock | None = None,
        trust: Mapping[str, str] | None = None,
    ) -> None:
        """`trust` is that of keys by their names, `*` for all that it does not name."""
        self.is_open = is_open
        self._trust = trust or {}
        self.anybody = self._trusted(ANYBODY)
        self._clock = clock or SystemClock()
        self.bearers = bearers
        self._allow_bearer = allow_bearer
        self._fixed = {grant.hash: self._trusted(grant) for grant in fixed}
        self._stored: dict[str, Grant] = {}
        self._replaced: frozenset[str] = frozenset()  # hashes of rotated keys whose overlap is over
        names = [KEY_HEADERS[0], *([header.lower().encode()] if header else []), *KEY_HEADERS[1:]]
        self._headers: tuple[bytes, ...] = tuple(dict.fromkeys(names))
        self._wanted = _wanted(header, allow_bearer=allow_bearer, takes_tokens=bearers is not None)
        self._secret = b""
        self._makers: dict[str, Grant] | None = None
        self._task: asyncio.Task[None] | None = None

    def authenticate(self, headers: Sequence[tuple[bytes, bytes]]) -> Grant:
        """
        The grant of the key in these headers.

        Raises:
            Unauthenticated: none, or one that is not in force; `reason` says which.
        """
        if self.is_open:
            return self.anybody
        credential, is_bearer = self._credential(headers)
        if credential is None:
            raise Unauthenticated(self._wanted, reason="missing_credentials")
        return self.grant_of_bearer(credential) if is_bearer else self.grant_of(credential)

    async def prepare(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Fetch what `authenticate` will need: the keys of the issuer of a token. Without tokens, nothing."""
        if self.bearers is not None:
            credential, is_bearer = self._credential(headers)
            if credential is not None and is_bearer:
                await self.bearers.prepare(credential)

    def grant_of_bearer(self, credential: bytes) -> Grant:
        """
        The grant of what came as `Authorization: Bearer`: a token where those are taken, else a key.

        Raises:
            Unauthenticated
            CapacityError: the keys of the token's issuer are not known yet.
        """
        if self.bearers is not None and looks_like_token(credential):
            return self.bearers.grant_of(credential)
        if not self._allow_bearer:
            raise Unauthenticated(self._wanted, reason="missing_credentials")
        return self.grant_of(credential)

    def grant_of(self, key: bytes) -> Grant:
        """
        The grant of a key.

        Raises:
            Unauthenticated
        """
        digest = hashlib.sha256(key).hexdigest()
        # The lookup is by a hash, whose timing tells nothing about the key.
        grant = self._stored.get(digest) or self._fixed.get(digest)
        if grant is None and digest in self._replaced:
            raise KeyRotationPending("this API key was replaced by a newer one", reason="invalid_credentials")
        if grant is None or not hmac.compare_digest(grant.hash, digest):
            raise Unauthenticated("this API key is not known, or was revoked", reason="invalid_credentials")
        return grant

    # Stream tokens

    def use_secret(self, secret: str) -> None:
        """Sign and read stream tokens with the store's secret, which all its processes have."""
        self._secret = secret.encode()

    def stream_token(self, grant: Grant, run_id: str, expires_at: int) -> tuple[str, int]:
        """
        A token in the name of this grant, for reading one run of its tenant until then, and until when it holds
        indeed: not longer than the token of another issuer that its maker came with. Times are microseconds.
        """
        caller = grant.caller
        if self._stored.get(grant.hash) is grant or self._fixed.get(grant.hash) is grant:
            claims = Claims(run_id, caller.tenant, expires_at, key_mark(self._secret, grant.hash))
        else:
            ends = None if self.bearers is None else self.bearers.expiry_of(grant)
            expires_at = expires_at if ends is None else min(expires_at, int(ends * 1_000_000))
            claims = Claims(run_id, caller.tenant, expires_at, "", caller.name)
        return seal(self._secret, claims), expires_at

    def grant_of_token(self, token: str, now: int) -> Grant:
        """
        The grant of a stream token.

        Raises:
            Unauthenticated: it is none, its time is over, or its key is not in force.
        """
        try:
            claims = unseal(self._secret, token)
        except NotAToken:
            raise Unauthenticated("this stream token is not known", reason="invalid_credentials") from None
        if claims.expires_at <= now:
            raise Unauthenticated(
                "this stream token has expired: get a new one from POST /runs/{id}/stream-token", reason="token_expired"
            )
        if not claims.maker and not claims.caller:
            raise Unauthenticated(
                "this stream token is of a time when no key was asked for", reason="invalid_credentials"
            )
        if not claims.maker:
            return Grant(Caller(claims.caller, claims.tenant, "reader", permissions=()), "", run_id=claims.run_id)
        maker = self._known_makers().get(claims.maker)
        if maker is None or maker.caller.tenant != claims.tenant:
            raise Unauthenticated("the key that made this stream token was revoked", reason="invalid_credentials")
        caller = Caller(maker.caller.name, claims.tenant, "reader", maker.caller.trust, permissions=())
        return Grant(caller, "", run_id=claims.run_id, maker=maker)

    def _known_makers(self) -> dict[str, Grant]:
        if self._makers is None:
            grants = (*self._fixed.values(), *self._stored.values())
            self._makers = {key_mark(self._secret, grant.hash): grant for grant in grants}
        return self._makers

    def _credential(self, headers: Sequence[tuple[bytes, bytes]]) -> tuple[bytes | None, bool]:
        """The credential that decides, and whether it came as a bearer's."""
        found: dict[bytes, bytes] = {}
        for name, value in headers:
            if name in self._headers or name == b"authorization":
                found.setdefault(name, value)
        for name in self._headers:
            if name in found:
                return found[name].strip(), False
        scheme, _, credential = found.get(b"authorization", b"").partition(b" ")
        return (credential.strip(), True) if scheme.lower() == b"bearer" else (None, False)

    def _trusted(self, grant: Grant) -> Grant:
        """The grant with the trust that is set for its key."""
        trust = self._trust_of(grant.caller.name)
        if trust is None:
            return grant
        return Grant(msgspec.structs.replace(grant.caller, trust=trust), grant.hash)

    def _trust_of(self, name: str) -> str | None:
        return self._trust.get(name) or self._trust.get("*")

    def add(self, grant: Grant) -> None:
        """Let one more key in, for as long as this process lives."""
        self._fixed[grant.hash] = self._trusted(grant)
        self._makers = None

    async def refresh(self, store: Store) -> None:
        """Take over what the store's key rows say now."""
        rows, now = await store.keys(), self._clock.now()
        newest = newest_of(rows)
        before, after = self._stored, dict[str, Grant]()
        for row in rows:
            if is_in_force(row, newest[row.name], now):
                caller = Caller(row.name, row.tenant, row.role, self._trust_of(row.name) or DEFAULT_TRUST)
                known = before.get(row.hash)
                after[row.hash] = known if known is not None and known.caller == caller else Grant(caller, row.hash)
        self._stored = after
        self._replaced = frozenset(rotated(rows) - after.keys())
        if after != before:
            self._makers = None
        for grant in before.values():
            grant.is_revoked = after.get(grant.hash) is not grant

    async def start(self, store: Store, guard: Callable[[asyncio.Task[None]], None]) -> None:
        """Read the keys, and keep reading them until `stop`; `guard` is given the task that does."""
        await self.refresh(store)
        if self.bearers is not None:
            self.bearers.start()
        self._task = asyncio.create_task(self._refresh_forever(store), name="keys")
        guard(self._task)

    async def stop(self) -> None:
        if self.bearers is not None:
            await self.bearers.stop()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _refresh_forever(self, store: Store) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            try:
                await self.refresh(store)
            except StoreError as error:
                # The keys as they were stay in force: a store that hiccups must not lock everybody out.
                log.warning("keys_not_read", reason=error.code)


def _wanted(header: str | None, *, allow_bearer: bool, takes_tokens: bool) -> str:
    names = [*([header] if header and header.lower() != "x-api-key" else []), "X-API-Key", "X-Engine-Key"]
    key = f"an API key in the header {', '.join(names[:-1])} or {names[-1]}"
    if takes_tokens:
        return f"send a token as Authorization: Bearer, or {key}"
    return f"send {key}{', or as Authorization: Bearer' if allow_bearer else ''}"


def newest_of(rows: Sequence[ApiKey]) -> dict[str, ApiKey]:
    """The last key of each name."""
    return {row.name: row for row in sorted(rows, key=lambda row: row.created_at)}


def is_in_force(key: ApiKey, newest: ApiKey, now: int) -> bool:
    """
    Whether a key is good at this time. One that was rotated has its end in the future, and is good until then as long as
    the key that replaced it is.
    """
    if key.revoked_at is None:
        return True
    return key.revoked_at > now and newest is not key and is_in_force(newest, newest, now)


def rotated(rows: Sequence[ApiKey]) -> set[str]:
    """
    The hashes of keys that were rotated: a newer key of the name came before their end. After a revocation a name is
    free, and not before.
    """
    found = set[str]()
    for _, same in itertools.groupby(sorted(rows, key=lambda row: (row.name, row.created_at)), lambda row: row.name):
        for key, following in itertools.pairwise(same):
            if key.revoked_at is not None and following.created_at <= key.revoked_at:
                found.add(key.hash)
    return found


def key_hash(key: str) -> str:
    """The SHA-256 of a key in hex: all that is ever kept of it."""
    return hashlib.sha256(key.encode()).hexdigest()


def environment_grants(keys: Sequence[str], hashes: Sequence[str]) -> list[Grant]:
    """Admin keys of the tenant `default`, from plain keys and from hashes."""
    all_hashes = dict.fromkeys([*map(key_hash, keys), *(item.lower() for item in hashes)])
    names = ["environment", *(f"environment-{number}" for number in range(2, len(all_hashes) + 1))]
    return [Grant(Caller(name), item) for name, item in zip(names, all_hashes, strict=False)]


def declared_grants(access: Access) -> list[Grant]:
    """The keys that a Dockfile declares, all of the tenant `default`."""
    return [Grant(_declared_caller(access, key), key.hash) for key in access.keys]


def _declared_caller(access: Access, key: DeclaredKey) -> Caller:
    rights = access.rights(key.roles)
    if key.roles is None:
        return Caller(key.name, role="admin", permissions=PERMISSIONS, rate=rights.rate)
    return Caller(key.name, role=role_of(rights), permissions=rights.permissions, rate=rights.rate)


def role_of(rights: Rights) -> str:
    """The role of a caller whose permissions are declared: whoever may invoke may do all that a run needs."""
    return "executor" if INVOKE in rights.permissions else NO_ROLE


async def create_first_key(store: Store, clock: Clock, ids: Ids) -> str | None:
    """
    The plain text of a new admin key `first`, if the store has never had any key; else None.

    It is shown to the user once: only its hash is kept.
    """
    if await store.keys():
        return None
    key = ids.secret("hf")
    row = ApiKey(name="first", hash=key_hash(key), role="admin", tenant="default", created_at=clock.now())
    return key if await store.add_key(row) else None
