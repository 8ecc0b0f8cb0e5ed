"""What becomes of an attempt. No I/O."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Fault: TypeAlias = Literal["timeout", "connect", "tls", "address_refused", "redirect", "status", "unreadable"]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """
    What became of an attempt; only a status of 200 to 299 is no error. `unreadable`: nothing was sent, for the event could
    not be made a body.
    """

    status_code: int | None = None
    error: Fault | None = None
    ms: int = 0
    retry_after: str | None = None  # the header

    @property
    def is_success(self) -> bool:
        return self.error is None


class NotConnected(Exception):
    """There was no connection, so that another address may be tried. `error` is that of the outcome."""

    def __init__(self, error: Fault) -> None:
        super().__init__(error)
        self.error: Fault = error
