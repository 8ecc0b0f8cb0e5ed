"""
Code of authors that wants to end the process, by `sys.exit()` or in the manner of a command line.

asyncio lets SystemExit and KeyboardInterrupt out of a task and out of its event loop, which would end the server with
all that it executes. Wherever the code of an author is called it is an error like any other, of the run that called it.
Tasks that such code starts by itself are out of reach.
"""

from __future__ import annotations

from types import TracebackType


class Exited(Exception):
    """The code wanted to end the process."""


class _NoExit:
    """`with no_exit:` what is called inside can fail, and not end the process."""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            name, text = type(error).__name__, str(error)
            raise Exited(f"{name}: {text}" if text else name) from error


no_exit = _NoExit()
