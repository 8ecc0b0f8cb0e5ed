"""
Whether a tool may be called: the policy of an installation, then the rules that are built in. A pure decision.

`policy.json` in the catalog is an array, read from the top; the first entry that fits a name of the tool decides:

    [{"tool": "web_*", "action": "allow"}, {"tool": "bash", "action": "ask", "rule": "shell"}]

Where none fits, a person is asked about what a tool's own guard finds in the input (`outside_roots`, `egress`, the
rules of the shell), then about what is declared with the tool (`high_cost`, `requires_permission`). All else runs.
Nothing here asks, waits or remembers; `agents/assistant/calls.py` and `/rpc` carry out what is decided here.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec

from holdfast.agents.tools.tool import NOWHERE, Ground, Reason, Tool, ToolError
from holdfast.settings import InvalidSetting

FILE: Final = "policy.json"

HIGH_COST: Final = "high_cost"
REQUIRES_PERMISSION: Final = "requires_permission"
OUTSIDE_ROOTS: Final = "outside_roots"
EGRESS: Final = "egress"
DESTRUCTIVE_SHELL: Final = "destructive_shell"
UNPARSED_SHELL: Final = "unparsed_shell"
OUTCOME_UNKNOWN: Final = "outcome_unknown"

# Each such call is another one, though the rule is the same: a yes to one says nothing about the next.
NEVER_REMEMBERED: Final = frozenset({DESTRUCTIVE_SHELL, UNPARSED_SHELL, OUTCOME_UNKNOWN})

# What an entry of the policy is called that names no rule.
POLICY_RULE: Final = "policy"


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the policy. `tool` is a name or a pattern of `*`, `?` and `[…]`; `rule` is what people are told."""

    tool: str
    action: Literal["allow", "ask", "deny"]
    rule: str = POLICY_RULE


class Policy(msgspec.Struct, frozen=True):
    """The entries of an installation, in their order. Without any, the built-in rules hold alone."""

    entries: tuple[Entry, ...] = ()

    def entry_for(self, tool: Tool[Any]) -> Entry | None:
        """The first entry whose pattern fits a name of this tool: a shell is one under every name."""
        fitting = (entry for entry in self.entries for name in tool.names if fnmatch.fnmatchcase(name, entry.tool))
        return next(fitting, None)


NO_POLICY: Final = Policy()


class TaskGrant(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a person said `always` to: a tool and the rule that had asked about it; for `egress` also the host."""

    tool: str
    rule: str
    host: str | None = None


class Allowed(msgspec.Struct, frozen=True):
    """
    The tool may run. `rule` is what a grant covers; `reason` is what the guard found and was let through. What it finds
    only later was let through by nobody.
    """

    rule: str | None = None
    reason: Reason | None = None


class Ask(msgspec.Struct, frozen=True):
    """A person has to be asked, about what the guard found if it found something (`reason`)."""

    rule: str
    may_remember: bool
    grant: TaskGrant
    reason: Reason | None = None

    @property
    def target(self) -> str | None:
        """What the input comes down to, where that cannot be read from it."""
        return None if self.reason is None else self.reason.target


class Denied(msgspec.Struct, frozen=True):
    """The tool may not run, whoever is asked."""

    rule: str


Decision: TypeAlias = Allowed | Ask | Denied


def decide(
    tool: Tool[Any],
    input: Any,
    policy: Policy = NO_POLICY,
    grants: Collection[TaskGrant] = (),
    ground: Ground = NOWHERE,
) -> Decision:
    """
    What is to be done about a call with this input, which the tool has read (`Tool.read`).

    A guard may look at the file system, so that this may block for a moment.

    Raises:
        ToolError: the input cannot be judged. The tool must not run.
    """
    entry = policy.entry_for(tool)
    if entry is not None and entry.action == "deny":
        return Denied(entry.rule)
    reason = reason_of(tool, input, ground)
    if entry is not None and entry.action == "allow":
        return Allowed(reason=reason)
    rule = _built_in(tool, reason) if entry is None else entry.rule
    if rule is None:
        return Allowed()
    host = reason.host if reason is not None and reason.rule == rule else None
    ask = Ask(rule, rule not in NEVER_REMEMBERED, TaskGrant(tool.name, rule, host), reason)
    return Allowed(rule, reason) if is_covered(ask, grants) else ask


def is_covered(ask: Ask, grants: Collection[TaskGrant]) -> bool:
    """Whether somebody said `always` to this."""
    return ask.may_remember and ask.grant in grants


def reason_of(tool: Tool[Any], input: Any, ground: Ground) -> Reason | None:
    """
    What the tool's guard finds in an input.

    Raises:
        ToolError: it cannot judge it, so that nobody can (`invalid_input`). The tool must not run.
    """
    if tool.guard is None:
        return None
    try:
        return tool.guard(input, ground)
    except ToolError:
        raise
    except Exception as exc:  # a guard that fails guards nothing
        raise ToolError("invalid_input", f"this input cannot be judged: {type(exc).__name__}: {exc}") from exc


def _built_in(tool: Tool[Any], reason: Reason | None) -> str | None:
    """The first of the built-in rules that asks."""
    if reason is not None:
        return reason.rule
    if tool.high_cost:
        return HIGH_COST
    return tool.rule if tool.requires_permission else None


# Reading it


class PolicyInvalid(ValueError):
    """What is in `policy.json` is no policy; the message says where and why."""


def read_policy(data: bytes) -> Policy:
    """
    The policy in the bytes of a file.

    Raises:
        PolicyInvalid
    """
    try:
        entries = msgspec.json.decode(data, type=tuple[Entry, ...])
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        choices = "; an action is allow, ask or deny" if "].action" in str(exc) else ""
        raise PolicyInvalid(f"{exc}{choices}") from None
    for index, entry in enumerate(entries):
        if not entry.tool or not entry.rule:
            raise PolicyInvalid(f"tool and rule are not empty - at `$[{index}]`")
    return Policy(entries)


def load_policy(catalog: str | None) -> Policy:
    """
    The policy of a catalog; without a catalog, or where it has no such file, there is none.

    Raises:
        InvalidSetting
    """
    if catalog is None:
        return NO_POLICY
    path = Path(catalog) / FILE
    try:
        return read_policy(path.read_bytes())
    except FileNotFoundError:
        return NO_POLICY
    except (OSError, PolicyInvalid) as exc:
        raise InvalidSetting(f"{path}: {exc}", "catalog") from None
