"""
How a command reaches the runs: over HTTP to the server that has the store open, or, when none has, in this process.

A server says in `<data>/server.json` (readable by its owner alone) where it is and by which token its own CLI may
call it. A file that a killed server left behind is told from a live one by asking; then the store's lock decides.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from holdfast.cli.env_file import read_env_file
from holdfast.cli.screen import CliError
from holdfast.settings import Settings
from holdfast.variables import load_settings

SERVER_FILE = "server.json"


class ServerAt(msgspec.Struct, frozen=True):
    """What `server.json` says."""

    url: str
    pid: int
    token: str


class Access(Protocol):
    """What commands ask for. Runs, interrupts and keys are dicts in the shapes of the Runtime API."""

    is_live: bool  # a server executes runs meanwhile

    def runs(self, filters: Mapping[str, str], limit: int) -> Iterator[dict[str, Any]]:
        """Newest first, at most `limit`."""
        ...

    def run(self, run_id: str) -> dict[str, Any]: ...

    def interrupts(self, run_id: str) -> list[dict[str, Any]]:
        """Those that wait for an answer."""
        ...

    def answer(self, run_id: str, interrupt_id: str, answer: Any) -> dict[str, Any]: ...

    def cancel(self, run_id: str, reason: str | None) -> dict[str, Any]: ...

    def export(self, run_id: str) -> Iterator[bytes]: ...

    def verify(self, run_id: str) -> dict[str, Any]: ...

    def keys(self) -> list[dict[str, Any]]: ...

    def add_key(self, name: str, role: str, tenant: str) -> dict[str, Any]: ...

    def rotate_key(self, name: str, overlap_seconds: float | None) -> dict[str, Any]: ...

    def revoke_key(self, name: str) -> dict[str, Any]: ...

    def backup(self, target: Path) -> None: ...


def settings_for(data: Path | None, store: str | None = None) -> Settings:
    """The settings of a command that is told at most where the data are."""
    read_env_file()
    return load_settings(os.environ, data=None if data is None else str(data), store=store)


def read_server_file(directory: Path) -> ServerAt | None:
    """What the last server in this directory said of itself; it may be gone."""
    try:
        return msgspec.json.decode((directory / SERVER_FILE).read_bytes(), type=ServerAt)
    except FileNotFoundError:
        return None
    except PermissionError:
        raise CliError(
            f"{directory / SERVER_FILE} belongs to another user; run this as the user of the server"
        ) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise CliError(f"{directory / SERVER_FILE} cannot be read: {error}") from None


def open_access(settings: Settings, *, create: bool = False) -> AbstractContextManager[Access]:
    """
    The running server, or else the store itself. With `create`, a store that does not exist is made.

    Raises:
        CliError: neither can be reached; the message says why.
    """
    from holdfast.cli.remote import Remote

    server = live_server(settings)
    if server is not None:
        return Remote(server)
    from holdfast.cli.local import open_local

    return open_local(settings, create=create)


def live_server(settings: Settings) -> ServerAt | None:
    """The server of this data directory, if it answers."""
    from holdfast.cli.remote import answers

    server = read_server_file(Path(settings.data))
    return server if server is not None and answers(server) else None
