"""The root of what the clients raise, and its branches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self


class ClientError(Exception):
    """The root of what the clients raise. Each can be copied, and sent to another process."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are made anew from their text alone; most of ours take other arguments.
        return self._made_again, (self.args, self.__dict__)

    @classmethod
    def _made_again(cls, args: tuple[Any, ...], fields: dict[str, Any]) -> Self:
        error = cls.__new__(cls, *args)
        error.__dict__.update(fields)
        return error


class ConnectionFailed(ClientError, ConnectionError):
    """
    The server could not be reached, or its answer did not come. Whether it did what was asked is unknown; the same call
    under the same idempotency key tells. `is_overdue`: it was only late.
    """

    is_overdue = False


class StreamInterrupted(ConnectionFailed):
    """A stream ended before its last event. The run goes on: read it again from the last event that came."""


class DeadlineExceeded(ClientError, TimeoutError):
    """The time that the caller gave is over. Nothing is open any more; the run goes on."""


class ClientClosed(ClientError):
    """The client, or the stream, was closed while this was under way. Nothing is open any more; runs go on."""


class ApiError(ClientError):
    """
    The server answered with an error.

    `code` is stable, in upper case, and for programs; `details` are the facts that came with it; `retry_after` is how
    many seconds the server wants the caller to wait, if it said; `status_code` is None where the error stood in a
    stream. A code that this version does not know has the class of its status.
    """

    code: str = ""
    is_passing: bool = False
    """Whether the same call may succeed later. The clients repeat such calls before they raise."""
    by_code: ClassVar[dict[str, type[ApiError]]] = {}

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        status_code: int | None = None,
        details: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
        run_id: str | None = None,
    ) -> None:
        self.code = self.code if code is None else code
        super().__init__(f"{self.code}: {message}" if status_code is None else f"{status_code} {self.code}: {message}")
        self.message = message
        self.status_code = status_code
        self.details: Mapping[str, Any] = details or {}
        self.retry_after = retry_after
        self.run_id = run_id

    def __init_subclass__(cls) -> None:
        if code := cls.__dict__.get("code"):
            ApiError.by_code[code] = cls


class RequestRefused(ApiError):
    """The call is wrong. Nothing was changed; the same call will be refused again."""


class NotFound(RequestRefused):
    """What the call names does not exist, or belongs to another tenant."""

    code = "NOT_FOUND"


class AccessRefused(ApiError):
    """The key is missing, unknown, or may not do this."""


class Conflict(ApiError):
    """The state is another than the caller thinks, or the id is taken: read, then decide again."""

    code = "CONFLICT"


class Unavailable(ApiError):
    """There is no room now, or something is not up: repeat it later. Clients do so by themselves first."""

    is_passing = True


class ServerFault(ApiError):
    """Something is wrong in the server. Whether the call had an effect is unknown."""


class ForeignAnswer(ServerFault):
    """The answer is no Holdfast server's: a proxy's page, or the URL is another server's."""

    code = "INVALID_RESPONSE"


class RunFailed(ApiError):
    """The run is over, and has failed. `run_id` is which. The code is the run's."""
