"""An endpoint: where events go to, which of them, and with which secrets they are signed. No I/O."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from holdfast.model import Kind, Record, Run

# The kinds of records that endpoints are: those of a tenant, and those that hear of one run alone.
ENDPOINT: Final = "endpoint"
RUN_ENDPOINT: Final = "run_endpoint"

TEST_EVENT: Final = "endpoint.test"

# The shapes of bodies, named after the APIs that they are of.
WORKFLOW: Final = "workflow"
SKILLS: Final = "skills"

_ENDS: Final = {
    "started": "run.started",
    "complete": "run.completed",
    "error": "run.failed",
    "cancelled": "run.cancelled",
}
_WAITS: Final = {"interrupt": "run.waiting", "interrupt_resolved": "run.resumed"}
_ROUNDS: Final = {"interrupt": "run.awaiting_tool_calls", "interrupt_resolved": "run.tool_calls_answered"}

EVENTS: Final = (
    "run.started",
    "run.awaiting_tool_calls",
    "run.tool_calls_answered",
    "run.waiting",
    "run.resumed",
    "run.completed",
    "run.failed",
    "run.cancelled",
)


def event_name(event: dict[str, Any]) -> str | None:
    """What a canonical event is called here; None: nobody is told of it."""
    kind = event["type"]
    if kind in _ENDS:
        return _ENDS[kind]
    if kind not in _WAITS or event.get("kind") == Kind.TIMER:
        return None
    return (_ROUNDS if event.get("kind") == Kind.TOOL else _WAITS)[kind]


class Secret(msgspec.Struct, frozen=True):
    """One secret of an endpoint, as its receiver has it; it signs until then."""

    text: str
    until: int | None = None  # None: until it is replaced


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """
    Where events go to. An empty filter lets everything pass.

    `failures` counts attempts that failed in a row, the first of them at `failing_since`.
    """

    endpoint_id: str
    tenant: str
    url: str
    events: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()  # names, or ids in lower case
    environments: tuple[str, ...] = ()
    description: str = ""
    secrets: tuple[Secret, ...]  # the newest first
    enabled: bool = True
    disabled_reason: str | None = None
    created_at: int
    failures: int = 0
    failing_since: int | None = None
    number: int | None = None  # of the run that it hears of alone, once that has begun
    is_of_run: bool = False
    shape: str = WORKFLOW  # how its events are named and its bodies look: that of an API

    def wants(self, event: str, run: Run, environment: str) -> bool:
        """Whether an event of a run that it hears of passes its filters."""
        return (
            (not self.events or event in self.events)
            and self.hears_of(run)
            and (not self.environments or environment in self.environments)
        )

    def hears_of(self, run: Run) -> bool:
        """Whether its filters let through any event of this run."""
        return not self.agents or run.agent in self.agents or run.agent_id in self.agents

    def secrets_at(self, now: int) -> tuple[str, ...]:
        """The secrets that sign now, the newest first."""
        return tuple(secret.text for secret in self.secrets if secret.until is None or secret.until > now)

    def record(self, now: int) -> Record:
        """The endpoint as the store keeps it."""
        return Record(
            kind=RUN_ENDPOINT if self.is_of_run else ENDPOINT,
            tenant=self.tenant,
            name=self.endpoint_id,
            number=self.number,
            body=msgspec.json.encode(self),
            created_at=self.created_at,
            updated_at=now,
        )


_decoder: Final = msgspec.json.Decoder(Endpoint)


def endpoint_of(record: Record) -> Endpoint:
    """The endpoint that a record keeps."""
    return _decoder.decode(record.body)
