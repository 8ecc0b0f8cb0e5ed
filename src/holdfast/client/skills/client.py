"""The client of the Skills API: execute skills and capabilities, read their runs, decide what they ask."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, Unpack
from urllib.parse import quote

from holdfast.client.answers import Answer, error_of
from holdfast.client.api_client import ApiClient, given, record
from holdfast.client.errors import ClientError
from holdfast.client.http import Request, deadline_of, within
from holdfast.client.records import Record, Records
from holdfast.client.resuming import HEARTBEAT_SECONDS, RECONNECT_SECONDS, OnDiscard, Patience
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
from holdfast.client.skills.source import SkillSource
from holdfast.client.streams import AsyncEventStream

if TYPE_CHECKING:
    import httpx2

# Under the minute after which many proxies give up on a request. What is not over by then is asked for again.
WAIT_SECONDS: Final = 40
# A server that is asked to wait answers this much later at the latest.
WAIT_GRACE_SECONDS: Final = 15.0

# Of the options of an execution, those that stand in `options` on the wire.
_NESTED: Final = frozenset({"fail_fast", "max_workers", "trust_level", "confirmed_capabilities"})


class AsyncSkillsClient(ApiClient):
    """
    An async client. One is enough for any number of runs; close it, or use it in `async with`.

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
        super().__init__(
            url,
            key,
            timeout=timeout,
            heartbeat_seconds=heartbeat_seconds,
            reconnect_seconds=reconnect_seconds,
            transport=transport,
        )

    # Executing

    async def execute(
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
        body = _wish(inputs, options)
        return record(SkillAnswer, await self._waited(f"{_skill(skill_id)}/execute", body, idempotency_key, timeout))

    def stream(
        self,
        skill_id: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        on_discard: OnDiscard | None = None,
        timeout: float | None = None,
        **options: Unpack[SkillOptions],
    ) -> AsyncEventStream[SkillEvent]:
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
        path = f"{_skill(skill_id)}/execute/stream"
        start = self._keyed("POST", path, _wish(inputs, options), key=idempotency_key)
        return self._stream(SkillSource(start, on_discard=on_discard), timeout)

    async def start(
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
        path, body = f"{_skill(skill_id)}/execute/async", _wish(inputs, options)
        return record(StartedSkill, await self._change("POST", path, body, key=idempotency_key, timeout=timeout))

    async def attach(
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
        body = {"target_type": target_type, "target_ref": target_ref, **_wish(inputs, options)}
        answer = await self._waited(f"{_skill(skill_id)}/attach", body, idempotency_key, timeout)
        return record(AttachAnswer, {**answer, "execution": record(SkillAnswer, answer.get("execution"))})

    async def execute_capability(
        self,
        capability_id: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **options: Unpack[SkillOptions],
    ) -> CapabilityAnswer:
        """Execute a bare capability, as a run with the one step `call`. Raises as `execute` does."""
        path = f"{_capability(capability_id)}/execute"
        return record(CapabilityAnswer, await self._waited(path, _wish(inputs, options), idempotency_key, timeout))

    async def explain_capability(self, capability_id: str) -> Record:
        """Which binding fulfils a capability, and why that one. NotFound, InvalidConfiguration."""
        return record(Record, _checked(await self._change("POST", f"{_capability(capability_id)}/explain", {})))

    # Skills

    async def list(
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
        query = given(domain=domain, role=role, status=status, invocation=invocation, offset=offset, limit=limit)
        return record(SkillPage, await self._get("/v1/skills/list", query))

    async def describe(self, skill_id: str) -> Record:
        """A skill: `inputs`, `outputs`, `steps`. NotFound, InvalidConfiguration."""
        return record(Record, _checked(await self._get(f"{_skill(skill_id)}/describe")))

    async def discover(
        self, intent: str, *, domain: str | None = None, role: str | None = None, limit: int | None = None
    ) -> Records:
        """Skills that fit a text, the best first, with `score` (0 to 1) and `reason`. `limit`: 1 to 100, by default 10."""
        body = given(intent=intent, domain=domain, role=role, limit=limit)
        answer = await self._change("POST", "/v1/skills/discover", body)
        return [Record(found) for found in answer["results"]]

    async def diagnostics(self) -> Record:
        """What is wrong with which file: `problems`; and how many `skills` are loaded."""
        return record(Record, await self._get("/v1/skills/diagnostics"))

    async def governance(
        self, *, min_state: Literal["draft", "experimental", "stable"] | None = None, limit: int | None = None
    ) -> Record:
        """How far skills have come, and how often they ran and failed. `limit`: 1 to 1000, by default 100."""
        return record(Record, await self._get("/v1/skills/governance", given(min_state=min_state, limit=limit)))

    # Runs

    def events(
        self,
        run_id: str,
        *,
        after: str | int | None = None,
        on_discard: OnDiscard | None = None,
        timeout: float | None = None,
    ) -> AsyncEventStream[SkillEvent]:
        """
        Iterate over a run's frames: those that are stored, then live ones, up to `Done`.

        Args:
            after: the last sequence that the caller has, or the `cursor` of a stream. None: from the start.
            on_discard, timeout: as in `stream`.

        Raises: (by the iteration)
            NotFound: there is no such run of a skill or capability.
            DeadlineExceeded, AccessRefused, Unavailable, ConnectionFailed: as `stream`.
        """
        cursor = None if after is None else str(after)
        return self._stream(SkillSource(None, run_id=run_id, cursor=cursor, on_discard=on_discard), timeout)

    async def runs(
        self,
        *,
        status: SkillStatus | None = None,
        skill_id: str | None = None,
        offset: int | None = None,
        limit: int | None = None,
    ) -> SkillRunPage:
        """A page of runs, newest first; below operator those of this key. `limit`: 1 to 1000, by default 100."""
        page = await self._get("/v1/runs", given(status=status, skill_id=skill_id, offset=offset, limit=limit))
        return record(SkillRunPage, {**page, "runs": [_run(row) for row in page["runs"]]})

    async def get(self, run_id: str) -> SkillRun:
        """A run as it stands. NotFound."""
        return _run(await self._get(_path(run_id)))

    async def cancel(self, run_id: str, *, reason: str | None = None) -> SkillRun:
        """
        Cancel a run; its record afterwards. It is final within 5 s. The same again is a success.

        Raises:
            AlreadyFinished: it was completed, or had failed. NotFound, AccessRefused, Unavailable, ConnectionFailed.
        """
        return _run(await self._change("POST", f"{_path(run_id)}/cancel", given(reason=reason)))

    async def approve(
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
        body = given(
            interrupt_id=interrupt_id,
            approver=approver,
            notes=notes,
            output=None if output is None else dict(output),
        )
        return record(Record, await self._change("POST", f"{_path(run_id)}/approve", body, key=idempotency_key))

    async def deny(
        self,
        run_id: str,
        *,
        interrupt_id: str | None = None,
        approver: str | None = None,
        notes: str | None = None,
        idempotency_key: str | None = None,
    ) -> Record:
        """Deny what a run asks: the step fails with SAFETY_DENIED. Arguments and errors are those of `approve`."""
        body = given(interrupt_id=interrupt_id, approver=approver, notes=notes)
        return record(Record, await self._change("POST", f"{_path(run_id)}/deny", body, key=idempotency_key))

    async def replay(self, run_id: str, *, idempotency_key: str | None = None) -> StartedSkill:
        """Start a new run of the same skill with the same inputs. NotFound, InvalidConfiguration."""
        return record(StartedSkill, await self._change("POST", f"{_path(run_id)}/replay", {}, key=idempotency_key))

    async def fork(
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
        body = given(from_step=from_step, inputs=None if inputs is None else dict(inputs), definition=definition)
        return record(StartedSkill, await self._change("POST", f"{_path(run_id)}/fork", body, key=idempotency_key))

    # Webhooks

    async def create_webhook(
        self, url: str, events: Sequence[str], *, secret: str | None = None, idempotency_key: str | None = None
    ) -> Record:
        """
        Let a URL hear of skills and runs: `skill.completed`, `run.waiting` …, or `*`. The answer has the `secret` if the
        server made it; it is not shown again.

        Raises:
            InvalidRequest: an event or the URL is not allowed. AccessRefused: the key is no operator's.
        """
        body = given(url=url, events=[*events], secret=secret)
        return record(Record, await self._change("POST", "/v1/webhooks", body, key=idempotency_key))

    async def webhooks(self) -> Records:
        """The subscriptions, oldest first."""
        return [Record(item) for item in (await self._get("/v1/webhooks"))["subscriptions"]]

    async def delete_webhook(self, webhook_id: str) -> Record:
        """End a subscription; nothing more is sent to it. NotFound."""
        return record(Record, await self._change("DELETE", f"/v1/webhooks/{_part(webhook_id)}"))

    # The server

    async def metrics(self) -> Record:
        """`counters`, `histograms` and `uptime_seconds` of the process; for operators."""
        return record(Record, await self._get("/v1/metrics"))

    async def prometheus(self) -> str:
        """The same as text for Prometheus."""
        return (await self._http.send_again(Request("GET", "/v1/metrics/prometheus"))).content.decode()

    async def health(self, *, deep: bool = False) -> Record:
        """How the process is; `deep`: also whether what it needs is there. One try. ConnectionFailed."""
        request = Request("GET", "/v1/health", {"deep": True} if deep else {})
        return record(Record, (await self._http.send(request)).json())

    async def live(self) -> Record:
        """That the process answers. One try. ConnectionFailed."""
        return record(Record, (await self._http.send(Request("GET", "/v1/health/live"))).json())

    async def ready(self) -> bool:
        """Whether the server takes runs. One try. ConnectionFailed."""
        return await self._is_ready("/v1/health/ready")

    # Inside

    async def _waited(self, path: str, body: dict[str, Any], key: str | None, timeout: float | None) -> dict[str, Any]:
        """The answer of a call that waits for its run."""
        body["options"] = {**body.get("options", {}), "wait_seconds": WAIT_SECONDS}
        request = self._keyed("POST", path, body, key=key)
        return await within(deadline_of(timeout), self._insist(request))

    async def _insist(self, request: Request) -> dict[str, Any]:
        """The same call, made again as often as it is cut off, or answered before there is something to say."""
        patience = Patience(self._http.backoff(), self._reconnect_seconds, self._http.clock)
        while True:
            try:
                answer = await self._http.send(request, timeout=WAIT_SECONDS + WAIT_GRACE_SECONDS)
            except ClientError as exc:
                await self._http.pause(patience.failed(exc))
                continue
            patience.answered()
            body = _checked(answer.json())
            if body.get("execution", body).get("status") != "running":
                return body


def _wish(inputs: Mapping[str, Any] | None, options: SkillOptions) -> dict[str, Any]:
    """The body of a call that executes something."""
    body: dict[str, Any] = {"inputs": dict(inputs or {})}
    nested: dict[str, Any] = {}
    for name, value in options.items():
        (nested if name in _NESTED else body)[name] = dict(value) if isinstance(value, Mapping) else value
    return {**body, "options": nested} if nested else body


def _checked(body: Any) -> dict[str, Any]:
    """
    A body that tells no error. A server may answer errors of some calls with 200 (`skills.legacy_status_200`).

    Raises:
        ApiError
    """
    shown = record(Record, body).to_dict()
    error = shown.get("error")
    if isinstance(error, dict) and isinstance(error.get("code"), str):
        status = error.get("status")
        raise error_of(Answer(status if isinstance(status, int) else 500, {}, json.dumps(shown).encode()))
    return shown


def _run(row: Any) -> SkillRun:
    """A record of a run; what it came to is an answer of its own."""
    run = record(SkillRun, row)
    result = run.get("result")
    return run if result is None else SkillRun({**run.to_dict(), "result": SkillAnswer(result.to_dict())})


def _part(text: str) -> str:
    return quote(text, safe="")


def _skill(skill_id: str) -> str:
    return f"/v1/skills/{_part(skill_id)}"


def _capability(capability_id: str) -> str:
    return f"/v1/capabilities/{_part(capability_id)}"


def _path(run_id: str) -> str:
    return f"/v1/runs/{_part(run_id)}"
