"""The socket that a server listens on. It is bound before anything is started, so that a port in use is told at once."""

from __future__ import annotations

import errno
import socket

from holdfast.errors import HoldfastError
from holdfast.settings import Settings


class CannotListen(HoldfastError):
    """The address cannot be listened on. Nothing was started."""

    code = "cannot_listen"


def bind(settings: Settings) -> socket.socket:
    """
    The listening socket, so that a port in use is told before anything is started.

    Raises:
        CannotListen
    """
    host = settings.host.strip("[]")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as exc:
        raise CannotListen(f"cannot listen on {settings.host}: {exc.strerror or exc}") from exc
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.setblocking(False)
    except OSError as exc:
        listener.close()
        what = f"cannot listen on {settings.host}:{settings.port}: {exc.strerror or exc}"
        if exc.errno == errno.EADDRINUSE:
            what += "; end what listens there, or take another port with --port or HOLDFAST_PORT (0: a free one)"
        raise CannotListen(what) from exc
    return listener


def url_of(settings: Settings, listener: socket.socket) -> str:
    """Where a server that listens there is reached from the same machine."""
    host = settings.host.strip("[]")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not listened on
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
