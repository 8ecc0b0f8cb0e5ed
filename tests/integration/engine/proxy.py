"""A proxy between a client and a server that cuts each connection after so many frames of its answer."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

BLOCK = 4096


class CuttingProxy:
    """Forwards bytes; behind the n-th empty line of an answer's body it closes both sides at once."""

    def __init__(self, port: int, frames: int) -> None:
        self._target = port
        self._frames = frames
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.connections = 0
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                server = socket.create_connection(("127.0.0.1", self._target))
                threading.Thread(target=_forward, args=(client, server), daemon=True).start()
                # Not even one frame each time would let nobody ever get further.
                frames = self._frames if self.connections == 1 else max(self._frames, 1)
                threading.Thread(target=_forward_answer, args=(server, client, frames), daemon=True).start()


def _forward_answer(server: socket.socket, client: socket.socket, frames: int) -> None:
    seen, rest = b"", frames
    with contextlib.suppress(OSError):
        while data := server.recv(BLOCK):
            for index in range(len(data)):
                seen = seen[-1:] + data[index : index + 1]
                # The first empty line of the body is behind `retry:`.
                if seen == b"\n\n":
                    rest -= 1
                    if rest < 0:
                        client.sendall(data[: index + 1])
                        _cut(client, server)
                        return
            client.sendall(data)
    _cut(client, server)


def _forward(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(BLOCK):
            target.sendall(data)


def _cut(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@contextlib.contextmanager
def cutting(port: int, frames: int) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(port, frames)
    try:
        yield proxy
    finally:
        proxy.close()
