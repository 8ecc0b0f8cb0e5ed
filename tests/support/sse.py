"""Server-sent events as a plain client reads them: by lines, nothing clever."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass
class Frame:
    """One frame; `comments` are those that stood before or in it."""

    id: str | None = None
    event: str | None = None
    data: Any = None
    comments: list[str] = field(default_factory=list)


def frames(lines: Iterable[str]) -> Iterator[Frame]:
    """The frames of a stream. A block of comments alone is a frame without an event."""
    frame, is_empty = Frame(), True
    for line in lines:
        if not line:
            if not is_empty:
                yield frame
            frame, is_empty = Frame(), True
            continue
        is_empty = False
        if line.startswith(":"):
            frame.comments.append(line[1:].strip())
            continue
        name, _, value = line.partition(": ")
        if name == "data":
            frame.data = json.loads(value)
        elif name in ("id", "event"):
            setattr(frame, name, value)


def events(response: httpx.Response) -> Iterator[Frame]:
    """The frames with an event, as they come."""
    return (frame for frame in frames(response.iter_lines()) if frame.event is not None)


def read_all(client: httpx.Client, method: str, url: str, **arguments: Any) -> list[Frame]:
    """All events of a stream, to the end of its body."""
    with client.stream(method, url, **arguments) as response:
        assert response.status_code == 200, response.read()
        return list(events(response))
