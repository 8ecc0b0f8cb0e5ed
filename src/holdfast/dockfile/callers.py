"""
The section `auth` of a Dockfile: who may call, with what, how often. No I/O; keys come from the environment given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from holdfast.access import DEFAULT_RATE, Access, DeclaredKey, Role, TokenRules
from holdfast.dockfile import keys
from holdfast.dockfile.problems import Report, shown
from holdfast.rates import Rate, parse_rate
from holdfast.tokens import TokenVerifier

OPEN: Final = Access(mode="none")


def access_of(auth: keys.Auth | None, environment: Mapping[str, str], report: Report) -> Access:
    """What the section says; problems of it go to the report."""
    if auth is None:
        return OPEN
    _check_sections(auth, report)
    if auth.mode == "none":
        return OPEN
    roles = None if auth.roles is None else tuple(Role(item.name, item.permissions) for item in auth.roles)
    _check_roles(auth, report)
    rates = _rates(auth, report)
    api_keys = auth.api_keys or keys.ApiKeys()
    names = [*(role.name for role in roles or ()), *(name for name in rates if name != DEFAULT_RATE)]
    return Access(
        mode=auth.mode,
        keys=_declared(api_keys, dict.fromkeys(names), environment, report) if auth.mode == "api_key" else (),
        allow_bearer=api_keys.allow_bearer,
        rotation_days=api_keys.rotation_days,
        roles=roles,
        rates=rates,
        tokens=_token_rules(auth.jwt, environment, report) if auth.mode == "jwt" and auth.jwt is not None else None,
    )


def _check_sections(auth: keys.Auth, report: Report) -> None:
    """Whatever is written must have an effect in this mode."""
    if auth.api_keys is not None and not auth.api_keys.enabled:
        report.add("auth.api_keys.enabled", "true", "false", "to ask for no key write auth.mode: none")
    elif auth.api_keys is not None and auth.mode != "api_key":
        report.add("auth.api_keys", "mode: api_key", f"mode: {auth.mode}", "remove it, or change the mode")
    if auth.api_keys is not None and auth.api_keys.header.lower() in ("authorization", "cookie"):
        todo = "Authorization: Bearer is taken already, with allow_bearer"
        report.add("auth.api_keys.header", "a header of its own", shown(auth.api_keys.header), todo)
    if auth.jwt is not None and auth.mode != "jwt":
        report.add("auth.jwt", "mode: jwt", f"mode: {auth.mode}", "remove it, or change the mode")
    if auth.jwt is None and auth.mode == "jwt":
        report.add("auth.jwt", "a mapping with jwks_url or public_key_env", "nothing", "mode jwt needs it")
    if auth.mode == "none" and auth.roles is not None:
        report.add("auth.roles", "mode: api_key or jwt", "mode: none", "nobody has a role there; remove it")
    if auth.mode == "none" and auth.rate_limits:
        report.add("auth.rate_limits", "mode: api_key or jwt", "mode: none", "nobody is known there; remove it")


def _check_roles(auth: keys.Auth, report: Report) -> None:
    seen: set[str] = set()
    for index, role in enumerate(auth.roles or ()):
        if role.name in seen:
            report.add(
                f"auth.roles[{index}].name", "each role once", shown(role.name), "put their permissions together"
            )
        if role.name == DEFAULT_RATE:
            report.add(f"auth.roles[{index}].name", "another name", shown(role.name), "rate_limits gives it a meaning")
        seen.add(role.name)
    for name in auth.rate_limits:
        if auth.roles is not None and name not in seen and name != DEFAULT_RATE:
            known = ", ".join([*sorted(seen), DEFAULT_RATE])
            report.add(f"auth.rate_limits.{name}", "the name of a role", "another name", f"known: {known}")


def _rates(auth: keys.Auth, report: Report) -> dict[str, Rate]:
    rates: dict[str, Rate] = {}
    for name, text in auth.rate_limits.items():
        try:
            rates[name] = parse_rate(text)
        except ValueError:
            expected = "a count and second, minute, hour or day, such as 100/hour"
            report.add(f"auth.rate_limits.{name}", expected, shown(text))
    return rates


def _declared(
    api_keys: keys.ApiKeys, roles: Mapping[str, None], environment: Mapping[str, str], report: Report
) -> tuple[DeclaredKey, ...]:
    """The keys of the variable, which have all roles, and those of `<ENV_VAR>_<ROLE>`."""
    path = "auth.api_keys.env_var" if api_keys.prefix is None else "auth.api_keys.prefix"
    variable = api_keys.env_var if api_keys.prefix is None else f"{api_keys.prefix.upper()}_API_KEY"
    found: dict[str, DeclaredKey] = {}
    if not _split(environment.get(variable, "")):
        what = "it unset" if variable not in environment else "no key in it"
        report.add(path, f"a key in the variable {variable}", what, "set it, or write auth.mode: none")
    for role in (None, *roles):
        name = variable if role is None else f"{variable}_{role.upper().replace('-', '_')}"
        for number, key in enumerate(_split(environment.get(name, "")), 1):
            digest = hashlib.sha256(key.encode()).hexdigest()
            if digest in found:
                report.add(
                    path, "each key in one variable", f"a key of {found[digest].name} in {name} too", "make a new one"
                )
                continue
            label = name if number == 1 else f"{name}-{number}"
            found[digest] = DeclaredKey(label, digest, None if role is None else (role,))
    return tuple(found.values())


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _token_rules(jwt: keys.Jwt, environment: Mapping[str, str], report: Report) -> TokenRules | None:
    if (jwt.jwks_url is None) == (jwt.public_key_env is None):
        found = "neither" if jwt.jwks_url is None else "both"
        report.add("auth.jwt", "one of jwks_url and public_key_env", found)
        return None
    secret = [name for name in jwt.algorithms if name.startswith("HS")]
    if secret and (jwt.jwks_url is not None or len(secret) < len(jwt.algorithms)):
        # Whoever knows a public key could sign with it as a secret.
        report.add("auth.jwt.algorithms", "HS… only by themselves and with public_key_env", ", ".join(jwt.algorithms))
        return None
    if jwt.jwks_url is not None and not _is_safe(jwt.jwks_url):
        report.add("auth.jwt.jwks_url", "https://…", shown(jwt.jwks_url), "only this machine may be asked by http://")
    public_key = None
    if jwt.public_key_env is not None:
        public_key = environment.get(jwt.public_key_env)
        if not public_key:
            report.add("auth.jwt.public_key_env", f"a key in the variable {jwt.public_key_env}", "it unset", "set it")
            return None
    claims = jwt.claims or keys.Claims()
    rules = TokenRules(
        jwks_url=jwt.jwks_url,
        public_key=public_key,
        issuer=jwt.issuer,
        audience=jwt.audience,
        algorithms=jwt.algorithms,
        leeway_seconds=jwt.leeway_seconds,
        user_claim=claims.user_id,
        tenant_claim=claims.tenant_id,
        roles_claim=claims.roles,
        permissions_claim=claims.permissions,
        scopes_claim=claims.scopes,
    )
    try:
        TokenVerifier(rules)
    except ImportError:
        report.add("auth.mode", "PyJWT to be installed", "it missing", "pip install 'holdfast[jwt]'")
    except ValueError as exc:
        report.add("auth.jwt.public_key_env", "a public key in PEM, or for HS… a long secret", str(exc))
    return rules


def _is_safe(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme == "https" or parts.hostname == "localhost":
        return True
    try:
        return ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False
