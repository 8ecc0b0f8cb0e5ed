"""What the Skills API answers, and what an execution may be given. Times are texts, as the wire has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypedDict

from holdfast.client.records import Record

SkillStatus = Literal["running", "waiting_for_human", "waiting_for_signal", "completed", "failed"]
FINISHED: Final = ("completed", "failed")
VALUES: Final = frozenset({"outputs"})


class SkillOptions(TypedDict, total=False):
    """
    How a skill is executed.

    trace_id: 1 to 128 printable ASCII characters; default is one of the server's. include_trace: frames tell of bindings.
    on_confirmation: "fail" lets a step that needs an approval fail. frame: what `frame` reads in the skill.
    required_conformance_profile: "experimental" or "standard"; "strict" is refused. audit_mode: default is "off".
    fail_fast: True by default. max_workers: steps at once, 1 to 64, by default 8. trust_level: at most that of the key.
    confirmed_capabilities: those that need no approval any more; for operators.
    """

    trace_id: str
    include_trace: bool
    on_confirmation: Literal["wait", "fail"]
    frame: Mapping[str, Any]
    required_conformance_profile: Literal["experimental", "standard", "strict"]
    audit_mode: Literal["off", "standard", "full"]
    fail_fast: bool
    max_workers: int
    trust_level: Literal["sandbox", "standard", "elevated", "privileged"]
    confirmed_capabilities: Sequence[str]


class SkillAnswer(Record):
    """
    What an execution came to: `outputs`, or, where it waits for an answer, what it asks in `interrupt`. `events`, all
    frames but the last, come with `include_trace`.
    """

    __slots__ = ()
    _values = VALUES
    skill_id: str
    status: SkillStatus
    outputs: Any
    trace_id: str
    run_id: str
    interrupt: Record
    events: list[Any]

    @property
    def is_waiting(self) -> bool:
        """Whether the run waits for an answer, and has no outputs yet."""
        return self["status"] in ("waiting_for_human", "waiting_for_signal")


class CapabilityAnswer(Record):
    """What a bare capability made: `outputs`. `status` and `interrupt` are there only while it has made nothing."""

    __slots__ = ()
    _values = VALUES
    capability_id: str
    outputs: Any
    meta: Record
    status: SkillStatus
    trace_id: str
    run_id: str
    interrupt: Record

    @property
    def is_waiting(self) -> bool:
        """Whether the run waits for an answer, and has no outputs yet."""
        return self.get("status") in ("waiting_for_human", "waiting_for_signal")


class AttachAnswer(Record):
    """What a skill came to that was executed on a target: `execution`, and what it was told of it."""

    __slots__ = ()
    skill_id: str
    target_type: str
    target_ref: str
    execution: SkillAnswer
    attached_at: str
    attach_context: Record
    run_id: str


class StartedSkill(Record):
    """The answer to a start: the run is on disk. A fork has `reused`, the steps whose results it keeps."""

    __slots__ = ()
    run_id: str
    skill_id: str
    status: SkillStatus
    trace_id: str
    source_run_id: str
    reused: list[str]


class SkillRun(Record):
    """
    A run as it stands. `result` is that of an execution, None until it is completed; `error_detail` says why it failed;
    `interrupts` are what it asks now. `state` is the status in the words of the other APIs.
    """

    __slots__ = ()
    run_id: str
    skill_id: str
    skill_version: str | None
    status: SkillStatus
    state: str
    trace_id: str
    created_at: str
    finished_at: str | None
    result: SkillAnswer | None
    error: str | None
    error_detail: Record | None
    interrupts: list[Any]
    metadata: Record

    @property
    def is_finished(self) -> bool:
        """Whether it is completed, failed or cancelled."""
        return self["status"] in FINISHED


class SkillRunPage(Record):
    """A page of runs, newest first. `pagination` has `total`, `has_more` and, if so, `next_offset`."""

    __slots__ = ()
    runs: list[SkillRun]
    pagination: Record


class SkillPage(Record):
    """A page of skills, by id. `pagination` has `total`, `has_more` and, if so, `next_offset`."""

    __slots__ = ()
    skills: list[Any]
    pagination: Record
