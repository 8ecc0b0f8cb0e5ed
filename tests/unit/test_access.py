"""What declared roles, rates and keys let a caller do."""

from __future__ import annotations

import pytest

from holdfast.access import Access, DeclaredKey, Role
from holdfast.api.http.auth import Authenticator, declared_grants, key_hash
from holdfast.errors import Forbidden, Unauthenticated
from holdfast.rates import parse_rate

ROLES = (Role("user", ("invoke", "read_docs")), Role("viewer", ("view_metrics",)))
RATES = {"user": parse_rate("100/h"), "viewer": parse_rate("10/s"), "default": parse_rate("1/h")}


def test_without_roles_every_caller_may_invoke() -> None:
    assert Access().rights([]).permissions == ("invoke",)


def test_permissions_are_the_union_of_the_roles() -> None:
    access = Access(roles=ROLES)

    assert access.rights(["user", "viewer"]).permissions == ("invoke", "view_metrics", "read_docs")
    assert access.rights(["viewer"]).permissions == ("view_metrics",)
    assert access.rights(["unknown"]).permissions == ()
    assert access.rights([], ["invoke", "unknown"]).permissions == ("invoke",)


def test_the_highest_rate_of_the_roles_holds_else_the_default() -> None:
    access = Access(roles=ROLES, rates=RATES)

    assert access.rights(["user"]).rate == RATES["user"]
    assert access.rights(["user", "viewer"]).rate == RATES["viewer"]  # 10 a second is more than 100 an hour
    assert access.rights(["other"]).rate == RATES["default"]
    assert access.rights(None).rate == RATES["viewer"]
    assert Access(roles=ROLES).rights(["user"]).rate is None


def test_a_key_of_a_role_without_invoke_may_call_nothing_of_runs() -> None:
    access = Access(roles=ROLES, keys=(DeclaredKey("K_VIEWER", key_hash("v"), ("viewer",)),))
    (grant,) = declared_grants(access)

    assert grant.caller.may("view_metrics")
    assert not grant.caller.may("read_docs")
    with pytest.raises(Forbidden):
        grant.caller.require("reader")


def test_the_main_key_is_an_admin_with_all_permissions() -> None:
    access = Access(roles=ROLES, rates=RATES, keys=(DeclaredKey("K", key_hash("k"), None),))
    (grant,) = declared_grants(access)

    grant.caller.require("admin")
    assert grant.caller.may("view_metrics")
    assert grant.caller.rate == RATES["viewer"]


def test_bearers_are_refused_where_they_are_not_allowed_and_told_what_is() -> None:
    access = Access(keys=(DeclaredKey("K", key_hash("k"), None),))
    authenticator = Authenticator(declared_grants(access), header="X-Agent-Key", allow_bearer=False)

    with pytest.raises(
        Unauthenticated, match="send an API key in the header X-Agent-Key, X-API-Key or X-Engine-Key"
    ) as no:
        authenticator.authenticate([(b"authorization", b"Bearer k")])
    assert no.value.details["reason"] == "missing_credentials"
    assert authenticator.authenticate([(b"x-agent-key", b"k")]).caller.name == "K"
