"""`python -m holdfast.cli.member DESCRIPTOR`: one of the processes behind a port; see workers.py. Not for people."""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path

import msgspec

from holdfast.cli.screen import fail
from holdfast.cli.served import read_served
from holdfast.cli.starting import announcement, end_with, say
from holdfast.cli.workers import Membership
from holdfast.errors import HoldfastError
from holdfast.server import Listening, Shared, serve


def main() -> None:
    """Serve on the inherited socket until a signal; end when the one that started us is gone."""
    starter = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(starter.fileno(), False)
    membership = msgspec.json.decode(_all_of(starter), type=Membership)
    threading.Thread(target=end_with, args=(membership.parent,), name="parent", daemon=True).start()
    try:
        _serve(membership, starter)
    except HoldfastError as error:
        fail(error)
        sys.exit(1)


def _serve(membership: Membership, starter: socket.socket) -> None:
    settings = membership.settings
    env_file = None if membership.env_file is None else Path(membership.env_file)
    served = read_served(membership.targets, env_file=env_file, settings=settings)
    programs = served.load()
    listener = socket.socket(fileno=membership.listener)
    os.set_inheritable(listener.fileno(), False)

    def tell(listening: Listening) -> None:
        if membership.announces:
            say(announcement(settings, programs, listening, served.access))
        with starter:
            try:
                starter.send(b"\n")
            except OSError:
                return  # nobody waits for it

    serve(settings, programs, on_listening=tell, shared=Shared(listener, membership.token), access=served.access)


def _all_of(connection: socket.socket) -> bytes:
    pieces = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


if __name__ == "__main__":
    main()
