"""
A client that survives cut connections and restarts of the server: what it missed it fetches by timestamp.

    ENGINE_KEY=dev-engine-key python examples/engine/resilient.py
"""

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import httpx

Event = dict[str, Any]
# A server that is being restarted is back long before.
RECONNECT_SECONDS = 60.0
RETRY_SECONDS = 0.2


class EngineClient:
    """The calls of the Engine API, one method each."""

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.Client(base_url=url, headers={"X-Engine-Key": key}, timeout=30)

    def execute(self, message: str, task_id: str) -> Iterator[Event]:
        """Yield events as the agent runs. ConnectionError: the stream was cut; the agent runs on."""
        return self._events("POST", "/execute", json={"message": message, "task_id": task_id})

    def replay(self, task_id: str, after: float = 0) -> Iterator[Event]:
        """Yield the events with a greater timestamp, and then those to come."""
        deadline = time.monotonic() + RECONNECT_SECONDS
        while True:
            try:
                for event in self._events("GET", "/execute/replay", params={"task_id": task_id, "after": after}):
                    after, deadline = event["timestamp"], time.monotonic() + RECONNECT_SECONDS
                    yield event
                return
            except ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_SECONDS)

    def hitl_respond(self, task_id: str, answer: str) -> Event:
        """Answer the question that the agent waits for."""
        found: Event = self._json(self._http.post("/hitl/respond", json={"task_id": task_id, "answer": answer}))
        return found

    def health(self) -> Event:
        found: Event = self._json(self._http.get("/health"))
        return found

    def memory_search(self, store: str, query: str, limit: int = 20) -> list[Event]:
        """What the assistant remembers: `store` is knowledge, episodes or social."""
        found: list[Event] = self._json(
            self._http.post(f"/memory/{store}/search", json={"query": query, "limit": limit})
        )
        return found

    def feedback(self, task_id: str, feedback_type: str, **fields: Any) -> Event:
        """Say what you think of the task's last turn; a correction is known to the agent at once."""
        body = {"task_id": task_id, "feedback_type": feedback_type, **fields}
        found: Event = self._json(self._http.post("/feedback", json=body))
        return found

    def close(self) -> None:
        self._http.close()

    def _json(self, response: httpx.Response) -> Any:
        return response.raise_for_status().json()

    def _events(self, method: str, path: str, **call: Any) -> Iterator[Event]:
        is_over = False
        try:
            with self._http.stream(method, path, **call) as response:
                if method == "GET" and response.status_code == 503:
                    raise ConnectionError("the server is starting or stopping")
                response.raise_for_status()
                for line in response.iter_lines():
                    if line.startswith(": shutdown"):
                        raise ConnectionError("the server is stopping")
                    if line.startswith("data:"):
                        event: Event = json.loads(line[len("data:") :].strip())
                        is_over = event.get("phase") in ("completed", "errored")
                        yield event
        except httpx.TransportError as error:
            raise ConnectionError(str(error)) from error
        if not is_over and method == "POST":
            raise ConnectionError("the stream ended before the turn did")


class ResilientStream:
    """The events of one turn, each once, wherever the connection is cut."""

    def __init__(self, client: EngineClient, message: str, task_id: str) -> None:
        self.client, self.message, self.task_id = client, message, task_id
        self.last_timestamp: float = 0

    def __iter__(self) -> Iterator[Event]:
        try:
            for event in self.client.execute(self.message, self.task_id):
                self.last_timestamp = event["timestamp"]
                yield event
        except ConnectionError:
            for event in self.client.replay(self.task_id, after=self.last_timestamp):
                self.last_timestamp = event["timestamp"]
                yield event


if __name__ == "__main__":
    engine = EngineClient(os.environ.get("ENGINE_URL", "http://localhost:8000"), os.environ["ENGINE_KEY"])
    for event in ResilientStream(engine, "Count to 20.", task_id=f"resilient-{os.getpid()}"):
        print(event.get("text", ""), end="", flush=True)
    print()
    engine.close()
