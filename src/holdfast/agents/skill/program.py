"""
Skills and bare capabilities as agents: `skill:<id>` and `capability:<id>`.

A run keeps the definition that it began with (`Defined`), and what its caller decided beside the inputs
(`Options`, given as `request`). Its input is the object of inputs itself, so that any API can start it. It ends with the
outputs, and with them comes the event `skill_completed`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from holdfast.agents.skill.bindings import Bindings
from holdfast.agents.skill.failures import InvalidInputError
from holdfast.agents.skill.level import Level
from holdfast.agents.skill.model import Capability, Definition, Field, Options, Skill, Step, decode_definition
from holdfast.agents.skill.step_contract import RANKS
from holdfast.agents.skill.steps import cut_off
from holdfast.agents.skill.undertaking import Undertaking
from holdfast.execution.context import Context
from holdfast.execution.program import AgentSpec, Result
from holdfast.model import Step as Row
from holdfast.model.lifecycle import Restart

SKILL: Final = "skill:"
CAPABILITY: Final = "capability:"
REQUEST: Final = "request"
"""The name under which a run is given its `Options` (`given_step`)."""
CALL: Final = "call"
"""The one step of a bare capability."""


_KEPT_DEFINITIONS: Final = 256


class SkillProgram:
    """An agent made of files. `define` gives its definition of the moment, or raises what keeps it from being run."""

    framework = "skill"
    restart = Restart.ALWAYS
    is_sync = False

    def __init__(
        self,
        name: str,
        define: Callable[[], Definition],
        bindings: Bindings,
        *,
        description: str = "",
        spec: AgentSpec | None = None,
        is_internal: bool = False,
    ) -> None:
        self.name = name
        self.description = description
        self.spec = spec or AgentSpec()
        self.is_internal = is_internal
        self._define = define
        self._bindings = bindings
        self._encoded: tuple[Definition, bytes] | None = None

    async def definition(self) -> bytes:
        """What the files say now, with all that they reach."""
        definition = self._define()
        if self._encoded is None or self._encoded[0] is not definition:
            self._encoded = definition, definition.encode()
        return self._encoded[1]

    def last_words(self, steps: Iterable[Row], now: int) -> list[tuple[tuple[str, str], Row]]:
        """The steps that are under way, cut off; those inside of others first."""
        under_way = [row for row in steps if row.status == "running" and ":" not in row.key.rpartition("/")[2]]
        return [cut_off(row, now) for row in sorted(under_way, key=lambda row: -row.key.count("/"))]

    async def execute(self, context: Context, input: Any) -> Any:
        """Run the steps that are not on record yet, and return the outputs."""
        definition = _decoded(await context.definition())
        if not isinstance(input, dict | None):
            raise InvalidInputError("The inputs of a skill are an object.")
        work = Undertaking(context, definition, _options(context), self._bindings)
        outputs = await _level(work, definition, input or {}).run()
        # The end is written behind all results, or with them: nobody sees it before they are on disk.
        return Result(output=outputs, events=(("skill_completed", {}),))


_definitions: Final[OrderedDict[bytes, Definition]] = OrderedDict()


def _decoded(data: bytes) -> Definition:
    """A definition; those that were used last are kept, for most runs have the same."""
    known = _definitions.get(data)
    if known is None:
        known = _definitions[data] = decode_definition(data)
        if len(_definitions) > _KEPT_DEFINITIONS:
            _definitions.popitem(last=False)
    else:
        _definitions.move_to_end(data)
    return known


def _options(context: Context) -> Options:
    """What the caller decided; whatever API started the run, its trust is at most that of the run's row."""
    given = context.given(REQUEST)
    options = Options(trust=_trust_of(context)) if given is None else msgspec.convert(given, Options)
    if RANKS[options.trust] > RANKS[_trust_of(context)]:
        return msgspec.structs.replace(options, trust=_trust_of(context))
    return options


def _trust_of(context: Context) -> Any:
    trust = context.execution.run.trust
    return trust if trust in RANKS else "standard"


def _level(work: Undertaking, definition: Definition, inputs: Mapping[str, Any]) -> Level:
    if definition.target.startswith(SKILL):
        return Level(work, definition.skills[definition.target.removeprefix(SKILL)], inputs)
    capability = definition.capabilities[definition.target.removeprefix(CAPABILITY)]
    declared = {name: value for name, value in inputs.items() if name in capability.inputs}
    return Level(work, skill_of(capability), declared)


def skill_of(capability: Capability) -> Skill:
    """A skill of one step that calls a capability with its inputs and has its outputs."""
    step = Step(
        id=CALL,
        uses=capability.id,
        input={name: f"inputs.{name}" for name in capability.inputs},
        output={name: f"outputs.{name}" for name in capability.outputs},
    )
    return Skill(
        id=capability.id,
        version=capability.version,
        name=capability.id,
        description=capability.description,
        inputs=capability.inputs,
        outputs={name: Field(type=field.type, sensitive=field.sensitive) for name, field in capability.outputs.items()},
        steps=(step,),
    )


def spec_of_inputs(version: str, description: str, inputs: Mapping[str, Field], *, is_strict: bool) -> AgentSpec:
    """What other APIs are told about the inputs, and hold a request against."""
    return AgentSpec(
        version=version, description=description, input_schema=input_schema(inputs), input_strict=is_strict
    )


_TYPES: Final = ("string", "number", "integer", "boolean", "object", "array")


def input_schema(inputs: Mapping[str, Field]) -> dict[str, Any]:
    """The declared inputs as JSON Schema."""
    properties: dict[str, Any] = {}
    for name, field in inputs.items():
        schema: dict[str, Any] = {"description": field.description} if field.description else {}
        if field.type in _TYPES:
            schema["type"] = field.type if field.required else [field.type, "null"]
        elif field.required:
            schema["not"] = {"type": "null"}
        properties[name] = schema
    required = [name for name, field in inputs.items() if field.required and field.default is None]
    return {"type": "object", "properties": properties, "required": required}
