"""
`python -m bench.writers write URL NOTIFY SECONDS`: eight openings of a Postgres store, each committing appends to a run
of its own, one after the other; it says `ready`, waits for a line, and prints the commits a second.

`python -m bench.writers listen URL`: hears the hints of others until it is killed.
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid

import uvloop

from holdfast.store.base import Notice
from holdfast.store.postgres import PostgresStore
from tests.contract.making import Hand, held

OPENINGS = 8
EVENTS = 10  # of a commit: what a run says between two of its commits


async def write(url: str, *, notify: bool, seconds: float) -> None:
    stores = [PostgresStore(url, notify=notify, connections_max=1) for _ in range(OPENINGS)]
    for store in stores:
        await store.open()
    hands = [await held(store, uuid.uuid4().hex, lease_owner=store.process) for store in stores]
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    began = time.perf_counter()
    commits = sum(await asyncio.gather(*(_append(hand, began + seconds) for hand in hands)))
    print(commits / (time.perf_counter() - began), flush=True)
    for store in stores:
        await store.close()


async def _append(hand: Hand, until: float) -> int:
    commits = 0
    while time.perf_counter() < until:
        await hand.append(EVENTS)
        commits += 1
    return commits


async def listen(url: str) -> None:
    store = PostgresStore(url)
    await store.open()

    def hear(notice: Notice) -> None:
        if notice.everything:
            print("listening", flush=True)

    await store.notices(hear)


if __name__ == "__main__":
    if sys.argv[1] == "listen":
        uvloop.run(listen(sys.argv[2]))
    else:
        uvloop.run(write(sys.argv[2], notify=sys.argv[3] == "1", seconds=float(sys.argv[4])))
