"""Something to look at while long work goes on. In a pipe or a log there is nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from holdfast.cli.screen import notes

LOOK_SECONDS = 0.2


@contextmanager
def counting(text: str) -> Iterator[Callable[[str, int], None]]:
    """Show of what there is how much by now, as often as the work inside tells."""
    if not notes().is_terminal:
        yield lambda _, __: None
        return
    with notes().status(text) as status:
        yield lambda name, count: status.update(f"{text}: {name} {count:,}")


@contextmanager
def growing(text: str, size: Callable[[], int]) -> Iterator[None]:
    """Show how many bytes there are by now, as long as the work inside goes on."""
    if not notes().is_terminal:
        yield
        return
    done = threading.Event()
    with notes().status(text) as status:

        def look() -> None:
            while not done.wait(LOOK_SECONDS):
                status.update(f"{text}: {size():,} bytes")

        watcher = threading.Thread(target=look, name="progress", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
