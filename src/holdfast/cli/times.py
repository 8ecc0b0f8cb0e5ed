"""Times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime


def local_time(text: str) -> str:
    """An RFC 3339 time in this machine's zone, to the second."""
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def took(start: str, end: str | None) -> str:
    """How long something took, or has taken so far."""
    began = datetime.fromisoformat(start)
    ended = datetime.now(UTC) if end is None else datetime.fromisoformat(end)
    return duration(max((ended - began).total_seconds(), 0.0)) + ("" if end else " so far")


def duration(seconds: float) -> str:
    """A duration in its two largest units."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"
