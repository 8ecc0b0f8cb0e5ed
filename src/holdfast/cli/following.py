"""
Following a run through everything that can happen to the connection and the server.

The cursor is the `id:` of the last event that was taken; after a drop the next call gives it back and the stream goes
on behind it. Where the server is, is looked up again each time: one that was started anew may be elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from holdfast.cli.remote import client_of, refusal
from holdfast.cli.screen import CliError
from holdfast.model.lifecycle import TERMINAL_EVENTS

if TYPE_CHECKING:
    from holdfast.cli.access import ServerAt

# Two heartbeats and a bit: after such a silence the connection is gone, whatever the socket believes.
SILENCE_SECONDS = 35.0
RETRY_SECONDS = (0.1, 0.25, 0.5, 1.0)
GIVE_UP_SECONDS = 60.0
# An event may have 1 MiB; its frame a little more.
FRAME_BYTES_MAX = 4 * 1024 * 1024


class Frame(msgspec.Struct, frozen=True):
    """One event as it came: its cursor (empty for a gap), and its bytes."""

    cursor: str
    data: str

    @property
    def event(self) -> dict[str, Any]:
        decoded: dict[str, Any] = msgspec.json.decode(self.data)
        return decoded


class Follower:
    """A reader of one run that does not lose its place."""

    def __init__(
        self,
        find: Callable[[], ServerAt | None],
        run_id: str,
        *,
        after: str | None = None,
        on_drop: Callable[[str | None], None] = lambda _: None,
        on_resume: Callable[[str | None], None] = lambda _: None,
        give_up_seconds: float = GIVE_UP_SECONDS,
    ) -> None:
        self.cursor = after
        self.drops = 0
        self._find = find
        self._run_id = run_id
        self._on_drop = on_drop
        self._on_resume = on_resume
        self._give_up_seconds = give_up_seconds
        self._is_over = False

    def frames(self) -> Iterator[Frame]:
        """
        The events behind the cursor until the run is over.

        Raises:
            CliError: the server refuses, or there was none for too long.
        """
        import httpx2

        deadline, tries, is_dropped = time.monotonic() + self._give_up_seconds, 0, False
        while True:
            before = self.cursor
            try:
                for frame in self._stream(is_dropped):
                    is_dropped, tries = False, 0
                    yield frame
            except (httpx2.TransportError, httpx2.StreamError, ConnectionError):
                pass
            if self._is_over:
                return
            if not is_dropped or self.cursor != before:
                deadline = time.monotonic() + self._give_up_seconds
            if not is_dropped:
                is_dropped = True
                self.drops += 1
                self._on_drop(self.cursor)
            if time.monotonic() > deadline:
                raise CliError(
                    f"no server for {self._give_up_seconds:g} s; the run goes on when one starts again"
                    f" (holdfast serve), and so does: holdfast runs follow {self._run_id}"
                    + (f" --after {self.cursor}" if self.cursor is not None else "")
                )
            time.sleep(RETRY_SECONDS[min(tries, len(RETRY_SECONDS) - 1)])
            tries += 1

    def _stream(self, is_dropped: bool) -> Iterator[Frame]:
        """The frames of one connection. It ends with the connection, or with the run."""
        import httpx2

        server = self._find()
        if server is None:
            raise ConnectionError("no server")
        headers = {} if self.cursor is None else {"Last-Event-ID": self.cursor}
        path = f"/runs/{quote(self._run_id, safe='')}/events"
        with (
            client_of(server, read_seconds=SILENCE_SECONDS) as client,
            client.stream("GET", path, headers=headers) as reply,
        ):
            if reply.status_code == 204:
                self._is_over = True
                return
            if reply.status_code in (401, 503):
                # Starting, stopping, or another one by now, whose token its file tells in a moment.
                raise ConnectionError(f"the server answered {reply.status_code}")
            if reply.is_error:
                reply.read()
                raise refusal(reply)
            if is_dropped:
                self._on_resume(self.cursor)
            for sent in httpx2.EventSource(reply, max_event_size=FRAME_BYTES_MAX):
                if not sent.data:
                    continue  # the opening block
                is_gap = sent.event == "gap"
                if not is_gap:
                    self.cursor = sent.id
                    self._is_over = sent.event in TERMINAL_EVENTS
                yield Frame("" if is_gap else sent.id, sent.data)
                if self._is_over:
                    return
