"""
The floor: the same HTTP server (uvicorn, uvloop, httptools) on a bare ASGI app that sends prebuilt bytes.

`/file` sends the file named by HOLDFAST_FLOOR_FILE, one prebuilt frame a write, as a server without batches would;
`/bulk` sends it in slices of 64 KiB, which is as fast as this server can copy memory into a socket; `/tick` sends frames at a rate, each with the
time of its birth; `/one` answers with three frames; `/idle` sends nothing.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

FILE = os.environ.get("HOLDFAST_FLOOR_FILE", "")
WHOLE = Path(FILE).read_bytes() if FILE else b""
FRAMES = [frame + b"\n\n" for frame in WHOLE.split(b"\n\n")]
SLICES = [WHOLE[at : at + 65536] for at in range(0, len(WHOLE), 65536)]
FRAME = (
    'id: {n}\nevent: token\ndata: {{"id":"evt_{n}","type":"token","run_id":"01a1fb66-7bb3-7b6e-9a51-0d3c5b1e2f60",'
    '"sequence":{n},"timestamp":"2026-11-20T23:59:19.987298Z","content":"{text}"}}\n\n'
)
ONE = b"".join(FRAME.format(n=n, text="token ").encode() for n in range(3))


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The whole floor."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    if scope["path"] in ("/file", "/bulk"):
        for data in FRAMES if scope["path"] == "/file" else SLICES:
            await send({"type": "http.response.body", "body": data, "more_body": True})
    elif scope["path"] == "/tick":
        start = time.monotonic() + float(query.get("delay", "0"))
        for n in range(int(query["tokens"])):
            await asyncio.sleep(max(start + n / float(query["rate"]) - time.monotonic(), 0))
            frame = FRAME.format(n=n, text=time.monotonic_ns()).encode()
            await send({"type": "http.response.body", "body": frame, "more_body": True})
    elif scope["path"] == "/one":
        await send({"type": "http.response.body", "body": ONE, "more_body": True})
    elif scope["path"] == "/idle":
        await send({"type": "http.response.body", "body": b"retry: 1000\n\n", "more_body": True})
        await asyncio.Event().wait()
    await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    import sys

    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", loop="uvloop", http="httptools")
