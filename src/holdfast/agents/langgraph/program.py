"""A compiled graph as an agent that can be run."""

from __future__ import annotations

from typing import Any

from langgraph.pregel import Pregel

from holdfast.agents.langgraph.running import run_graph
from holdfast.execution.context import Context
from holdfast.execution.program import EMPTY_SPEC, AgentSpec
from holdfast.model.lifecycle import Restart


class GraphProgram:
    """
    Runs a graph from the run's input to its final state, each node once.

    Every finished node is a recorded step. Executed again after a crash, or after an answer, the graph goes the same
    way with the recorded results, and only nodes that had not finished are run.
    """

    framework = "langgraph"
    restart = Restart.ALWAYS
    is_sync = False

    def __init__(
        self, graph: Pregel[Any, Any, Any, Any], name: str, *, spec: AgentSpec = EMPTY_SPEC, restart: str | None = None
    ) -> None:
        self.graph = graph
        self.name = name
        self.spec = spec
        self.description = spec.description
        if restart is not None:
            self.restart = Restart(restart)

    async def execute(self, context: Context, input: Any) -> Any:
        """Run the graph; its output is its final state."""
        return await run_graph(self.graph, context, input)
