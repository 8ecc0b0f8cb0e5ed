"""
What stands between a call and its tool: the policy, the grants of the task, and where files may be touched.

One for a server. The decision itself is pure (`policy.decide`); here is what it needs to know.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import msgspec
import structlog

from holdfast.agents.tools.grants import Grants, HeldGrants
from holdfast.agents.tools.policy import NO_POLICY, Allowed, Ask, Decision, Policy, decide, is_covered, reason_of
from holdfast.agents.tools.secrets import Secrets
from holdfast.agents.tools.tool import NOWHERE, Ground, Reason, Tool
from holdfast.agents.tools.workspaces import Workspaces
from holdfast.model import Run, Thread
from holdfast.settings import InvalidSetting, Settings

log = structlog.get_logger(__name__)


class Gate:
    """
    Decides about calls. `policy` may be replaced at any time: it holds from the next decision on, and what was
    decided before stays so.
    """

    def __init__(
        self,
        policy: Policy = NO_POLICY,
        *,
        grants: Grants | None = None,
        workspaces: Workspaces | None = None,
        ground: Ground = NOWHERE,
        secrets: Secrets | None = None,
    ) -> None:
        """
        Args:
            ground: what holds for all tasks; each has its workspace as its first root, if there are workspaces.
            secrets: what no result of a tool may hold.
        """
        self.policy = policy
        self.secrets = secrets or Secrets()
        self.grants: Grants = HeldGrants() if grants is None else grants
        self.workspaces = workspaces
        self._ground = ground

    async def ground(self, run: Run) -> Ground:
        """
        Where the tools of this run may read and write. Its workspace is there when this returns.

        Raises:
            StoreUnavailable
        """
        if self.workspaces is None:
            return self._ground
        workspace = await self.workspaces.of(run)
        return msgspec.structs.replace(self._ground, roots=(workspace, *self._ground.roots))

    async def reason_of(self, tool: Tool[Any], input: Any, ground: Ground) -> Reason | None:
        """
        What a tool's guard finds in an input now.

        Raises:
            ToolError: as for `decide`.
        """
        return None if tool.guard is None else await asyncio.to_thread(reason_of, tool, input, ground)

    async def forget(self, thread: Thread) -> None:
        """Remove the workspace of a task that is gone. What cannot be removed now is tried again by `Workspaces.sweep`."""
        if self.workspaces is None:
            return
        try:
            await self.workspaces.remove(thread.tenant, thread.thread_id, thread.created_at)
        except OSError as exc:
            log.warning("workspace_not_removed", message=str(exc))

    async def decide(self, tool: Tool[Any], input: Any, run: Run, ground: Ground) -> Decision:
        """
        What is to be done about a call of this run.

        Raises:
            StoreUnavailable
            ToolError: the input cannot be judged. The tool must not run.
        """
        if tool.guard is None:
            decision = decide(tool, input, self.policy, ground=ground)
        else:
            decision = await asyncio.to_thread(decide, tool, input, self.policy, ground=ground)
        if isinstance(decision, Ask) and decision.may_remember:
            given = await self.grants.of(run)
            if is_covered(decision, [item.grant for item in given]):
                return Allowed(decision.rule, decision.reason)
        return decision


def ground_of(settings: Settings) -> Ground:
    """
    What holds for the files of all tasks: the roots that are set, and what belongs to the server.

    Raises:
        InvalidSetting: a root is no directory, or lies where the server keeps its own.
    """
    hidden = [_real(settings.data)]
    if settings.store is not None and settings.is_embedded:
        hidden.append(_real(settings.store))
    roots = [_real(root) for root in settings.roots]
    for root in roots:
        if not root.is_dir():
            raise InvalidSetting(f"HOLDFAST_ROOTS: {root} is no directory", "roots")
        for own in hidden:
            if root.is_relative_to(own):
                raise InvalidSetting(f"HOLDFAST_ROOTS: {root} is inside of {own}, which is the server's own", "roots")
    return Ground(
        roots=tuple(roots),
        hidden=tuple(hidden),
        kept=() if settings.catalog is None else (_real(settings.catalog),),
    )


def _real(path: str) -> Path:
    return Path(os.path.realpath(Path(path).expanduser()))
