"""
Identifiers and randomness. Everything that needs an id is given an `Ids`, so that tests can hold it.
"""

from __future__ import annotations

import random
import re
import secrets
import uuid
from collections.abc import Callable
from typing import Final, Protocol

from holdfast.clock import Clock
from holdfast.errors import HoldfastError

RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}\Z")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")


def is_uuid(text: str) -> bool:
    """Whether a text is a UUID as it is mostly written, in any case."""
    return _UUID.match(text) is not None


class Ids(Protocol):
    """Where new identifiers come from."""

    def run_id(self) -> str:
        """A new UUIDv7 (RFC 9562), so that ids of runs sort by their birth."""
        ...

    def short(self, prefix: str) -> str:
        """`prefix`, an underscore and 16 random hex digits."""
        ...

    def secret(self, prefix: str) -> str:
        """A secret that cannot be guessed: `prefix`, an underscore and 43 URL-safe characters."""
        ...

    def jitter(self) -> float:
        """A number from 0 up to 1, for spreading retries."""
        ...


class RandomIds:
    """The operating system's randomness; ids of runs by a function of its user, where there is one."""

    def __init__(self, clock: Clock, *, make_run_id: Callable[[], object] | None = None) -> None:
        self._clock = clock
        self._make_run_id = make_run_id

    def run_id(self) -> str:
        """
        Raises:
            HoldfastError: the user's function returned something else than an id.
        """
        if self._make_run_id is not None:
            made = self._make_run_id()
            if not isinstance(made, str) or not RUN_ID.match(made):
                raise HoldfastError(f"the id generator returned {made!r}, which is no run id")
            return made
        milliseconds = self._clock.now() // 1000
        return str(uuid7(milliseconds, secrets.randbits(74)))

    def short(self, prefix: str) -> str:
        return f"{prefix}_{secrets.token_hex(8)}"

    def secret(self, prefix: str) -> str:
        return f"{prefix}_{secrets.token_urlsafe(32)}"

    def jitter(self) -> float:
        return random.random()


class SeededIds:
    """The same identifiers in every run of a test."""

    def __init__(self, clock: Clock, seed: int = 0) -> None:
        self._clock = clock
        self._random = random.Random(seed)

    def run_id(self) -> str:
        return str(uuid7(self._clock.now() // 1000, self._random.getrandbits(74)))

    def short(self, prefix: str) -> str:
        return f"{prefix}_{self._random.getrandbits(64):016x}"

    def secret(self, prefix: str) -> str:
        return f"{prefix}_{self._random.getrandbits(256):043x}"

    def jitter(self) -> float:
        return self._random.random()


def uuid7(milliseconds: int, entropy: int) -> uuid.UUID:
    """A UUIDv7 (RFC 9562, section 5.7) of a time and 74 random bits."""
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80
    value |= 0x7 << 76 | (entropy >> 62 & 0xFFF) << 64
    value |= 0b10 << 62 | entropy & 0x3FFF_FFFF_FFFF_FFFF
    return uuid.UUID(int=value)
