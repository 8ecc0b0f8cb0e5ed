"""
Who may call and what they may do, as a Dockfile declares it: keys, roles, rates, and how tokens are read. No I/O.

A server without a Dockfile has the empty `Access`: its callers are its key rows and the keys of its settings.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from holdfast.rates import Rate

INVOKE: Final = "invoke"
PERMISSIONS: Final = ("deploy", "rollback", INVOKE, "view_metrics", "key_manage", "read_logs", "read_docs")
"""Every permission that a role may have; only invoke, view_metrics and read_docs open calls here."""

DEFAULT_RATE: Final = "default"
ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA"),
    *("HS256", "HS384", "HS512"),
)


class Role(msgspec.Struct, frozen=True):
    """A name, and what its bearer may do."""

    name: str
    permissions: tuple[str, ...]


class DeclaredKey(msgspec.Struct, frozen=True):
    """A key from a variable that the Dockfile names; of the key itself, only its hash."""

    name: str
    hash: str
    roles: tuple[str, ...] | None  # None: all of them, and an admin


class TokenRules(msgspec.Struct, frozen=True, kw_only=True):
    """Which JSON Web Tokens are taken, and which of their claims mean what. Claims may be paths: `a.b`."""

    jwks_url: str | None = None
    public_key: str | None = None  # PEM, or with HS… the shared secret
    issuer: str | None = None
    audience: str | None = None
    algorithms: tuple[str, ...] = ("RS256",)
    leeway_seconds: int = 30
    user_claim: str = "sub"
    tenant_claim: str | None = None  # None: each user is a tenant
    roles_claim: str = "roles"
    permissions_claim: str = "permissions"
    scopes_claim: str = "scope"

    def __repr__(self) -> str:
        return f"TokenRules(issuer={self.issuer!r}, …)"  # the key may be a secret


class Rights(msgspec.Struct, frozen=True):
    """What a caller may do, and how often it may start a run."""

    permissions: tuple[str, ...]
    rate: Rate | None


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """What a Dockfile says of callers."""

    mode: Literal["none", "api_key", "jwt"] | None = None  # None: nothing is declared
    keys: tuple[DeclaredKey, ...] = ()
    allow_bearer: bool = True
    rotation_days: int | None = None
    roles: tuple[Role, ...] | None = None
    rates: dict[str, Rate] = {}
    tokens: TokenRules | None = None

    def rights(self, roles: Iterable[str] | None, more: Iterable[str] = ()) -> Rights:
        """
        What the bearer of these roles may do (None: of all), and `more` permissions.

        Without declared roles every caller may invoke. Roles and permissions that are not known give nothing.
        """
        names = set(roles) if roles is not None else {role.name for role in self.roles or ()} | set(self.rates)
        given = set(more)
        if self.roles is None or roles is None:
            given.add(INVOKE)
        for role in self.roles or ():
            if role.name in names:
                given |= set(role.permissions)
        rates = [rate for name, rate in self.rates.items() if name in names and name != DEFAULT_RATE]
        best = max(rates, key=lambda rate: rate.per_second, default=self.rates.get(DEFAULT_RATE))
        return Rights(tuple(name for name in PERMISSIONS if name in given), best)
