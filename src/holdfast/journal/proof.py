"""What a journal is proved by: its export, byte for byte with the hashes, and a look at every byte of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from holdfast.errors import JournalCorrupt
from holdfast.journal.chunk import chain
from holdfast.model import Run
from holdfast.store.base import Store

EXPORT_PAGE_BYTES = 256 * 1024


class Verified(msgspec.Struct, frozen=True):
    """What a look at every byte of a journal found."""

    run_id: str
    ok: bool
    events: int
    segments: int
    hash: str
    first_bad_sequence: int | None = None


async def export(store: Store, run: Run) -> AsyncIterator[bytes]:
    """
    The stored journal byte for byte, between control lines (`{"kind": …`), as JSON lines.

    Each segment is followed by its hash; the first line gives the hash before the first one.
    """
    head = {"kind": "journal", "format": 1, "run_id": run.run_id, "epoch": run.epoch}
    yield _line({**head, "prior": run.prior_hash.hex(), "input": msgspec.Raw(run.input)})
    after = run.first_sequence - 1
    while after < run.tail_sequence:
        page = await store.segments(run.number, after=after, bytes_max=EXPORT_PAGE_BYTES)
        if not page:
            raise JournalCorrupt(f"run {run.run_id}: nothing is stored behind {after}", first_bad_sequence=after + 1)
        for segment in page:
            yield segment.body
            control = {"kind": "segment", "first": segment.first, "last": segment.last}
            yield _line({**control, "hash": segment.hash.hex()})
            after = segment.last
    yield _line({"kind": "end", "status": run.status.value, "tail_sequence": run.tail_sequence})


async def verify(store: Store, run: Run) -> Verified:
    """Read every byte of a journal and compute its hash chain anew."""
    chained, after, events, segments = run.prior_hash, run.first_sequence - 1, 0, 0
    while after < run.tail_sequence:
        page = await store.segments(run.number, after=after, bytes_max=EXPORT_PAGE_BYTES)
        for segment in page:
            chained = chain(chained, segment.body)
            count = segment.body.count(b"\n")
            if segment.first != after + 1 or count != segment.last - after or chained != segment.hash:
                return Verified(run.run_id, False, events, segments, chained.hex(), after + 1)
            after, events, segments = segment.last, events + count, segments + 1
        if not page:
            return Verified(run.run_id, False, events, segments, chained.hex(), after + 1)
    # The run may have grown since its row was read; then the row's hash is not that of the end.
    ok = chained == run.head_hash or after > run.tail_sequence
    return Verified(run.run_id, ok, events, segments, chained.hex(), None if ok else run.tail_sequence)


def _line(value: dict[str, Any]) -> bytes:
    return msgspec.json.encode(value) + b"\n"
