"""
API keys as their administrator handles them: made, listed, rotated, revoked. Only SHA-256 hashes are ever kept.

The server does this for the CLI while it runs; without a server the CLI does the same on the store itself.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from holdfast.api.http.auth import key_hash
from holdfast.clock import Clock
from holdfast.errors import ConflictError, InvalidRequest, KeyNotFound
from holdfast.ids import Ids
from holdfast.model import DEFAULT_TENANT, ApiKey
from holdfast.model.encoding import format_time
from holdfast.runs import ROLES
from holdfast.store.base import Store

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z")


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a key is made of."""

    name: str
    role: str = "executor"
    tenant: str = DEFAULT_TENANT


def new_key_of(body: Any) -> NewKey:
    """
    A key's description, checked.

    Raises:
        InvalidRequest
    """
    try:
        wanted = msgspec.convert(body, NewKey)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"no description of a key: {error}") from None
    for field, value in (("name", wanted.name), ("tenant", wanted.tenant)):
        if not _NAME.match(value):
            rule = "a letter or digit, then at most 127 letters, digits or . _ : -"
            raise InvalidRequest(f"{field}: {rule}; not {value[:60]!r}", field=field)
    if wanted.role not in ROLES:
        raise InvalidRequest(f"role: one of {', '.join(ROLES)}; not {wanted.role[:60]!r}", field="role")
    return wanted


async def add_key(store: Store, clock: Clock, ids: Ids, wanted: NewKey) -> dict[str, Any]:
    """
    Make a key. What comes back holds its text, which nobody can find out again.

    Raises:
        ConflictError: a key of that name is in force.
    """
    text = ids.secret("hf")
    key = ApiKey(name=wanted.name, hash=key_hash(text), role=wanted.role, tenant=wanted.tenant, created_at=clock.now())
    if not await store.add_key(key):
        raise ConflictError(
            f"there is a key {key.name!r} already; revoke it first, or take another name", name=key.name
        )
    return {**shown_key(key), "key": text}


async def revoke_key(store: Store, clock: Clock, name: str) -> dict[str, Any]:
    """
    Put a key out of force.

    Raises:
        KeyNotFound: no such key is in force.
    """
    at = clock.now()
    if not await store.revoke_key(name, at):
        raise KeyNotFound(f"no key {name!r} is in force", name=name)
    return {"name": name, "revoked_at": format_time(at)}


async def rotate_key(store: Store, clock: Clock, ids: Ids, name: str, overlap_seconds: float) -> dict[str, Any]:
    """
    Put a new key in the place of one, with its name, role and tenant. The old one is good for the overlap, unless the new
    one is revoked. If this is cut off in the middle, the old one is revoked: add a key of that name.

    Raises:
        KeyNotFound: no such key is in force.
    """
    now = clock.now()
    key = next((key for key in await store.keys() if key.name == name and key.revoked_at is None), None)
    if key is None or not await store.revoke_key(name, now + int(overlap_seconds * 1_000_000)):
        raise KeyNotFound(f"no key {name!r} is in force", name=name)
    text = ids.secret("hf")
    made = ApiKey(name=name, hash=key_hash(text), role=key.role, tenant=key.tenant, created_at=now)
    if not await store.add_key(made):
        raise ConflictError(f"somebody else made a key {name!r} at this moment; rotate it again", name=name)
    return {**shown_key(made), "key": text, "overlap_seconds": overlap_seconds}


def overlap_of(body: Any, most: float) -> float:
    """
    How long both keys are good.

    Raises:
        InvalidRequest
    """
    given = body.get("overlap_seconds", most) if isinstance(body, dict) and set(body) <= {"overlap_seconds"} else None
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= most:
        raise InvalidRequest(f"overlap_seconds is a number from 0 to {most:g}", field="overlap_seconds")
    return float(given)


def shown_key(key: ApiKey) -> dict[str, Any]:
    """A key as it is listed."""
    revoked_at = None if key.revoked_at is None else format_time(key.revoked_at)
    return {
        "name": key.name,
        "role": key.role,
        "tenant": key.tenant,
        "created_at": format_time(key.created_at),
        "revoked_at": revoked_at,
    }
