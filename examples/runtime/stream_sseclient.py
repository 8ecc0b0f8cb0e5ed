"""Start a run and read its events with `sseclient-py`. After a cut it goes on with `Last-Event-ID`."""

from __future__ import annotations

import json
import os
import sys
import uuid

import requests
import sseclient

URL = os.environ.get("HOLDFAST_URL", "http://localhost:8000")
HEADERS = {"X-API-Key": os.environ.get("HOLDFAST_KEY", "")}
PAYLOAD = {"query": sys.argv[1] if len(sys.argv) > 1 else "explain quantum computing"}

run_id = str(uuid.uuid4())
response = requests.post(
    f"{URL}/invoke/stream", params={"run_id": run_id}, json=PAYLOAD, headers=HEADERS, stream=True, timeout=60
)
last, is_over = "", False
while not is_over:
    response.raise_for_status()
    try:
        for event in sseclient.SSEClient(response).events():  # type: ignore[arg-type]  # it takes a response
            print(f"[{event.event}] {json.loads(event.data)}")
            last = event.id or last
            is_over = event.event in ("complete", "error", "cancelled")
    except requests.RequestException:
        pass  # the connection was lost, the run was not
    if not is_over:
        headers = {**HEADERS, "Last-Event-ID": last}
        response = requests.get(f"{URL}/runs/{run_id}/events", headers=headers, stream=True, timeout=60)
