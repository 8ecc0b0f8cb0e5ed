"""
What a step calls, and how often: one capability, one of several (router), all of several (scatter), one for each item of a
list (foreach), or one again and again (while). And where the outputs go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.agents.skill.data import field_of
from holdfast.agents.skill.failures import InvalidConfigurationError, SkillError, error_from, failure_from
from holdfast.agents.skill.gates import Degraded
from holdfast.agents.skill.model import Capability, Field, Foreach, Scatter, While
from holdfast.agents.skill.references import PRODUCED
from holdfast.agents.skill.references import parse_field as _parse_field
from holdfast.agents.skill.step_contract import checked_inputs
from holdfast.agents.skill.units import Unit
from holdfast.execution.codec import decode_result, encode_result
from holdfast.model.encoding import encode_value

if TYPE_CHECKING:
    from holdfast.agents.skill.steps import StepRun

ITEMS_MAX: Final = 10_000
_DEFAULT: Final = "default"

parse_field = lru_cache(4096)(_parse_field)

Json = Any
Made = dict[str, Json]


class Chosen(msgspec.Struct, frozen=True):
    """What a step is about to call, and with what."""

    capabilities: tuple[Capability, ...]
    inputs: Made  # as people are shown them; of one plain call, those that it is made with
    items: list[Json] | None = None  # of a foreach step


def choose(step: StepRun) -> Chosen:
    """
    What a step calls, and its input, looked at as far as that can be known before.

    Raises:
        InvalidConfigurationError: no case of the router fits, the items are no list, or the input breaks the contract.
    """
    capabilities = tuple(step.work.definition.capabilities[name] for name in _names(step))
    if step.work.options.include_trace:
        shown = [{"binding_id": f"{one.id}:{kind_of(one)}", "kind": kind_of(one)} for one in capabilities]
        step.facts["binding"] = shown[0] if len(shown) == 1 else shown
    if step.step.foreach is not None:
        items = _items(step, step.step.foreach)
        return Chosen(capabilities, {"items": items}, items)
    inputs = step.level.data.resolve(step.step.input)
    if step.step.scatter is None:
        inputs = checked_inputs(step, capabilities[0], inputs)
    return Chosen(capabilities, inputs)


def kind_of(capability: Capability) -> str:
    """What fulfils a capability: python, http, mcp, prompt, client or builtin."""
    return str(capability.bind.__struct_config__.tag)


def _names(step: StepRun) -> Sequence[str]:
    router, scatter = step.step.router, step.step.scatter
    if scatter is not None:
        return scatter.capabilities
    if router is None:
        return (step.step.uses,)
    value = step.level.evaluate(router.on)
    case = _case_of(value)
    matched = case if case in router.cases else None
    name = router.cases[case] if matched is not None else router.default
    if name is None:
        raise InvalidConfigurationError(f"Step '{step.shown}': no case of the router fits {case[:60]!r}.")
    step.facts["router_matched"] = _DEFAULT if matched is None else matched
    return (name,)


def _case_of(value: Json) -> str:
    """A value as the key of a case: text as it is, all else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return encode_value(value)


def _items(step: StepRun, foreach: Foreach) -> list[Json]:
    items = step.level.evaluate(foreach.items)
    if not isinstance(items, list):
        raise InvalidConfigurationError(f"Step '{step.shown}': the items of foreach are no list.")
    if len(items) > ITEMS_MAX:
        raise InvalidConfigurationError(
            f"Step '{step.shown}': foreach has {len(items)} items; {ITEMS_MAX} are allowed."
        )
    return items


def output_fields(step: StepRun) -> Mapping[str, Field]:
    """What is declared of the outputs of a step that executes."""
    scatter = step.step.scatter
    capabilities = step.work.definition.capabilities
    if scatter is None:
        router = step.step.router
        names = [step.step.uses] if router is None else [*router.cases.values(), *filter(None, [router.default])]
        return _united([capabilities[name].outputs for name in names])
    if scatter.merge == "collect":
        return {
            name: Field(type="object", sensitive=any(one.sensitive for one in capabilities[name].outputs.values()))
            for name in scatter.capabilities
        }
    return _united([capabilities[name].outputs for name in scatter.capabilities])


def _united(contracts: Sequence[Mapping[str, Field]]) -> Mapping[str, Field]:
    """All fields of several contracts; one that is sensitive anywhere is sensitive."""
    if len(contracts) == 1:
        return contracts[0]
    united: dict[str, Field] = {}
    for contract in contracts:
        for name, field in contract.items():
            if name not in united or field.sensitive:
                united[name] = field
    return united


async def carry_out(step: StepRun, chosen: Chosen) -> Made:
    """Make the calls of a step, but for those that are on record, and return what they made together."""
    declared = step.step
    if declared.foreach is not None:
        return await _each(step, declared.foreach, chosen.capabilities[0], chosen.items or [])
    if declared.while_ is not None:
        return await _again(step, declared.while_, chosen.capabilities[0], chosen.inputs)
    if declared.scatter is not None:
        return await _members(step, declared.scatter, chosen)
    return await step.call(step.unit, chosen.capabilities[0], chosen.inputs)


def _unit(step: StepRun, place: str, item: int | str) -> Unit:
    key = step.unit.part(place)
    return Unit(key, place=place, item=item).read(step.work.record.step(key))


def _record(step: StepRun, unit: Unit, made: Made, progress: tuple[float, str]) -> None:
    """
    Record what a call made, and tell how far the step is.

    Raises:
        InvalidConfigurationError: all calls of the step together made too much. This one is on record.
    """
    data = encode_result(made, what=f"the output of step {step.key}")
    row = step.work.noted(unit.key, step.shown, data, began_at=unit.began_at, attempt=unit.attempt)
    step.work.write(_progress(step, *progress), mark=step.key, rows=(row,))
    step.count(len(data))


def _progress(step: StepRun, share: float, message: str) -> tuple[str, dict[str, Any]]:
    return "progress", {"step": step.shown, "progress": share, "message": message}


# Foreach


async def _each(step: StepRun, foreach: Foreach, capability: Capability, items: list[Json]) -> Made:
    outputs: list[Made | None] = [step.work.note(step.unit.part(f"item:{place}")) for place in range(len(items))]
    left = iter([place for place, made in enumerate(outputs) if made is None])
    done = sum(made is not None for made in outputs)

    async def one(place: int) -> None:
        nonlocal done
        names = {foreach.name: items[place]} | ({} if foreach.index_as is None else {foreach.index_as: place})
        unit = _unit(step, f"item:{place}", place)
        try:
            inputs = checked_inputs(step, capability, step.level.data.resolve(step.step.input, names))
            made = await step.call(unit, capability, inputs)
        except SkillError as error:
            error.details["item"] = place
            raise
        outputs[place] = made
        done += 1
        _record(step, unit, made, (done / len(items), f"{done} of {len(items)}"))

    async def worker() -> None:
        for place in left:
            await one(place)

    await _together(step, [worker] * min(foreach.parallel, len(items) - done))
    step.facts["foreach_count"] = len(items)
    names = dict.fromkeys([*capability.outputs, *(name for made in outputs for name in made or ())])
    return {name: [(made or {}).get(name) for made in outputs] for name in names}


Work = Callable[[], Coroutine[Any, Any, None]]


async def _together(step: StepRun, works: Sequence[Work]) -> None:
    """Carry all out at once; the first failure cuts the others off and goes on."""
    if len(works) == 1:
        await works[0]()
    elif works:
        with step.idle():
            tasks = [asyncio.create_task(_part(step, work)) for work in works]
            try:
                await asyncio.gather(*tasks)
            finally:
                await _cut_off(tasks)


async def _part(step: StepRun, work: Work) -> None:
    with step.working():
        await work()


async def _cut_off(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# While


async def _again(step: StepRun, loop: While, capability: Capability, inputs: Made) -> Made:
    count = 0
    while True:
        count += 1
        unit = _unit(step, f"turn:{count}", count)
        made: Made | None = step.work.note(unit.key)
        if made is None:
            if count > 1:
                inputs = checked_inputs(step, capability, step.level.data.resolve(step.step.input))
            made = await step.call(unit, capability, inputs)
            _record(step, unit, made, (count / loop.max_iterations, f"turn {count}"))
        _write(step, made)
        step.level.data.tell(step.step.id, "running", step.unit.attempt, made)
        goes_on = bool(step.level.evaluate(loop.condition))
        if not goes_on or count == loop.max_iterations:
            step.facts |= {"while_iterations": count, "while_exhausted": goes_on}
            return made


# Scatter


async def _members(step: StepRun, scatter: Scatter, chosen: Chosen) -> Made:
    made: dict[str, Made] = {}
    failed: dict[str, SkillError | Degraded] = {}
    left = [one for one in chosen.capabilities if not _is_on_record(step, one, made, failed)]
    won = asyncio.Event()

    async def member(capability: Capability) -> None:
        unit = _unit(step, f"member:{capability.id}", capability.id)
        await _member(step, unit, capability, chosen.inputs, made, failed, len(chosen.capabilities))
        if made:
            won.set()

    works = [partial(member, one) for one in left]
    if scatter.merge != "first_success":
        await _together(step, works)
    elif not made:
        await _race(step, won, works)
    if not made:
        # The same at every execution: a degradation before a failure, and the first of the file.
        ordered = [failed[one.id] for one in chosen.capabilities]
        raise next((error for error in ordered if isinstance(error, Degraded)), ordered[0])
    step.facts |= {"scatter_succeeded": len(made), "scatter_failed": len(failed)}
    return _merged(scatter, [(one.id, made[one.id]) for one in chosen.capabilities if one.id in made])


def _is_on_record(
    step: StepRun, capability: Capability, made: dict[str, Made], failed: dict[str, SkillError | Degraded]
) -> bool:
    row = step.work.recorded(step.unit.part(f"member:{capability.id}"))
    if row is None:
        return False
    if row.error is not None:
        failed[capability.id] = error_from(row.error)
    else:
        made[capability.id] = decode_result(row.output or b"null")
    return True


async def _member(
    step: StepRun,
    unit: Unit,
    capability: Capability,
    given: Made,
    made: dict[str, Made],
    failed: dict[str, SkillError | Degraded],
    count: int,
) -> None:
    """One member that is not on record; a failure of it is not yet one of the step."""
    try:
        found = await step.call(unit, capability, checked_inputs(step, capability, given))
    except Degraded as verdict:  # on record by itself
        failed[capability.id] = verdict
        step.work.write(_progress(step, *_over(made, failed, count)), mark=step.key)
        return
    except SkillError as error:
        failed[capability.id] = error
        now = step.work.now()
        row = step.work.row(
            unit.key,
            step.shown,
            "failed",
            started_at=unit.began_at or now,
            completed_at=now,
            attempt=unit.attempt,
            error=failure_from(error),
        )
        step.work.write(_progress(step, *_over(made, failed, count)), mark=step.key, rows=(row,))
        return
    made[capability.id] = found
    _record(step, unit, found, _over(made, failed, count))


def _over(made: Mapping[str, Any], failed: Mapping[str, Any], count: int) -> tuple[float, str]:
    over = len(made) + len(failed)
    return over / count, f"{over} of {count}"


async def _race(step: StepRun, won: asyncio.Event, works: Sequence[Work]) -> None:
    """Carry all out at once until one has won, which cuts the others off."""
    with step.idle():
        tasks = [asyncio.create_task(_part(step, work)) for work in works]
        try:
            pending = set(tasks)
            while pending and not won.is_set():
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            await _cut_off(tasks)


def _merged(scatter: Scatter, outputs: Sequence[tuple[str, Made]]) -> Made:
    if scatter.merge == "collect":
        return dict(outputs)
    if scatter.merge == "first_success":
        return outputs[0][1]
    lists: Made = {}
    for _, made in outputs:
        for name, value in made.items():
            held = lists.setdefault(name, [])
            if value is not None:
                held.extend(value if isinstance(value, list) else [value])
    return lists


# Where outputs go


def write_outputs(step: StepRun, made: Made) -> None:
    """
    Write what a step made to its targets. A while step wrote after each of its turns.

    Raises:
        InvalidConfigurationError: another step wrote there already, or the values cannot be merged.
    """
    if step.step.while_ is None:
        _write(step, made)


def write_again(step: StepRun, made: Made) -> None:
    """The same for a step that is on record."""
    if step.step.while_ is None:
        _write(step, made)
        return
    count = 1
    while (turn := step.work.note(step.unit.part(f"turn:{count}"))) is not None:
        _write(step, turn)
        count += 1


def _write(step: StepRun, made: Made) -> None:
    data = step.level.data
    for name, target in step.step.output.items():
        source = parse_field(name)
        value = _field(step, made, name) if source.namespace == PRODUCED else data.read(source)
        try:
            data.write(target, value, step.step.merge_strategy, step.step.id)
        except InvalidConfigurationError as error:
            raise InvalidConfigurationError(f"Step '{step.shown}': {error.message}.") from None


def _field(step: StepRun, made: Made, path: str) -> Json:
    if step.step.foreach is None:
        return field_of(made, path)
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        values = made.get(".".join(parts[:end]))
        if isinstance(values, list):
            rest = ".".join(parts[end:])
            return [field_of(value, rest) if rest else value for value in values]
    return None
