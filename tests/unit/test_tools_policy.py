"""The decision about a tool call: the policy first, then the built-in rules, and what an `always` is good for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.agents.tools import Call, Ground, Reason, Tool, ToolError
from holdfast.agents.tools.described import RedeclaredTool
from holdfast.agents.tools.policy import (
    Allowed,
    Ask,
    Denied,
    Policy,
    PolicyInvalid,
    TaskGrant,
    decide,
    load_policy,
    read_policy,
)
from holdfast.settings import InvalidSetting


class Order(msgspec.Struct):
    host: str = "shop.example"


async def _work(_: Call, __: Order) -> None: ...


def tool(name: str = "shop", **declared: Any) -> Tool[Order]:
    return Tool(name=name, description="", input=Order, function=_work, **declared)


def because(rule: str) -> Callable[[Order, Ground], Reason]:
    """A guard that always finds this, with the host of the input and the first root."""
    return lambda order, ground: Reason(
        rule, host=order.host if rule == "egress" else None, target=str(ground.roots[0]) if ground.roots else None
    )


def policy(*entries: dict[str, str]) -> Policy:
    return read_policy(json.dumps(entries).encode())


def test_a_tool_under_another_name_is_still_what_the_policy_calls_it() -> None:
    renamed = RedeclaredTool(
        name="deploy",
        description="",
        input=Order,
        function=_work,
        schema={},
        inner=tool("bash", requires_permission=True),
    )

    assert decide(renamed, Order(), policy({"tool": "bash", "action": "deny"})) == Denied("policy")
    assert decide(renamed, Order(), policy({"tool": "deploy", "action": "deny"})) == Denied("policy")
    first = policy({"tool": "deploy", "action": "allow"}, {"tool": "bash", "action": "deny"})
    assert decide(renamed, Order(), first) == Allowed()


def test_what_no_rule_speaks_of_runs() -> None:
    assert decide(tool(), Order()) == Allowed()


@pytest.mark.parametrize(
    ("declared", "rule"),
    [
        ({"requires_permission": True}, "requires_permission"),
        ({"requires_permission": True, "rule": "own"}, "own"),
        ({"high_cost": True, "requires_permission": True}, "high_cost"),
        ({"guard": because("outside_roots"), "high_cost": True}, "outside_roots"),
    ],
)
def test_the_built_in_rules_ask_in_their_order(declared: dict[str, Any], rule: str) -> None:
    asked = decide(tool(**declared), Order())

    assert isinstance(asked, Ask)
    assert (asked.rule, asked.may_remember, asked.grant) == (rule, True, TaskGrant("shop", rule))


def test_the_first_entry_that_fits_decides_over_all_that_is_built_in() -> None:
    entries = policy(
        {"tool": "web_*", "action": "allow"},
        {"tool": "web_search", "action": "deny"},
        {"tool": "tickets.*", "action": "deny", "rule": "read_only"},
        {"tool": "*", "action": "ask"},
    )

    assert decide(tool("web_search", requires_permission=True), Order(), entries) == Allowed()
    assert decide(tool("tickets.close"), Order(), entries) == Denied("read_only")
    asked = decide(tool("shop", high_cost=True), Order(), entries)
    assert asked == Ask("policy", may_remember=True, grant=TaskGrant("shop", "policy"))


def test_patterns_tell_upper_from_lower_case() -> None:
    assert decide(tool("Shop"), Order(), policy({"tool": "shop", "action": "deny"})) == Allowed()


def test_always_holds_for_this_tool_and_rule_alone() -> None:
    grants = {TaskGrant("shop", "requires_permission")}

    assert decide(tool(requires_permission=True), Order(), grants=grants) == Allowed("requires_permission")
    assert isinstance(decide(tool("store", requires_permission=True), Order(), grants=grants), Ask)
    assert isinstance(decide(tool(high_cost=True), Order(), grants=grants), Ask)


def test_always_to_egress_holds_for_the_host_alone() -> None:
    guarded = tool(guard=because("egress"))
    grants = {TaskGrant("shop", "egress", "shop.example")}

    assert decide(guarded, Order(), grants=grants) == Allowed("egress", Reason("egress", host="shop.example"))
    assert isinstance(decide(guarded, Order("evil.example"), grants=grants), Ask)


@pytest.mark.parametrize("rule", ["destructive_shell", "unparsed_shell", "outcome_unknown"])
def test_no_always_ends_these_questions(rule: str) -> None:
    guarded = tool(guard=because(rule))

    asked = decide(guarded, Order(), grants={TaskGrant("shop", rule)})

    assert isinstance(asked, Ask)
    assert not asked.may_remember


def test_a_denial_is_stronger_than_a_grant() -> None:
    entries = policy({"tool": "shop", "action": "deny"})
    grants = {TaskGrant("shop", "policy"), TaskGrant("shop", "requires_permission")}

    assert decide(tool(requires_permission=True), Order(), entries, grants) == Denied("policy")


def test_a_guard_sees_the_ground_of_the_call() -> None:
    ground = Ground((Path("/work"),))
    guarded = tool(guard=because("outside_roots"))

    asked = decide(guarded, Order(), ground=ground)

    assert isinstance(asked, Ask)
    assert asked.target == "/work"


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b"[",
        b'[{"tool": "a"}]',
        b'[{"tool": "a", "action": "maybe"}]',
        b'[{"tool": "a", "action": "ask", "extra": 1}]',
        b'[{"tool": "", "action": "ask"}]',
        b'[{"tool": "a", "action": "ask", "rule": ""}]',
        b'[{"tool": "a", "action": "ask", "rule": "\xff"}]',
    ],
)
def test_what_is_no_policy_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(PolicyInvalid):
        read_policy(data)

    (tmp_path / "policy.json").write_bytes(data)
    with pytest.raises(InvalidSetting, match=r"policy\.json"):
        load_policy(str(tmp_path))


def test_a_catalog_without_the_file_has_no_policy(tmp_path: Path) -> None:
    assert load_policy(str(tmp_path)) == load_policy(None) == Policy()


def test_an_input_that_a_guard_cannot_judge_is_not_let_through() -> None:
    def broken(order: Order, ground: Ground) -> Reason:
        raise RecursionError

    with pytest.raises(ToolError, match="cannot be judged"):
        decide(tool(guard=broken), Order())


def test_what_was_let_through_is_what_the_guard_found_then_and_nothing_else() -> None:
    ground = Ground((Path("/work"),))
    guarded = tool(guard=because("outside_roots"))
    found = Reason("outside_roots", target="/work")

    assert decide(guarded, Order(), policy({"tool": "shop", "action": "allow"}), ground=ground) == Allowed(reason=found)
    asked = decide(guarded, Order(), policy({"tool": "shop", "action": "ask"}), ground=ground)
    assert isinstance(asked, Ask)
    assert (asked.rule, asked.target, asked.grant) == ("policy", "/work", TaskGrant("shop", "policy"))
    assert decide(tool(), Order(), ground=ground) == Allowed()
