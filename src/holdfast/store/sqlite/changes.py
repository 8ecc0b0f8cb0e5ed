"""
Changes that carry no events: leases, idempotency keys, API keys, rows of files, the outbox.

Each runs in the writing thread, inside its transaction, and raises one of our errors only before it has written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from holdfast.model import ApiKey, File, Run
from holdfast.store.base import CallClaim, IdempotencyRow, Lease, Limits, OutboxRow
from holdfast.store.sql import statements
from holdfast.store.sqlite import reads, rows
from holdfast.store.sqlite.connection import Connection

SQL: Final = statements("sqlite", "writes")

# An upload that no run has taken is kept so long.
LOOSE_FILE_SECONDS: Final = 24 * 3600


def claim(
    connection: Connection,
    owner: str,
    agents: Sequence[str],
    limit: int,
    clock: float,
    lease_seconds: float,
    limits: Limits,
) -> list[Run]:
    numbers = reads.claimable(connection, owner, agents, limit, clock, limits)
    if not numbers:
        return []
    found = reads.runs_by_number(connection, numbers)
    until = clock + lease_seconds
    connection.execute(SQL["claim_heads"], (owner, until, rows.json_text(numbers)))
    connection.execute(SQL["claim_runs"], (rows.json_text(numbers),))
    return [
        msgspec.structs.replace(run, lease_owner=owner, lease_epoch=run.lease_epoch + 1, lease_until=until)
        for run in found
    ]


def renew(connection: Connection, owner: str, leases: Sequence[Lease], clock: float, lease_seconds: float) -> set[int]:
    given = {
        "owner": owner,
        "leases": rows.json_text([(lease.number, lease.lease_epoch) for lease in leases]),
        "until": clock + lease_seconds,
    }
    lost = msgspec.json.decode(connection.execute(SQL["lost"], given).get, type=set[int])
    connection.execute(SQL["renew"], given)
    return lost


def disown(connection: Connection, owner: str, held: Sequence[int], clock: float) -> list[int]:
    numbers = reads.disownable(connection, owner, held, clock)
    connection.execute(SQL["disown"], (rows.json_text(numbers),))
    return numbers


def begin_idempotent(connection: Connection, row: IdempotencyRow, now: int) -> IdempotencyRow | None:
    connection.execute(SQL["idempotency_expired"], (row.tenant, row.method, row.path, row.key, now))
    known = reads.idempotency(connection, row.tenant, row.method, row.path, row.key, now)
    if known is None:
        connection.execute(SQL["idempotency_begin"], rows.idempotency_columns(row))
    return known


def finish_idempotent(connection: Connection, row: IdempotencyRow) -> None:
    if row.status == 0:
        connection.execute(SQL["idempotency_forget"], (row.tenant, row.method, row.path, row.key))
    else:
        connection.execute(SQL["idempotency_finish"], rows.idempotency_columns(row))


def add_key(connection: Connection, key: ApiKey) -> bool:
    connection.execute(SQL["add_key"], (key.name, key.hash, key.role, key.tenant, key.created_at, key.revoked_at))
    return connection.changes() == 1


def revoke_key(connection: Connection, name: str, at: int) -> bool:
    connection.execute(SQL["revoke_key"], (at, name))
    return connection.changes() == 1


def put_file(connection: Connection, file: File) -> None:
    connection.execute(
        SQL["put_file"],
        (
            file.tenant,
            file.file_id,
            file.number,
            file.name,
            file.media_type,
            file.size,
            file.sha256,
            file.created_at,
        ),
    )


def outbox_done(connection: Connection, taken: Sequence[OutboxRow]) -> None:
    keys = [(row.number, row.sequence, row.endpoint_id) for row in taken]
    connection.execute(SQL["outbox_done"], (rows.json_text(keys),))


def claim_calls(connection: Connection, claim: CallClaim) -> set[str]:
    given = {
        "number": claim.number,
        "worker": claim.worker,
        "call_ids": rows.json_text(claim.call_ids),
        "at": claim.at,
        "until": claim.until,
    }
    return {row[0] for row in connection.execute(SQL["claim_calls"], given)}
