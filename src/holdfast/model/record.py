"""Small named things that APIs keep beside runs, and what is sent to those who want to hear of runs. No I/O."""

from __future__ import annotations

import msgspec


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Something that an API keeps under a name: one of each kind, tenant and name. Only the API knows its body."""

    kind: str
    tenant: str
    name: str
    body: bytes
    number: int | None = None  # of the run that it goes with, and is deleted with
    created_at: int
    updated_at: int


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One event on its way to one endpoint. The body is encoded once: all attempts send the same bytes."""

    delivery_id: str
    endpoint_id: str
    tenant: str
    event_id: str
    type: str
    number: int
    sequence: int
    status: str = "pending"  # pending, delivered, failed, held
    body: bytes
    attempts: bytes = b"[]"  # as JSON, oldest first
    tries: int = 0  # since it was last scheduled anew
    next_attempt_at: int | None = None
    created_at: int
