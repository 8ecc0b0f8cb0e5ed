"""What a run is given at its start and keeps: values beside its input, and the definition of its agent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from holdfast import Context
from holdfast.execution.forking import Inherited
from holdfast.execution.given import DEFINITION_KIND, given_step
from holdfast.model import Restart, Status
from holdfast.runs import ForkRequest
from tests.support.kernel import CALLER, Kernel, kernel


class Written:
    """An agent that answers with its definition, which somebody may edit; it asks in between."""

    name, framework, restart, is_sync = "written", "custom", Restart.ALWAYS, False

    def __init__(self, text: bytes) -> None:
        self.text = text

    async def definition(self) -> bytes:
        return self.text

    async def execute(self, context: Context, input: Any) -> Any:
        first = (await context.definition()).decode()
        await context.step("work", lambda: "done")
        await context.ask("Go on?")
        return [first, (await context.definition()).decode(), context.given("colour")]


async def _answered(it: Kernel, run: Any) -> Any:
    run = await it.waiting(run)
    [interrupt] = await it.runs.interrupts(CALLER, run.run_id)
    await it.runs.answer(CALLER, run.run_id, "yes", interrupt_id=interrupt.interrupt_id)
    return await it.finished(run)


async def test_a_run_keeps_the_definition_with_which_it_began_also_over_a_crash(tmp_path: Path) -> None:
    async with kernel(tmp_path, Written(b"old"), crash=True) as it:
        given = Inherited(steps=(given_step("colour", "green", 0),))
        run = await it.waiting(await it.start("written", inherited=given))
        again = await it.start("written")

    async with kernel(tmp_path, Written(b"new")) as it:
        ended, other = await _answered(it, run), await _answered(it, again)
        fresh = await _answered(it, await it.start("written"))
        kept = [record.body for record in await it.store.records(DEFINITION_KIND)]
        steps = [step.key for step in await it.runs.steps(CALLER, run.run_id)]
        types = [event["type"] for event in await it.events(ended)]

    assert ended.output == b'["old","old","green"]'
    assert other.output == b'["old","old",null]'
    assert fresh.output == b'["new","new",null]'
    assert kept == [b"old", b"new"]
    assert steps == ["work"]
    assert types.count("started") == 1
    assert types[-1] == "complete"


async def test_a_fork_goes_by_the_definition_of_its_run_or_by_the_present_one(tmp_path: Path) -> None:
    program = Written(b"old")
    async with kernel(tmp_path, program) as it:
        run = await _answered(it, await it.start("written", inherited=Inherited((given_step("colour", 1, 0),))))
        program.text = b"new"
        pinned = (await it.runs.fork(CALLER, run.run_id, ForkRequest(step="work"))).run
        redefined = (await it.runs.fork(CALLER, run.run_id, ForkRequest(step="work", redefined=True))).run

        assert (await _answered(it, pinned)).output == b'["old","old",1]'
        assert (await _answered(it, redefined)).output == b'["new","new",1]'


async def test_a_definition_that_the_store_lost_fails_the_run(tmp_path: Path) -> None:
    async with kernel(tmp_path, Written(b"old"), crash=True) as it:
        run = await it.waiting(await it.start("written"))
        [record] = await it.store.records(DEFINITION_KIND)
        assert await it.store.delete_record(record.tenant, DEFINITION_KIND, record.name)

    async with kernel(tmp_path, Written(b"new")) as it:
        ended = await _answered(it, run)

    assert ended.status is Status.FAILED
    assert ended.error is not None
    assert ended.error.code == "agent_missing"
    assert "definition" in ended.error.message
