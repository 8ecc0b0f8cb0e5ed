"""
JSON Web Tokens of other issuers: whose they are, once their signature and their times hold. No I/O.

The keys come from a variable, or from the issuer's key set, which somebody else fetches (`take_key_set`). PyJWT does
the cryptography; it is loaded only where a Dockfile asks for tokens.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from holdfast.access import TokenRules
from holdfast.errors import CapacityError, Unauthenticated
from holdfast.model import DEFAULT_TENANT

_SHAPE: Final = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\Z")
NAME_MAX: Final = 255
SECRET_BYTES_MIN: Final = 32  # RFC 7518, section 3.2: a key of HS256 has at least the size of the hash


class Bearer(msgspec.Struct, frozen=True):
    """Who a token speaks for."""

    user: str
    tenant: str
    roles: tuple[str, ...]
    permissions: tuple[str, ...]
    expires_at: float | None  # seconds since 1970, leeway included; None: it does not expire


class _Published(msgspec.Struct, frozen=True):
    """A key that the issuer publishes."""

    kid: str | None
    alg: str | None
    families: tuple[str, ...]
    key: Any

    def serves(self, algorithm: str) -> bool:
        return algorithm == self.alg if self.alg is not None else algorithm.startswith(self.families)


def looks_like_token(credential: bytes) -> bool:
    """Whether a credential has the three parts of a token; an API key has none."""
    return _SHAPE.match(credential) is not None


class TokenVerifier:
    """Checks tokens by the rules of one server."""

    def __init__(self, rules: TokenRules) -> None:
        """
        Raises:
            ImportError: PyJWT is not installed.
            ValueError: the public key is none, or fits no algorithm of the rules.
        """
        import jwt

        self._jwt = jwt
        self._rules = rules
        self._static = None if rules.public_key is None else self._read_key(rules.public_key)
        self._keys: list[_Published] = []
        self.has_key_set = False

    def _read_key(self, text: str) -> Any:
        pem = text if "\n" in text else text.replace("\\n", "\n")  # as .env files carry it
        if all(name.startswith("HS") for name in self._rules.algorithms):
            if len(text.encode()) < SECRET_BYTES_MIN:
                raise ValueError(f"the secret has {len(text.encode())} bytes; HS… needs at least {SECRET_BYTES_MIN}")
            return text
        try:
            keys = [self._jwt.get_algorithm_by_name(name).prepare_key(pem) for name in self._rules.algorithms]
        except (
            Exception
        ) as exc:  # the cryptography library raises many kinds, and NotImplementedError where it is absent
            raise ValueError(f"it is no public key in PEM for {', '.join(self._rules.algorithms)}: {exc}") from exc
        return keys[0]

    def take_key_set(self, given: Any) -> None:
        """
        Use the keys of this JSON Web Key Set from now on.

        Raises:
            ValueError: it is none, or has no key that can be used here.
        """
        items = given.get("keys") if isinstance(given, dict) else None
        if not isinstance(items, list):
            raise ValueError("it is no JSON Web Key Set: it has no list `keys`")
        self._keys = [key for item in items if (key := self._published(item)) is not None]
        if not self._keys:
            raise ValueError("none of its keys can be used here")
        self.has_key_set = True

    def _published(self, item: Any) -> _Published | None:
        """A key of a key set; None for one that is not for signatures, or of a kind that is not known here."""
        kinds = {"RSA": ("RS", "PS"), "EC": ("ES",), "OKP": ("Ed",)}
        if not isinstance(item, dict) or item.get("kty") not in kinds or item.get("use", "sig") != "sig":
            return None
        try:
            key = self._jwt.PyJWK(item).key
        except self._jwt.PyJWTError:
            return None
        return _Published(item.get("kid"), item.get("alg"), kinds[item["kty"]], key)

    def lacks_key_of(self, token: bytes) -> bool:
        """Whether the key set should be fetched (again) before this token is checked."""
        if self._rules.jwks_url is None:
            return False
        kid = _header_of(token).get("kid")
        return not self.has_key_set or (kid is not None and all(key.kid != kid for key in self._keys))

    def verify(self, token: bytes) -> Bearer:
        """
        Whom the token speaks for.

        Raises:
            Unauthenticated: `reason` is token_expired or invalid_credentials.
            CapacityError: the issuer's keys are not known yet; try again.
        """
        rules = self._rules
        try:
            claims = self._jwt.decode(
                token,
                self._key_for(token),
                algorithms=list(rules.algorithms),
                audience=rules.audience,
                issuer=rules.issuer,
                leeway=rules.leeway_seconds,
                options={"verify_aud": rules.audience is not None},
            )
        except self._jwt.ExpiredSignatureError:
            raise Unauthenticated("this token has expired: get a new one", reason="token_expired") from None
        except (self._jwt.PyJWTError, ValueError, TypeError) as exc:
            raise _invalid(f"this token is not taken: {exc}") from None
        return self._bearer(claims)

    def _key_for(self, token: bytes) -> Any:
        if self._static is not None:
            return self._static
        if not self.has_key_set:
            raise CapacityError("the keys of the tokens' issuer cannot be read now; try again", retry_after=5)
        header = _header_of(token)
        kid, algorithm = header.get("kid"), header.get("alg")
        for key in self._keys:
            # A key serves its own kind of algorithm alone, whatever the token says.
            if (kid is None or key.kid == kid) and isinstance(algorithm, str) and key.serves(algorithm):
                return key.key
        raise _invalid("this token is signed with a key that its issuer does not publish")

    def _bearer(self, claims: Mapping[str, Any]) -> Bearer:
        rules = self._rules
        user = _name(claims, rules.user_claim)
        tenant = user if rules.tenant_claim is None else _name(claims, rules.tenant_claim)
        if rules.tenant_claim is None and tenant == DEFAULT_TENANT:
            raise _invalid(f"a user named {DEFAULT_TENANT!r} would share the runs of the API keys")
        exp = claims.get("exp")
        return Bearer(
            user=user,
            tenant=tenant,
            roles=_words(_at(claims, rules.roles_claim)),
            permissions=(*_words(_at(claims, rules.permissions_claim)), *_words(_at(claims, rules.scopes_claim))),
            expires_at=None if exp is None else float(exp) + rules.leeway_seconds,
        )


def _header_of(token: bytes) -> dict[str, Any]:
    """The header as the token says it, unchecked; empty if it says none."""
    part = token.partition(b".")[0]
    try:
        header = msgspec.json.decode(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    except (binascii.Error, msgspec.DecodeError, ValueError):
        return {}
    return header if isinstance(header, dict) else {}


def _at(claims: Mapping[str, Any], path: str) -> Any:
    """A claim by its name, or else by its path: `realm_access.roles`."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _name(claims: Mapping[str, Any], path: str) -> str:
    value = _at(claims, path)
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not 1 <= len(text) <= NAME_MAX or not text.isprintable():
        raise _invalid(f"this token has no claim {path!r} with 1 to {NAME_MAX} printable characters")
    return text


def _words(value: Any) -> tuple[str, ...]:
    """A list of words, or one text of words separated by blanks, as OAuth's `scope` is."""
    if isinstance(value, str):
        return tuple(value.split())
    if isinstance(value, Sequence):
        return tuple(item for item in value if isinstance(item, str))
    return ()


def _invalid(text: str) -> Unauthenticated:
    return Unauthenticated(text, reason="invalid_credentials")
