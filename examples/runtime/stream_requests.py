"""
Start a run with `requests` and print what comes. After a cut it goes on with `from_sequence`.

The caller chooses the run's id, so it knows where to go on however early the connection was lost.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import requests

URL = os.environ.get("HOLDFAST_URL", "http://localhost:8000")
HEADERS = {"X-API-Key": os.environ.get("HOLDFAST_KEY", "")}
TERMINAL = ("complete", "error", "cancelled")


def events(response: requests.Response) -> Iterator[dict[str, Any]]:
    """The events of one connection, until it ends or is lost."""
    response.raise_for_status()
    try:
        for line in response.iter_lines():
            if line.startswith(b"data: "):
                yield json.loads(line[6:])
    except requests.RequestException:
        return


def stream(payload: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The events of a new run, each once, to the last one."""
    run_id = str(uuid.uuid4())
    response = requests.post(
        f"{URL}/invoke/stream", params={"run_id": run_id}, json=payload, headers=HEADERS, stream=True, timeout=60
    )
    after = -1
    while True:
        with response:
            for event in events(response):
                if event["type"] == "gap":
                    continue
                yield event
                after = event["sequence"]
                if event["type"] in TERMINAL:
                    return
        url = f"{URL}/runs/{run_id}/events"
        response = requests.get(url, params={"from_sequence": after + 1}, headers=HEADERS, stream=True, timeout=60)


for found in stream({"query": sys.argv[1] if len(sys.argv) > 1 else "explain quantum computing"}):
    print(f"[{found['type']}] {found.get('content', found.get('output', ''))}")
