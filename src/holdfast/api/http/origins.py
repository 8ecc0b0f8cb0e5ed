"""Which hosts and origins may call, for the whole server. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from holdfast.api.http.asgi import Header
from holdfast.api.http.errors import HostNotAllowed, OriginNotAllowed

_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_EXPOSED: Final = (
    b"X-Run-Id, X-Request-Id, Location, Retry-After, Idempotency-Replayed, "
    b"X-Trace-Id, X-Ignored-Fields, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset"
)
_METHODS: Final = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


class Origins:
    """
    The rules of one server.

    On loopback only known host names are answered, so that a page cannot reach the server through a DNS name of its
    own. `origins` are those whose pages may call; `*` means all of them, without credentials of the browser.
    """

    def __init__(
        self,
        *,
        is_loopback: bool,
        allowed_hosts: Sequence[str] = (),
        origins: Sequence[str] = (),
        methods: Sequence[str] = (),
    ) -> None:
        self._hosts = _LOOPBACK_NAMES | {host.lower() for host in allowed_hosts} if is_loopback else None
        self._methods = ", ".join(methods).encode("ascii") if methods else _METHODS
        self._is_any = "*" in origins
        self._origins = frozenset(origin.encode() for origin in origins if origin != "*")

    def check_host(self, host: bytes | None) -> None:
        """
        Let a Host header pass, or refuse it.

        Raises:
            HostNotAllowed
        """
        if self._hosts is None:
            return
        name = (host or b"").decode("latin-1").lower()
        if not name.endswith("]"):
            head, colon, port = name.rpartition(":")
            name = head if colon and port.isdigit() else name
        if name not in self._hosts:
            raise HostNotAllowed(
                f"this server does not answer for the host {name[:100]!r}; put it into HOLDFAST_ALLOWED_HOSTS"
            )

    def headers_for(self, origin: bytes, host: bytes | None) -> list[Header]:
        """
        The CORS headers of an answer to a page of this origin.

        Raises:
            OriginNotAllowed
        """
        exposed = (b"access-control-expose-headers", _EXPOSED)
        if self.is_trusted(origin, host):
            allowed = [(b"access-control-allow-origin", origin), (b"access-control-allow-credentials", b"true")]
            return [*allowed, (b"vary", b"Origin"), exposed]
        if self._is_any:
            return [(b"access-control-allow-origin", b"*"), exposed]
        raise OriginNotAllowed(
            f"pages of the origin {origin[:200].decode('latin-1')!r} may not call this server; those that may are in "
            "HOLDFAST_CORS_ORIGINS"
        )

    def is_trusted(self, origin: bytes, host: bytes | None) -> bool:
        """Whether a page of this origin may call with the browser's credentials: it is our own, or listed by name."""
        own = b"://" + (host or b"")
        # Behind a proxy that speaks TLS, our own pages have an origin with https.
        return origin in self._origins or origin in (b"http" + own, b"https" + own)

    def preflight(self, asked_headers: bytes | None) -> list[Header]:
        """What a preflight is told beyond `headers_for`."""
        headers: list[Header] = [(b"access-control-allow-methods", self._methods), (b"access-control-max-age", b"600")]
        if asked_headers:
            headers.append((b"access-control-allow-headers", asked_headers))
        return headers
