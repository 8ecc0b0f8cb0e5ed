"""Who calls, and what that lets them do."""

from __future__ import annotations

from typing import Final

import msgspec

from holdfast.errors import Forbidden
from holdfast.model import DEFAULT_TENANT
from holdfast.rates import Rate

ROLES: Final = ("reader", "executor", "operator", "admin")
NO_ROLE: Final = "none"
"""Of a caller whom its Dockfile lets call nothing of runs."""


class Caller(msgspec.Struct, frozen=True):
    """Who calls: the key's name, tenant and role; and what a Dockfile grants it, where one does."""

    name: str = ""
    tenant: str = DEFAULT_TENANT
    role: str = "admin"
    trust: str = "standard"
    permissions: tuple[str, ...] | None = None  # None: those of the role
    rate: Rate | None = None  # None: it may start as many runs as it likes

    def has(self, role: str) -> bool:
        """Whether this caller's role includes another."""
        return self.role != NO_ROLE and ROLES.index(self.role) >= ROLES.index(role)

    def may(self, permission: str) -> bool:
        """Whether this caller has a permission, such as `view_metrics`; without a Dockfile every role has all."""
        return self.has("reader") if self.permissions is None else permission in self.permissions

    def require(self, role: str) -> None:
        """
        Let the caller pass, or refuse.

        Raises:
            Forbidden: the role is too low; `needed` names one that is not.
        """
        if not self.has(role) and self.permissions is not None and "invoke" not in self.permissions:
            raise Forbidden("this needs the permission invoke, which none of the caller's roles has", needed=role)
        if not self.has(role):
            raise Forbidden(f"this needs the role {role}; the key has {self.role}", needed=role)
