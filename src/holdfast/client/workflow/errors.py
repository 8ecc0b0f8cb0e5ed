"""
What the client raises.

* WorkflowError
  + WorkflowHTTPError         the server answered something else than 200
  + WorkflowTimeout           the waiting is over, the run is not: await it again
  + WorkflowConnectionError   the server was not reached, or its answer was not: what it did is unknown
  + WebhookRejected           a delivery that cannot be shown to come from the server
* ToolError                   raised by a handler: the text that the model may see

They are no HoldfastErrors: those are what the server's code raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from holdfast.client.errors import ClientError

if TYPE_CHECKING:
    from holdfast.client.workflow.run import WorkflowRun


class WorkflowError(ClientError):
    """The root of what the client raises, and one of `holdfast.client.errors.ClientError`."""


class WorkflowHTTPError(WorkflowError):
    """
    The server refused the call, and changed nothing by it.

    `code` is stable and for programs; `detail` is the whole error, further fields included; `retry_after` is how many
    seconds the server wants the caller to wait, if it said.
    """

    def __init__(
        self, status_code: int, code: str, detail: Mapping[str, Any], *, retry_after: float | None = None
    ) -> None:
        super().__init__(f"{status_code} {code}: {detail.get('message', '')}")
        self.status_code = status_code
        self.code = code
        self.detail = detail
        self.retry_after = retry_after


class WorkflowTimeout(WorkflowError):
    """
    Nobody waits any longer, but the run goes on, and so do its handlers. Await `run` again for its result. (A handle belongs
    to its process: in another one, and in a copy, it is None.)
    """

    def __init__(self, task_id: int, run: WorkflowRun | Any, seconds: float) -> None:
        super().__init__(f"run {task_id} was not over after {seconds:g} s; it goes on: await the run again")
        self.task_id = task_id
        self.run = run

    def __reduce__(self) -> tuple[Any, ...]:
        return self._made_again, (self.args, {**self.__dict__, "run": None})


class WorkflowConnectionError(WorkflowError, ConnectionError):
    """The server could not be reached, or its answer did not come. Whether it did what was asked is unknown."""


class WebhookRejected(WorkflowError):
    """A delivery was not accepted: `status_code` 401 without a valid signature of these minutes, 400 for what is no JSON."""

    def __init__(self, message: str, *, status_code: int) -> None:
        super().__init__(message)
        self.status_code = status_code


class ToolError(Exception):
    """Raised by a handler: its text, and not the usual one, is what the run is told. Up to 4 KiB of it."""
