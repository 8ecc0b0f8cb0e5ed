"""
One step of a skill, from the moment it is ready to its end.

In order, and what is recorded is never done twice: condition; step_started; input; trust; confirmation; pre gates; the
call (or calls, `controls`); post gates; writes and the end in one commit. A step that is on record only writes its
results into the skill's data again. Stopped from outside it ends in step_failed where its run ends or has failed;
where the run is only let go, nothing is written and it will go on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import structlog

from holdfast.agents.skill.asking import Decision, Question, approve, ask
from holdfast.agents.skill.at_work import LevelAtWork
from holdfast.agents.skill.calling import Call, carry_out
from holdfast.agents.skill.choosing import choose, output_fields, shown_inputs
from holdfast.agents.skill.contract import withheld
from holdfast.agents.skill.controls import carry_out as make_calls
from holdfast.agents.skill.failures import (
    InvalidConfigurationError,
    OutcomeUnknownError,
    SkillError,
    SkillRuntimeError,
    StepCancelledError,
    error_from,
    failure_from,
)
from holdfast.agents.skill.gates import Degraded, gates_of, pass_gates
from holdfast.agents.skill.model import Capability, Client, Skill, Step
from holdfast.agents.skill.outputs import write_again, write_outputs
from holdfast.agents.skill.step_contract import check_trust, checked_output
from holdfast.agents.skill.units import Unit
from holdfast.errors import LeaseLost
from holdfast.execution.codec import decode_result, encode_result
from holdfast.execution.steps import OpenStep
from holdfast.model import Step as Row
from holdfast.model.encoding import encode_fields, format_time

log = structlog.get_logger(__name__)

# Of all that the calls of one step made, as JSON: it is kept in one row, and held in memory by all that execute.
STEP_BYTES_MAX: Final = 16 * 1024 * 1024


Json = Any


class Outcome(msgspec.Struct, frozen=True):
    """How a step ended; `error` where it failed, `at` when."""

    status: str  # completed, skipped, degraded, failed
    error: SkillError | None = None
    at: int = 0
    is_blocked: bool = False  # skipped because of a failure before it


def cut_off(row: Row, now: int) -> tuple[tuple[str, str], Row]:
    """The event and the row that end a step of a run that nobody executes."""
    error = StepCancelledError(f"Step '{row.name}' was cut off.")
    fields = {**_failed_fields(row.name, row.attempts, error), "will_retry": False}
    ended = msgspec.structs.replace(row, status="failed", completed_at=now, error=failure_from(error))
    return ("step_failed", encode_fields(fields)), ended


def _failed_fields(shown: str, attempt: int, error: SkillError) -> dict[str, Any]:
    fields: dict[str, Any] = {"step": shown, "attempt": attempt, "message": "", "error": error.message}
    return fields | {"code": error.code, "status": error.status}


class StepRun:
    """A step of one execution of a skill."""

    def __init__(self, level: LevelAtWork, step: Step) -> None:
        self.level, self.step, self.work = level, step, level.work
        self.key = level.key_prefix + step.id
        self.shown = level.shown_prefix + step.id
        self.unit = Unit(self.key)
        self.facts: dict[str, Any] = {}  # further fields of step_completed
        self.is_shown_again = False  # a crash made void what was shown of it
        self._opened: OpenStep | None = None  # while it executes, for the kernel
        self._active = 0  # how much of it executes, and does not only wait
        self._has_place = False
        self._is_told = False
        self._started_at = 0
        self._attempt_at = 0
        self._made_bytes = 0

    # Its life

    async def run(self, *, is_blocked: bool) -> Outcome:
        """Do what is not on record yet, and return how the step ended."""
        recorded = self.work.recorded(self.key)
        if recorded is not None:
            return self._adopt(recorded, is_blocked=is_blocked)
        if is_blocked:
            return self._skip("dependency_failed")
        condition = self.step.condition
        if condition is not None and not self.level.evaluate(condition):
            return self._skip("condition")
        try:
            await self._take_place()
            await self._begin()
            return await self._complete(await self._carry_out())
        except Degraded as verdict:
            return await self._degrade(verdict)
        except SkillError as error:
            return self._fail(error)
        except asyncio.CancelledError:
            if self._is_told and self.level.is_cut_off:
                self._fail(StepCancelledError(f"Step '{self.shown}' was cut off."))
            raise
        except LeaseLost:
            raise
        except Exception as exc:  # a defect of ours is the failure of this step, not of the process
            log.exception("step_failed", run_id=self.work.context.run_id, step=self.shown)
            return self._fail(SkillRuntimeError(f"Step '{self.shown}': {type(exc).__name__}: {exc}"))
        finally:
            self._close()

    def _adopt(self, row: Row, *, is_blocked: bool) -> Outcome:
        """What an earlier execution recorded, or the run that this one was forked from."""
        self.work.record.consume(self.key)
        at = row.completed_at or 0
        if row.status == "failed":
            assert row.error is not None
            self.level.data.tell(self.step.id, "failed", row.attempts, None)
            return Outcome("failed", error_from(row.error), at)
        output = None if row.output is None else decode_result(row.output)
        if row.status == "completed":
            write_again(self, output or {})
            self.level.data.keep(self.step.id)
        self.level.data.tell(self.step.id, row.status, 0 if row.status == "skipped" else row.attempts, output)
        return Outcome(row.status, at=at, is_blocked=is_blocked)

    async def _begin(self) -> None:
        """Tell that it starts, unless readers know and no crash has made that void."""
        work, now = self.work, self.work.now()
        row = work.record.step(self.key)
        asked = work.note(self.unit.part("note:asked"))
        self.unit.read(row)
        self._started_at = now if row is None else row.started_at
        self._attempt_at = now
        self._opened = OpenStep(self.key, self.shown, self.unit.attempt, False, True, now)
        self.wake()
        await self.work.not_ending()
        self._is_told = True
        if row is None:
            self._tell_started({})
        elif asked != work.run_attempt and self.unit.retry_at is None:
            self.unit.attempt += 1
            self.is_shown_again = True
            self._tell_started({"reason": "restart"}, self.asked_rows() if asked is not None else ())

    def _tell_started(self, facts: Mapping[str, Any], rows: tuple[Row, ...] = ()) -> None:
        fields = {"step": self.shown, "attempt": self.unit.attempt, "message": "", **facts}
        self.work.write(("step_started", fields), mark=self.key, rows=(self._running(self.unit), *rows))

    def _running(self, unit: Unit) -> Row:
        started_at = self._started_at if unit is self.unit else self.work.now()
        return self.work.row(
            unit.key, self.shown, "running", started_at=started_at, attempt=unit.attempt, error=unit.failure
        )

    async def _complete(self, output: dict[str, Json]) -> Outcome:
        data = encode_result(output, what=f"the output of step {self.key}")
        write_outputs(self, output)
        kept = withheld(output_fields(self), output)
        shown = await self.work.execution.shown(encode_result(kept.of(output), what="outputs"))
        now = self.work.now()
        duration = max(now - self._attempt_at, 0) / 1000
        fields = {"step": self.shown, "attempt": self.unit.attempt, "message": "", "output": shown}
        fields |= {"duration_ms": duration, **self.facts}
        row = self._ended("completed", now, output=data)
        notes = self.work.withheld(self.key, self.shown, kept)
        self.work.write(("step_completed", fields), mark=self.key, rows=(row, *notes))
        self.level.data.keep(self.step.id)
        self.level.data.tell(self.step.id, "completed", self.unit.attempt, output)
        return Outcome("completed", at=now)

    async def _degrade(self, verdict: Degraded) -> Outcome:
        now = self.work.now()
        fields = {"step": self.shown, "attempt": self.unit.attempt, "message": ""}
        fields |= {"gate": verdict.gate, "phase": verdict.phase, "reason": verdict.reason}
        self.work.write(("step_degraded", fields), mark=self.key, rows=(self._ended("degraded", now),))
        self.level.data.take_back(self.step.id)
        self.level.data.tell(self.step.id, "degraded", self.unit.attempt, None)
        return Outcome("degraded", at=now)

    def _skip(self, reason: str) -> Outcome:
        now = self._started_at = self.work.now()
        row = self._ended("skipped", now)
        fields = {"step": self.shown, "message": "", "reason": reason}
        self.work.write(("step_skipped", fields), mark=self.key, rows=(row,))
        self.level.data.tell(self.step.id, "skipped", 0, None)
        return Outcome("skipped", at=now, is_blocked=reason == "dependency_failed")

    def _fail(self, error: SkillError) -> Outcome:
        now = self.work.now()
        attempt = self.unit.attempt if error.attempt is None else error.attempt
        fields = _failed_fields(self.shown, attempt, error) | {"will_retry": False}
        if "item" in error.details:
            fields["item"] = error.details["item"]
        row = self._ended("failed", now, error=failure_from(error))
        self.work.write(("step_failed", fields), mark=self.key, rows=(row,))
        self.level.data.take_back(self.step.id)
        self.level.data.tell(self.step.id, "failed", self.unit.attempt, None)
        return Outcome("failed", error, now)

    def _ended(self, status: str, now: int, **rest: Any) -> Row:
        # With it goes all that an earlier execution recorded inside of it.
        self.work.record.consume(self.key)
        return self.work.row(
            self.key,
            self.shown,
            status,
            started_at=self._started_at,
            attempt=self.unit.attempt,
            completed_at=now,
            **rest,
        )

    def count(self, size: int) -> None:
        """
        Take note of so many bytes that one of several calls made.

        Raises:
            InvalidConfigurationError: it is too much in all.
        """
        self._made_bytes += size
        if self._made_bytes > STEP_BYTES_MAX:
            raise InvalidConfigurationError(
                f"Step '{self.shown}': its outputs have over {STEP_BYTES_MAX} bytes in all."
            )

    # Its place among those that execute

    async def _take_place(self) -> None:
        await self.work.breathe()
        # A step that is a skill has none: those inside it need them.
        if self.step.skill is None:
            await self.work.places.acquire()
            self._has_place = True

    def _give_place(self) -> None:
        if self._has_place:
            self._has_place = False
            self.work.places.release()

    def wake(self) -> None:
        """Something of it executes from now on."""
        self._active += 1
        if self._active == 1 and self._opened is not None and not self.work.execution.is_ending:
            self.work.execution.step_began(self._opened)

    def rest(self) -> None:
        """It only waits for what else there is of it, or for the outside."""
        self._active -= 1
        if self._active == 0 and self._opened is not None:
            self.work.execution.step_ended(self._opened)

    @contextlib.contextmanager
    def idle(self) -> Iterator[None]:
        """While parts of it execute, which count for themselves."""
        self.rest()
        try:
            yield
        finally:
            self.wake()

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """For a part of it."""
        self.wake()
        try:
            yield
        finally:
            self.rest()

    @contextlib.asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """While it waits for the outside: others may take its place, and the run may be let go."""
        self.rest()
        had_place = self._has_place and self._active == 0
        if had_place:
            self._give_place()
        yield
        if had_place:
            await self._take_place()
        self.wake()

    def _close(self) -> None:
        self._give_place()
        if self._opened is not None:
            self.work.execution.step_ended(self._opened)

    def asked_rows(self) -> tuple[Row, ...]:
        """What is written beside a question: in which attempt of the run this step, and those around it, were shown."""
        around = () if self.level.owner is None else self.level.owner.asked_rows()
        shown = encode_result(self.work.run_attempt, what="an attempt")
        return (self.work.noted(self.unit.part("note:asked"), self.shown, shown), *around)

    def note_asked(self) -> None:
        """The same, where the question is written by others."""
        self.work.write(mark=self.key, rows=self.asked_rows())

    # Its work

    async def _carry_out(self) -> dict[str, Json]:
        if self.step.skill is not None:
            return await self._nested(self.work.definition.skills[self.step.skill])
        chosen = choose(self)
        for capability in chosen.capabilities:
            check_trust(self, capability)
        await self._confirm(chosen.capabilities, chosen.inputs)
        return await make_calls(self, chosen)

    async def _nested(self, skill: Skill) -> dict[str, Json]:
        inputs = self.level.data.resolve(self.step.input)
        await self._confirm((), inputs)
        await pass_gates(self, self.unit, "pre", self.step.pre_gates, inputs)
        post = self.step.post_gates
        made = self.work.note(self.unit.part("note:call")) if post else None
        if made is None:
            while True:
                if self.unit.retry_at is not None:
                    await self._back_off(self.unit)
                try:
                    # Another attempt runs whole again, so its steps have keys of their own.
                    again = f"retry:{self.unit.failures + 1}/" if self.unit.failures else ""
                    with self.idle():
                        made = await self.level.inside(self, skill, inputs, f"{self.key}/{again}").run()
                    break
                except SkillError as error:
                    self.retry(self.unit, error)
            if post:
                self._note_call(self.unit, made)
        await pass_gates(self, self.unit, "post", post, inputs, made)
        return made

    async def call(self, unit: Unit, capability: Capability, inputs: dict[str, Json]) -> dict[str, Json]:
        """One call with its gates, tried as often as the step says; its output."""
        unit.began_at = self.work.now()
        await pass_gates(self, unit, "pre", gates_of(self, capability, "pre"), inputs)
        post = gates_of(self, capability, "post")
        made: dict[str, Json] | None = self.work.note(unit.part("note:call")) if post else None
        if made is None:
            made = await self._tried(unit, capability, inputs)
            if post:
                self._note_call(unit, made)
        await pass_gates(self, unit, "post", post, inputs, made)
        return made

    def _note_call(self, unit: Unit, made: dict[str, Json]) -> None:
        data = encode_result(made, what=f"the output of step {self.key}")
        self.work.write(mark=self.key, rows=(self.work.noted(unit.part("note:call"), self.shown, data),))

    async def _tried(self, unit: Unit, capability: Capability, inputs: dict[str, Json]) -> dict[str, Json]:
        while True:
            if unit.retry_at is not None:
                await self._back_off(unit)
            try:
                declared = self.step
                return await self.perform(
                    unit, capability, inputs, stream=declared.stream, at_most_once=declared.at_most_once
                )
            except SkillError as error:
                self.retry(unit, error)

    def retry(self, unit: Unit, error: SkillError) -> None:
        """Note that an attempt failed and another one follows; if none does, the error goes on."""
        retry = self.step.retry
        if retry is None or not unit.may_retry(error, retry):
            if unit.item is not None:
                error.attempt = unit.attempt
            raise error
        unit.fail(error, retry, self.work.now())
        assert unit.retry_at is not None
        fields = _failed_fields(self.shown, unit.attempt, error)
        fields |= {"will_retry": True, "retry_at": format_time(unit.retry_at), **unit.facts}
        self.work.write(("step_failed", fields), mark=self.key, rows=(self._running(unit),))

    async def _back_off(self, unit: Unit) -> None:
        had_place = self._has_place and unit is self.unit
        if had_place:
            self._give_place()
        await asyncio.sleep(max((unit.retry_at or 0) - self.work.now(), 0) / 1_000_000)
        if had_place:
            await self._take_place()
        unit.try_again()
        self._attempt_at = self.work.now()
        fields = {"step": self.shown, "attempt": unit.attempt, "message": "", **unit.facts}
        self.work.write(("step_started", fields), mark=self.key, rows=(self._running(unit),))

    async def perform(
        self,
        unit: Unit,
        capability: Capability,
        inputs: dict[str, Json],
        *,
        stream: bool = False,
        at_most_once: bool | None = None,
    ) -> dict[str, Json]:
        """
        Make one call, and check what it makes. Without `at_most_once` it is as the capability says.

        Raises:
            SkillError: it failed, was too slow, broke its contract, or may not be made again.
        """
        await self.work.breathe()
        await self.work.not_ending()
        once = capability.at_most_once if at_most_once is None else at_most_once
        # A call that the caller executes is asked once by itself: its answer is waited for.
        if once and not isinstance(capability.bind, Client):
            decision = await self._begin_once(unit, inputs)
            if decision is not None and decision.has_output:
                return checked_output(self, capability, decision.output)
        if capability.side_effects:
            await self.work.settle()
        call = Call(
            step=self,
            unit=unit,
            capability=capability,
            inputs=inputs,
            seconds=self.step.timeout_seconds,
            stream=stream,
        )
        return checked_output(self, capability, await carry_out(call))

    async def _begin_once(self, unit: Unit, inputs: dict[str, Json]) -> Decision | None:
        """Write down that a call begins, or ask about one that a crash cut off; what was decided about that."""
        key = unit.part("note:begun")
        begun = self.work.note(key) or 0
        decision = None
        if begun:
            what = ".".join(filter(None, (unit.place, f"outcome_unknown:{begun}")))
            text = (
                f"The process died while step '{self.shown}' was under way, and it is not known whether it was done. "
                "Run it again?"
            )
            asked = Question(what=what, reason="outcome_unknown", text=text, input=shown_inputs(self, inputs))
            decision = await ask(self, asked)
            if decision.has_output:
                return decision
            if not decision.approved:
                raise OutcomeUnknownError(f"Step '{self.shown}': it is not known whether it was done.")
        row = self.work.noted(key, self.shown, encode_result(begun + 1, what="a count"))
        self.work.write(mark=self.key, rows=(row,))
        await self.work.durable()
        return decision

    # What it asks and shows

    async def _confirm(self, capabilities: Sequence[Capability], inputs: Mapping[str, Json]) -> None:
        confirm = self.step.confirm
        named = self.work.options.confirmed_capabilities
        unconfirmed = [one.id for one in capabilities if one.safety.requires_confirmation and one.id not in named]
        if confirm is None and not unconfirmed:
            return
        await approve(
            self,
            Question(
                what="confirm",
                reason="requires_confirmation" if confirm is None else "confirm",
                text=(confirm and confirm.question) or f"Run step '{self.shown}' ({self.step.uses})?",
                input=shown_inputs(self, inputs),
                expires_in=None if confirm is None else confirm.expires_in,
                default=None if confirm is None else confirm.default,
            ),
        )
