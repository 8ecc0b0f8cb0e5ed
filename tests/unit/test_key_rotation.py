"""A key that replaces another one: both are good for the overlap, and no longer than the new one."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest

from holdfast.api.control.keys import overlap_of, revoke_key, rotate_key
from holdfast.api.http.auth import Authenticator, key_hash
from holdfast.clock import HeldClock
from holdfast.errors import InvalidRequest, KeyNotFound, KeyRotationPending, Unauthenticated
from holdfast.ids import SeededIds
from holdfast.model import ApiKey
from holdfast.store.base import Store


class Keys:
    """Key rows in a list, as the contract of the store has them."""

    def __init__(self, clock: HeldClock) -> None:
        self.rows = [ApiKey(name="web", hash=key_hash("old"), role="reader", tenant="a", created_at=clock.now())]

    async def keys(self) -> list[ApiKey]:
        return list(self.rows)

    async def add_key(self, key: ApiKey) -> bool:
        if any(row.name == key.name and row.revoked_at is None for row in self.rows):
            return False
        self.rows.append(key)
        return True

    async def revoke_key(self, name: str, at: int) -> bool:
        found = [i for i, row in enumerate(self.rows) if row.name == name and row.revoked_at is None]
        for i in found:
            self.rows[i] = msgspec.structs.replace(self.rows[i], revoked_at=at)
        return bool(found)


class World:
    def __init__(self) -> None:
        self.clock = HeldClock()
        self.ids = SeededIds(self.clock)
        self.store = cast(Store, Keys(self.clock))
        self.authenticator = Authenticator(clock=self.clock)

    async def rotate(self, overlap: float) -> str:
        self.clock.advance(10)
        made = await rotate_key(self.store, self.clock, self.ids, "web", overlap)
        return str(made["key"])

    async def role_of(self, key: str) -> Any:
        """The role and tenant that a key opens, or the code of the refusal."""
        await self.authenticator.refresh(self.store)
        try:
            caller = self.authenticator.authenticate([(b"x-api-key", key.encode())]).caller
        except Unauthenticated as exc:
            return exc.code
        return caller.role, caller.tenant


async def test_both_are_good_for_the_overlap_then_the_old_one_says_why_not() -> None:
    world = World()
    new = await world.rotate(60)

    assert await world.role_of("old") == await world.role_of(new) == ("reader", "a")
    world.clock.advance(60)
    assert await world.role_of("old") == KeyRotationPending.code
    assert await world.role_of(new) == ("reader", "a")


async def test_without_overlap_the_old_one_ends_at_once() -> None:
    world = World()

    await world.rotate(0)

    assert await world.role_of("old") == KeyRotationPending.code


async def test_revoking_in_the_overlap_ends_both() -> None:
    world = World()
    new = await world.rotate(60)
    world.clock.advance(1)

    await revoke_key(world.store, world.clock, "web")

    assert await world.role_of(new) == Unauthenticated.code
    assert await world.role_of("old") != ("reader", "a")


async def test_a_key_that_was_revoked_and_made_anew_was_not_rotated() -> None:
    world = World()
    await world.store.revoke_key("web", world.clock.now())
    world.clock.advance(1)
    await world.store.add_key(
        ApiKey(name="web", hash=key_hash("new"), role="reader", tenant="a", created_at=world.clock.now())
    )

    assert await world.role_of("old") == Unauthenticated.code


async def test_a_rotation_that_was_cut_off_leaves_no_key_in_force() -> None:
    world = World()

    await world.store.revoke_key("web", world.clock.now() + 60_000_000)

    assert await world.role_of("old") == Unauthenticated.code


async def test_a_key_may_be_rotated_twice_in_an_overlap() -> None:
    world = World()
    second = await world.rotate(60)
    third = await world.rotate(60)

    assert {await world.role_of(key) for key in ("old", second, third)} == {("reader", "a")}


async def test_what_is_not_in_force_cannot_be_rotated() -> None:
    world = World()

    with pytest.raises(KeyNotFound):
        await rotate_key(world.store, world.clock, world.ids, "nobody", 60)


@pytest.mark.parametrize("body", [{"overlap_seconds": value} for value in (-1, 301, True, "60")] + [[], {"other": 1}])
def test_an_overlap_that_cannot_be_is_refused(body: Any) -> None:
    with pytest.raises(InvalidRequest):
        overlap_of(body, 300)
