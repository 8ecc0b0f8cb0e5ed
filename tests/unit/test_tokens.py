"""JSON Web Tokens: whom they speak for, and why one is refused."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from holdfast.access import Access, Role, TokenRules
from holdfast.api.http.auth import Authenticator
from holdfast.api.http.bearers import Bearers
from holdfast.clock import HeldClock
from holdfast.errors import CapacityError, Unauthenticated
from holdfast.tokens import TokenVerifier, looks_like_token

PRIVATE = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
PEM = PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
CURVE = ec.generate_private_key(ec.SECP256R1())


def token(claims: dict[str, Any], *, key: Any = PRIVATE, algorithm: str = "RS256", kid: str | None = None) -> bytes:
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode({"sub": "ada", "exp": time.time() + 60} | claims, key, algorithm, headers=headers).encode()


def published(key: Any, kid: str, algorithm: str = "RS256") -> dict[str, Any]:
    document: Any = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return {**document, "kid": kid, "use": "sig"}


def verifier(**rules: Any) -> TokenVerifier:
    return TokenVerifier(TokenRules(public_key=PEM, **rules))


def test_a_token_speaks_for_its_user_who_is_a_tenant() -> None:
    bearer = verifier().verify(token({"roles": ["user"], "permissions": "invoke read_docs"}))

    assert (bearer.user, bearer.tenant, bearer.roles) == ("ada", "ada", ("user",))
    assert bearer.permissions == ("invoke", "read_docs")


def test_claims_are_found_by_name_or_by_path() -> None:
    rules = {"user_claim": "who.id", "tenant_claim": "https://example.org/org", "roles_claim": "realm.roles"}
    claims = {"who": {"id": 7}, "https://example.org/org": "acme", "realm": {"roles": ["a", 5, "b"]}}

    bearer = verifier(**rules).verify(token(claims))

    assert (bearer.user, bearer.tenant, bearer.roles) == ("7", "acme", ("a", "b"))


@pytest.mark.parametrize(
    ("rules", "claims", "reason"),
    [
        ({}, {"exp": 1}, "token_expired"),
        ({}, {"nbf": time.time() + 3600}, "invalid_credentials"),
        ({"issuer": "https://a"}, {"iss": "https://b"}, "invalid_credentials"),
        ({"issuer": "https://a"}, {}, "invalid_credentials"),
        ({"audience": "api"}, {"aud": "other"}, "invalid_credentials"),
        ({"audience": "api"}, {}, "invalid_credentials"),
        ({}, {"sub": "default"}, "invalid_credentials"),  # the tenant of the API keys
        ({"user_claim": "email"}, {}, "invalid_credentials"),
        ({"tenant_claim": "org"}, {"org": "a\nb"}, "invalid_credentials"),
    ],
)
def test_a_token_that_does_not_fit_is_refused(rules: dict[str, Any], claims: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        verifier(**rules).verify(token(claims))

    assert refused.value.details["reason"] == reason


def test_a_token_without_an_audience_that_is_asked_for_is_taken_with_any() -> None:
    assert verifier().verify(token({"aud": "somebody"})).user == "ada"


def test_leeway_is_given_to_the_issuers_clock() -> None:
    late = token({"exp": time.time() - 10})

    assert verifier(leeway_seconds=30).verify(late).user == "ada"
    with pytest.raises(Unauthenticated):
        verifier(leeway_seconds=0).verify(late)


def test_forged_tokens_are_refused() -> None:
    head, body, _ = token({}).split(b".")
    none = jwt.encode({"sub": "ada"}, "", "none").encode()
    shared = jwt.encode({"sub": "ada"}, "x" * 32, "HS256").encode()

    for forged in (token({}, key=OTHER), head + b"." + body + b".", none, shared, b"a.b.c"):
        with pytest.raises(Unauthenticated) as refused:
            verifier().verify(forged)
        assert refused.value.details["reason"] == "invalid_credentials"


def test_a_key_set_gives_each_token_its_key() -> None:
    checker = TokenVerifier(TokenRules(jwks_url="https://idp/keys", algorithms=("RS256", "ES256")))
    with pytest.raises(CapacityError):
        checker.verify(token({}, kid="r1"))
    assert checker.lacks_key_of(token({}, kid="r1"))

    checker.take_key_set({"keys": [published(PRIVATE, "r1"), published(CURVE, "e1", "ES256"), {"kty": "odd"}]})

    assert checker.verify(token({}, kid="r1")).user == "ada"
    assert checker.verify(token({}, key=CURVE, algorithm="ES256", kid="e1")).user == "ada"
    assert checker.verify(token({})).user == "ada"  # without kid: the first of its kind
    assert checker.lacks_key_of(token({}, kid="r2"))
    for wrong in (token({}, key=OTHER, kid="r1"), token({}, kid="e1"), token({}, kid="r2")):
        with pytest.raises(Unauthenticated):
            checker.verify(wrong)


@pytest.mark.parametrize("given", [None, [], {"keys": 5}, {"keys": []}, {"keys": [{"kty": "RSA"}]}])
def test_what_is_no_key_set_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="key"):
        TokenVerifier(TokenRules(jwks_url="https://idp/keys")).take_key_set(given)


@pytest.mark.parametrize("rules", [{"public_key": "no key"}, {"public_key": "short", "algorithms": ("HS256",)}])
def test_a_key_that_is_none_is_refused_at_once(rules: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"key|secret"):
        TokenVerifier(TokenRules(**rules))


def test_a_key_may_come_with_escaped_line_ends() -> None:
    rules = TokenRules(public_key=PEM.replace("\n", "\\n"))

    assert TokenVerifier(rules).verify(token({})).user == "ada"


def test_a_known_token_ends_with_its_time() -> None:
    clock = HeldClock(int(time.time() * 1_000_000))
    rules = TokenRules(public_key=PEM, leeway_seconds=0)
    bearers = Bearers(Access(roles=(Role("user", ("invoke",)),), tokens=rules), rules, clock)
    authenticator = Authenticator(bearers=bearers)
    headers = [(b"authorization", b"bearer " + token({"roles": ["user"]}))]

    grant = authenticator.authenticate(headers)
    assert authenticator.authenticate(headers) is grant
    assert (grant.caller.name, grant.caller.tenant, grant.caller.role) == ("ada", "ada", "executor")
    clock.advance(120)

    with pytest.raises(Unauthenticated) as refused:
        authenticator.authenticate(headers)
    assert refused.value.details["reason"] == "token_expired"


async def test_while_the_issuer_cannot_be_reached_tokens_are_not_refused_but_put_off() -> None:
    clock = HeldClock()
    rules = TokenRules(jwks_url="http://127.0.0.1:1/keys")
    authenticator = Authenticator(bearers=Bearers(Access(tokens=rules), rules, clock))
    headers = [(b"authorization", b"Bearer " + token({}, kid="k"))]

    for _ in range(3):
        await authenticator.prepare(headers)
        with pytest.raises(CapacityError):
            authenticator.authenticate(headers)


@pytest.mark.parametrize(
    ("credential", "is_one"), [(b"hf_abc", False), (b"a.b.c", True), (b"a.b", False), (b"a.b.", True)]
)
def test_api_keys_are_no_tokens(credential: bytes, is_one: bool) -> None:
    assert looks_like_token(credential) is is_one
