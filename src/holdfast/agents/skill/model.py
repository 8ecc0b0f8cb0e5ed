"""
What skill and capability files say, once everything structural about them was checked. No I/O.

All of it can be encoded as JSON and read back: a run keeps the definition that it began with. Expressions and references
stay the text of the file; who evaluates them parses them (and may remember what came of it, for the same text means the
same always).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Json = Any  # str, int, float, bool, None, and lists and dicts of them

Trust = Literal["sandbox", "standard", "elevated", "privileged"]
OnFail = Literal["block", "warn", "degrade", "require_human"]
MergeStrategy = Literal["overwrite", "replace", "append", "deep_merge"]
ScatterMerge = Literal["collect", "concat_lists", "first_success"]


class Field(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One declared input or output."""

    type: str  # string, number, integer, boolean, object, array, any; another one counts as any
    required: bool = False
    default: Json = None
    description: str = ""
    sensitive: bool = False


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How often a step is tried; the wait after attempt n is backoff × multiplier^(n-1), 60 s at most."""

    max_attempts: int = 3
    backoff_seconds: float = 1.0
    backoff_multiplier: float = 2.0


class Foreach(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call for each item of a list."""

    items: str  # an expression
    name: str = msgspec.field(default="item", name="as")
    index_as: str | None = None
    parallel: int = 1


class While(msgspec.Struct, frozen=True, kw_only=True):
    """A call again and again, for as long as the condition holds after a turn."""

    condition: str
    max_iterations: int = 10


class Router(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One capability of several, chosen by a value."""

    on: str
    cases: dict[str, str]
    default: str | None = None


class Scatter(msgspec.Struct, frozen=True, kw_only=True):
    """Several capabilities with one input."""

    capabilities: tuple[str, ...]
    merge: ScatterMerge = "collect"


class Confirm(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A person must approve before the call."""

    question: str | None = None
    expires_in: float | None = None  # seconds
    default: Literal["approve", "deny"] | None = None


class Gate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A capability that says whether a step may go on."""

    capability: str
    input: dict[str, Json] | None = None  # references `input.x` and `output.x`; None: the fields that it declares
    on_fail: OnFail = "block"


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step of a skill, with all defaults filled in."""

    id: str
    uses: str  # a capability's id, or `skill:<id>`
    input: dict[str, Json] = {}
    output: dict[str, str] = {}  # produced field, or a dotted path → target
    depends_on: tuple[str, ...] = ()
    condition: str | None = None
    retry: Retry | None = None
    timeout_seconds: float = 60.0
    foreach: Foreach | None = None
    while_: While | None = msgspec.field(default=None, name="while")
    router: Router | None = None
    scatter: Scatter | None = None
    merge_strategy: MergeStrategy = "overwrite"
    confirm: Confirm | None = None
    pre_gates: tuple[Gate, ...] = ()  # the step's own; those of the capability come before them
    post_gates: tuple[Gate, ...] = ()
    at_most_once: bool | None = None  # None: as the capability says
    stream: bool = False
    config: dict[str, Json] = {}  # as it stands in the file, to be shown

    @property
    def skill(self) -> str | None:
        """The id of the nested skill, if it is one."""
        return self.uses.removeprefix("skill:") if self.uses.startswith("skill:") else None


class Skill(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A declared skill."""

    id: str
    version: str
    name: str
    description: str
    inputs: dict[str, Field]
    outputs: dict[str, Field]
    steps: tuple[Step, ...]
    channel: str = "local"
    domain: str = ""
    metadata: dict[str, Json] = {}

    def hides(self, target: str) -> bool:
        """Whether what a step writes there is an output that people are not shown."""
        namespace, _, name = target.partition(".")
        declared = self.outputs.get(name) if namespace == "outputs" else None
        return declared is not None and declared.sensitive


class Safety(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What holds wherever a capability is used."""

    trust_level: Trust = "standard"
    requires_confirmation: bool = False
    mandatory_pre_gates: tuple[Gate, ...] = ()
    mandatory_post_gates: tuple[Gate, ...] = ()


class Python(msgspec.Struct, frozen=True, tag="python", tag_field="kind"):
    """`module:function`, sync or async."""

    function: str


class Http(msgspec.Struct, frozen=True, kw_only=True, tag="http", tag_field="kind", omit_defaults=True):
    """A request; `${input.x}` and `${env.NAME}` are filled in."""

    url: str
    method: str = "POST"
    headers: dict[str, str] = {}
    body: Json = None  # None: all inputs
    response: dict[str, str] | None = None  # output → path in the JSON answer; None: its keys


class Mcp(msgspec.Struct, frozen=True, kw_only=True, tag="mcp", tag_field="kind"):
    """A tool of an MCP server."""

    server: str
    tool: str


class Prompt(msgspec.Struct, frozen=True, kw_only=True, tag="prompt", tag_field="kind", omit_defaults=True):
    """The assistant's model; `{{x}}` is an input."""

    template: str
    system: str | None = None
    json: bool = False


class Client(msgspec.Struct, frozen=True, kw_only=True, tag="client", tag_field="kind"):
    """Executed by the caller of the run: a client tool."""

    tool: str


class Builtin(msgspec.Struct, frozen=True, kw_only=True, tag="builtin", tag_field="kind"):
    """Carried out by the package itself."""

    name: str


Binding = Python | Http | Mcp | Prompt | Client | Builtin


class Capability(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A contract, and what fulfils it."""

    id: str
    version: str
    description: str
    inputs: dict[str, Field]
    outputs: dict[str, Field]
    bind: Binding
    side_effects: bool = True
    at_most_once: bool = False
    safety: Safety = Safety()


class Definition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that a run needs: what it executes (`skill:<id>` or `capability:<id>`), and everything that this reaches."""

    target: str
    skills: dict[str, Skill] = {}
    capabilities: dict[str, Capability] = {}

    def encode(self) -> bytes:
        """JSON with sorted keys: equal definitions are equal bytes."""
        return msgspec.json.encode(self, order="deterministic")


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something wrong with a file; lines and columns count from 1."""

    file: str
    line: int
    column: int
    skill_id: str | None
    step_id: str | None
    severity: Literal["error", "warning"]
    code: str
    message: str


class Options(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the caller of one run decided, beside its inputs."""

    fail_fast: bool = True
    max_workers: int = 8
    trust: Trust = "standard"  # of the run: its key's, lowered by `options.trust_level`
    confirmed_capabilities: tuple[str, ...] = ()
    on_confirmation: Literal["wait", "fail"] = "wait"
    include_trace: bool = False
    frame: dict[str, Json] = {}


def decode_definition(data: bytes) -> Definition:
    """
    A definition that was encoded.

    Raises:
        msgspec.ValidationError: it is none.
    """
    return msgspec.json.decode(data, type=Definition)
