"""
What stands between a call and its tool: the policy, the grants of the task, and where files may be touched.

One for a server. The decision itself is pure (`policy.decide`); here is what it needs to know.
"""

from __future__ import annotations

import asyncio
from typing import Any

from holdfast.agents.tools.grants import Grants, HeldGrants
from holdfast.agents.tools.policy import NO_POLICY, Allowed, Ask, Decision, Policy, decide, is_covered
from holdfast.agents.tools.tool import Ground, Reason, Tool
from holdfast.model import Run


class Gate:
    """
    Decides about calls. `policy` may be replaced at any time: it holds from the next decision on, and what was
    decided before stays so.
    """

    def __init__(self, policy: Policy = NO_POLICY, *, grants: Grants | None = None) -> None:
        self.policy = policy
        self.grants: Grants = HeldGrants() if grants is None else grants

    async def ground(self, run: Run) -> Ground:
        """Where the tools of this run may read and write."""
        return Ground()

    async def decide(self, tool: Tool[Any], input: Any, run: Run, ground: Ground) -> Decision:
        """
        What is to be done about a call of this run.

        Raises:
            StoreUnavailable
        """
        if tool.guard is None:
            decision = decide(tool, input, self.policy, ground=ground)
        else:
            decision = await asyncio.to_thread(decide, tool, input, self.policy, ground=ground)
        if isinstance(decision, Ask) and decision.may_remember:
            given = await self.grants.of(run)
            if is_covered(decision, [item.grant for item in given]):
                return Allowed(decision.rule)
        return decision


async def reason_of(tool: Tool[Any], input: Any, ground: Ground) -> Reason | None:
    """What a tool's guard finds in an input now."""
    return None if tool.guard is None else await asyncio.to_thread(tool.guard, input, ground)
