"""
The stop signal, as a value that everything which waits is handed.

uvicorn waits for open streams for ever when it stops, so a stream that never ends must still be able to end: it
registers here and is woken once the server is asked to stop.
"""

from __future__ import annotations

from collections.abc import Callable


class Shutdown:
    """Set once, on the event loop; callbacks run at once, in the order in which they were added."""

    def __init__(self) -> None:
        self.is_set = False
        self._callbacks: dict[Callable[[], None], None] = {}

    def add(self, callback: Callable[[], None]) -> None:
        """Call this at the stop; after it, at once."""
        if self.is_set:
            callback()
        else:
            self._callbacks[callback] = None

    def remove(self, callback: Callable[[], None]) -> None:
        """Forget a callback; one that is not known is no error."""
        self._callbacks.pop(callback, None)

    def set(self) -> None:
        """Ask everything to end. A second call changes nothing."""
        if self.is_set:
            return
        self.is_set = True
        callbacks, self._callbacks = list(self._callbacks), {}
        for callback in callbacks:
            callback()
