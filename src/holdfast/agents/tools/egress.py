"""Which hosts may be called unasked: `HOLDFAST_EGRESS_ALLOW`. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from holdfast.agents.tools.policy import EGRESS
from holdfast.agents.tools.tool import Reason


class Egress:
    """The list. An empty one lets everything pass."""

    def __init__(self, entries: Iterable[str] = ()) -> None:
        """`example.com`, `*.example.com` for what is below it, `example.com:8443` for one port alone."""
        self._entries = frozenset(entry.lower().rstrip(".") for entry in entries)

    def allows(self, host: str, port: int | None = None) -> bool:
        host = host.lower().rstrip(".")
        if not self._entries or host in self._entries or f"{host}:{port}" in self._entries:
            return True
        parents = host.split(".")
        return any(f"*.{'.'.join(parents[at:])}" in self._entries for at in range(1, len(parents)))

    def reason(self, url: str) -> Reason | None:
        """Why a person is asked before this URL is called; None: nobody is."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        except ValueError:
            return None  # it is refused anyway
        return None if not host or self.allows(host, port) else Reason(EGRESS, host=host.lower().rstrip("."))
