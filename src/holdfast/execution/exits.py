"""
Code of authors that ends in a way that is not meant for it: by `sys.exit()`, as command lines do, or by an exception
that is no `Exception`.

asyncio lets SystemExit and KeyboardInterrupt out of a task and out of its event loop, which would end the server with
all that it executes, and what is no `Exception` passes by whoever records failures. Wherever the code of an author is
called it is an error like any other, of the run that called it. Tasks that such code starts by itself are out of reach.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from holdfast.execution.released import Released

# What ends an execution from outside, and has to pass.
_PASSING = (Exception, asyncio.CancelledError, Released)


class Exited(Exception):
    """The code wanted to end more than itself."""


class _NoExit:
    """`with no_exit:` what is called inside can fail, and not end the process."""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, _PASSING):
            name, text = type(error).__name__, str(error)
            raise Exited(f"{name}: {text}" if text else name) from error


no_exit = _NoExit()
