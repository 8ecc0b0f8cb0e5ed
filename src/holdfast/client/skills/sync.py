"""
The sync client of `AsyncSkillsClient`: that one on an event loop of its own, in a thread.

Generated from the async client by scripts/generate_sync.py; do not edit. Callbacks are called on the thread of that loop,
and must not call the client. A sync client may be used by several threads at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Unpack

from holdfast.client.portal import Portal
from holdfast.client.records import Record, Records
from holdfast.client.resuming import HEARTBEAT_SECONDS, RECONNECT_SECONDS, OnDiscard
from holdfast.client.skills.client import AsyncSkillsClient
from holdfast.client.skills.events import SkillEvent
from holdfast.client.skills.records import (
    AttachAnswer,
    CapabilityAnswer,
    SkillAnswer,
    SkillOptions,
    SkillPage,
    SkillRun,
    SkillRunPage,
    SkillStatus,
    StartedSkill,
)
from holdfast.client.streams import EventStream

if TYPE_CHECKING:
    import httpx2


class SkillsClient:
    """
    A sync client. One is enough for any number of runs; close it, or use it in `with`.

    Every call that changes something has an idempotency key, so that repeats of it, which the client makes by itself,
    have one effect. Closing the client, cancelling a call or leaving a stream never cancels a run.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 30.0,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        reconnect_seconds: float = RECONNECT_SECONDS,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """
        Args:
            url: where the server is; default is HOLDFAST_URL, else where `holdfast serve` listens by itself.
            key: an API key; None sends none.
            timeout: seconds that a request waits for the server: for the connection, its answer, or the next piece of it.
                What waits for a run has its own limit.
            heartbeat_seconds: how often the server shows that a stream lives (its setting). A stream that is silent for
                nearly twice as long is opened again.
            reconnect_seconds: how long the server may be away before a stream, or `execute`, raises; `math.inf` is for ever.
            transport: replaces the network, for tests.
        """
        self._portal = Portal()
        self._async = AsyncSkillsClient(
            url,
            key,
            timeout=timeout,
            heartbeat_seconds=heartbeat_seconds,
            reconnect_seconds=reconnect_seconds,
            transport=transport,
        )

    def execute(
        self,
        skill_id: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **options: Unpack[SkillOptions],
    ) -> SkillAnswer:
        """
        Execute a skill, and return its outputs once it is completed, or that it waits for an answer.

        Args:
            timeout: seconds that the caller waits, whatever happens; None waits for ever.
            options: those of SkillOptions.

        Raises:
            InvalidRequest: an input is missing or does not fit; `details["fields"]` names them. There is no run.
            InvalidConfiguration: the skill's files have errors. NotFound: there is no such skill.
            ApiError: the run failed, or was cancelled: by its code; `run_id` is which.
            DeadlineExceeded: the time is over. The run, if it was started, goes on; the same call with the same
                `idempotency_key` waits for it.
            Unavailable, ConnectionFailed: the server was away for longer than `reconnect_seconds`.
        """
        return self._portal.call(
            lambda: self._async.execute(skill_id, inputs, idempotency_key=idempotency_key, timeout=timeout, **options)
        )

    def stream(
        self,
        skill_id: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        on_discard: OnDiscard | None = None,
        timeout: float | None = None,
        **options: Unpack[SkillOptions],
    ) -> EventStream[SkillEvent]:
        """
        Execute a skill with the first iteration, and iterate over its frames up to `Done`.

        Args:
            on_discard: is told which events are void, as (run_id, first, last), right before the `Restarted`, `Gap` or
                `StepStart` that makes them so.
            timeout: seconds from now after which the iteration raises; None: never.
            options: those of SkillOptions.

        Raises: (by the iteration)
            DeadlineExceeded, InvalidRequest, NotFound, Unavailable, ConnectionFailed: as `execute`. A run that fails
            raises nothing here: its last frame says so, and `result()`, which returns the outputs, raises by its code.
        """
        return EventStream(
            self._portal,
            self._portal.make(
                lambda: self._async.stream(
                    skill_id, inputs, idempotency_key=idempotency_key, on_discard=on_discard, timeout=timeout, **options
                )
            ),
        )

    def start(
        self,
        skill_id: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **options: Unpack[SkillOptions],
    ) -> StartedSkill:
        """
        Start to execute a skill. Once this returns the run is on the server's disk; up to five tries start one run.

        Raises:
            InvalidRequest, InvalidConfiguration, NotFound, AccessRefused: it was refused; there is no run.
            Unavailable, ConnectionFailed, DeadlineExceeded: it is unknown whether there is one. The same call with the
                same `idempotency_key` tells.
        """
        return self._portal.call(
            lambda: self._async.start(skill_id, inputs, idempotency_key=idempotency_key, timeout=timeout, **options)
        )

    def attach(
        self,
        skill_id: str,
        target_type: str,
        target_ref: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **options: Unpack[SkillOptions],
    ) -> AttachAnswer:
        """
        Execute a skill on something that is there, say a run: `target_type` "run", `target_ref` its id.

        Raises:
            InvalidRequest: the skill is not made for such a target. NotFound: the run is not there.
            Others: as `execute`.
        """
        return self._portal.call(
            lambda: self._async.attach(
                skill_id, target_type, target_ref, inputs, idempotency_key=idempotency_key, timeout=timeout, **options
            )
        )

    def execute_capability(
        self,
        capability_id: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **options: Unpack[SkillOptions],
    ) -> CapabilityAnswer:
        """Execute a bare capability, as a run with the one step `call`. Raises as `execute` does."""
        return self._portal.call(
            lambda: self._async.execute_capability(
                capability_id, inputs, idempotency_key=idempotency_key, timeout=timeout, **options
            )
        )

    def explain_capability(self, capability_id: str) -> Record:
        """Which binding fulfils a capability, and why that one. NotFound, InvalidConfiguration."""
        return self._portal.call(lambda: self._async.explain_capability(capability_id))

    def list(
        self,
        *,
        domain: str | None = None,
        role: str | None = None,
        status: str | None = None,
        invocation: str | None = None,
        offset: int | None = None,
        limit: int | None = None,
    ) -> SkillPage:
        """A page of the skills that can be executed, by id. `limit`: 1 to 100; the server's default is 20."""
        return self._portal.call(
            lambda: self._async.list(
                domain=domain, role=role, status=status, invocation=invocation, offset=offset, limit=limit
            )
        )

    def describe(self, skill_id: str) -> Record:
        """A skill: `inputs`, `outputs`, `steps`. NotFound, InvalidConfiguration."""
        return self._portal.call(lambda: self._async.describe(skill_id))

    def discover(
        self, intent: str, *, domain: str | None = None, role: str | None = None, limit: int | None = None
    ) -> Records:
        """Skills that fit a text, the best first, with `score` (0 to 1) and `reason`. `limit`: 1 to 100, by default 10."""
        return self._portal.call(lambda: self._async.discover(intent, domain=domain, role=role, limit=limit))

    def diagnostics(self) -> Record:
        """What is wrong with which file: `problems`; and how many `skills` are loaded."""
        return self._portal.call(self._async.diagnostics)

    def governance(
        self, *, min_state: Literal["draft", "experimental", "stable"] | None = None, limit: int | None = None
    ) -> Record:
        """How far skills have come, and how often they ran and failed. `limit`: 1 to 1000, by default 100."""
        return self._portal.call(lambda: self._async.governance(min_state=min_state, limit=limit))

    def events(
        self,
        run_id: str,
        *,
        after: str | int | None = None,
        on_discard: OnDiscard | None = None,
        timeout: float | None = None,
    ) -> EventStream[SkillEvent]:
        """
        Iterate over a run's frames: those that are stored, then live ones, up to `Done`.

        Args:
            after: the last sequence that the caller has, or the `cursor` of a stream. None: from the start.
            on_discard, timeout: as in `stream`.

        Raises: (by the iteration)
            NotFound: there is no such run of a skill or capability.
            DeadlineExceeded, AccessRefused, Unavailable, ConnectionFailed: as `stream`.
        """
        return EventStream(
            self._portal,
            self._portal.make(lambda: self._async.events(run_id, after=after, on_discard=on_discard, timeout=timeout)),
        )

    def runs(
        self,
        *,
        status: SkillStatus | None = None,
        skill_id: str | None = None,
        offset: int | None = None,
        limit: int | None = None,
    ) -> SkillRunPage:
        """A page of runs, newest first; below operator those of this key. `limit`: 1 to 1000, by default 100."""
        return self._portal.call(lambda: self._async.runs(status=status, skill_id=skill_id, offset=offset, limit=limit))

    def get(self, run_id: str) -> SkillRun:
        """A run as it stands. NotFound."""
        return self._portal.call(lambda: self._async.get(run_id))

    def cancel(self, run_id: str, *, reason: str | None = None) -> SkillRun:
        """
        Cancel a run; its record afterwards. It is final within 5 s. The same again is a success.

        Raises:
            AlreadyFinished: it was completed, or had failed. NotFound, AccessRefused, Unavailable, ConnectionFailed.
        """
        return self._portal.call(lambda: self._async.cancel(run_id, reason=reason))

    def approve(
        self,
        run_id: str,
        *,
        interrupt_id: str | None = None,
        approver: str | None = None,
        notes: str | None = None,
        output: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Record:
        """
        Approve what a run asks, so that it goes on. Once this returns that is on disk. The same again is a success.

        Args:
            interrupt_id: which approval, where several wait.
            approver, notes: who decides and why; the journal keeps it. Default is the name of the key.
            output: what the call made, where its outcome is unknown after a crash: then it is not made again.

        Raises:
            NotWaiting: it asks for none. InterruptAmbiguous: several; name one.
            AlreadyAnswered: it was denied before. NotFound, AccessRefused, Unavailable, ConnectionFailed.
        """
        return self._portal.call(
            lambda: self._async.approve(
                run_id,
                interrupt_id=interrupt_id,
                approver=approver,
                notes=notes,
                output=output,
                idempotency_key=idempotency_key,
            )
        )

    def deny(
        self,
        run_id: str,
        *,
        interrupt_id: str | None = None,
        approver: str | None = None,
        notes: str | None = None,
        idempotency_key: str | None = None,
    ) -> Record:
        """Deny what a run asks: the step fails with SAFETY_DENIED. Arguments and errors are those of `approve`."""
        return self._portal.call(
            lambda: self._async.deny(
                run_id, interrupt_id=interrupt_id, approver=approver, notes=notes, idempotency_key=idempotency_key
            )
        )

    def replay(self, run_id: str, *, idempotency_key: str | None = None) -> StartedSkill:
        """Start a new run of the same skill with the same inputs. NotFound, InvalidConfiguration."""
        return self._portal.call(lambda: self._async.replay(run_id, idempotency_key=idempotency_key))

    def fork(
        self,
        run_id: str,
        from_step: str,
        *,
        inputs: Mapping[str, Any] | None = None,
        definition: Literal["pinned", "current"] | None = None,
        idempotency_key: str | None = None,
    ) -> StartedSkill:
        """
        Start a new run that executes a step and all that depend on it again; the others keep their results (`reused`).

        Args:
            definition: the skill as that run had it ("pinned", the default), or as its file is now.

        Raises:
            NotFinished: the run is not over. ForkConflict: a step has no result that could be kept.
            InvalidRequest: there is no such step. NotFound, AccessRefused, Unavailable, ConnectionFailed.
        """
        return self._portal.call(
            lambda: self._async.fork(
                run_id, from_step, inputs=inputs, definition=definition, idempotency_key=idempotency_key
            )
        )

    def create_webhook(
        self, url: str, events: Sequence[str], *, secret: str | None = None, idempotency_key: str | None = None
    ) -> Record:
        """
        Let a URL hear of skills and runs: `skill.completed`, `run.waiting` …, or `*`. The answer has the `secret` if the
        server made it; it is not shown again.

        Raises:
            InvalidRequest: an event or the URL is not allowed. AccessRefused: the key is no operator's.
        """
        return self._portal.call(
            lambda: self._async.create_webhook(url, events, secret=secret, idempotency_key=idempotency_key)
        )

    def webhooks(self) -> Records:
        """The subscriptions, oldest first."""
        return self._portal.call(self._async.webhooks)

    def delete_webhook(self, webhook_id: str) -> Record:
        """End a subscription; nothing more is sent to it. NotFound."""
        return self._portal.call(lambda: self._async.delete_webhook(webhook_id))

    def metrics(self) -> Record:
        """`counters`, `histograms` and `uptime_seconds` of the process; for operators."""
        return self._portal.call(self._async.metrics)

    def prometheus(self) -> str:
        """The same as text for Prometheus."""
        return self._portal.call(self._async.prometheus)

    def health(self, *, deep: bool = False) -> Record:
        """How the process is; `deep`: also whether what it needs is there. One try. ConnectionFailed."""
        return self._portal.call(lambda: self._async.health(deep=deep))

    def live(self) -> Record:
        """That the process answers. One try. ConnectionFailed."""
        return self._portal.call(self._async.live)

    def ready(self) -> bool:
        """Whether the server takes runs. One try. ConnectionFailed."""
        return self._portal.call(self._async.ready)

    def set_key(self, key: str | None) -> None:
        """
        The key of all further requests; None sends none.

        Raises:
            ValueError: it is none, say with a line break behind it. The text does not show it.
        """
        self._async.set_key(key)

    def close(self) -> None:
        """Close the connections, and the event loop. Runs go on."""
        self._portal.call(self._async.aclose)
        self._portal.close()

    def __enter__(self) -> SkillsClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
