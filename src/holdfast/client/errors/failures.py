"""One class for each code with which a server, or a run, fails."""

from __future__ import annotations

from holdfast.client.errors.base import RunFailed, ServerFault


class InternalError(ServerFault):
    """Something went wrong in the server; its log has the request id."""

    code = "INTERNAL_ERROR"


class NotConfigured(ServerFault):
    """The server lacks a setting that this call needs (`details["setting"]`)."""

    code = "NOT_CONFIGURED"


class MigrationRequired(ServerFault):
    """The server's store has to be migrated first."""

    code = "MIGRATION_REQUIRED"


class JournalCorrupt(ServerFault):
    """The run's journal does not fit its hash."""

    code = "JOURNAL_CORRUPT"


class McpConnectionFailed(ServerFault):
    """The MCP server cannot be reached, or does not answer as it should."""

    code = "MCP_CONNECTION_FAILED"


class AgentFailed(RunFailed):
    """The agent's code raised."""

    code = "AGENT_EXECUTION_ERROR"


class InvalidOutput(RunFailed):
    """What the agent returned does not fit its schema."""

    code = "INVALID_OUTPUT"


class OutputInvalid(RunFailed):
    """The answer does not fit what the agent or `response_schema` asks for."""

    code = "OUTPUT_INVALID"


class RunInterrupted(RunFailed):
    """Its process died, and its agent is not executed again."""

    code = "INTERRUPTED"


class InterruptExpired(RunFailed):
    """Nobody answered in time."""

    code = "INTERRUPT_EXPIRED"


class HitlExpired(RunFailed):
    """Nobody answered in time."""

    code = "HITL_EXPIRED"


class RunTimeout(RunFailed):
    """It executed longer than allowed."""

    code = "TIMEOUT_ERROR"


class TurnTimeout(RunFailed):
    """It executed longer than allowed."""

    code = "TURN_TIMEOUT"


class BudgetExceeded(RunFailed):
    """It used more tokens than allowed."""

    code = "BUDGET_EXCEEDED"


class AgentMissing(RunFailed):
    """No process served its agent for ten minutes."""

    code = "AGENT_MISSING"


class ReplayDiverged(RunFailed):
    """The agent's code was changed while the run was under way."""

    code = "REPLAY_DIVERGED"


class OutcomeUnknown(RunFailed):
    """A step that must not run twice was cut off by a crash."""

    code = "OUTCOME_UNKNOWN"


class ToolCallFailed(RunFailed):
    """The caller answered a tool call with an error."""

    code = "TOOL_CALL_FAILED"


class ToolDenied(RunFailed):
    """The agent's policy does not allow the tool."""

    code = "TOOL_DENIED"


class ToolTimeout(RunFailed):
    """A tool took too long."""

    code = "TOOL_TIMEOUT"


class LLMProviderError(RunFailed):
    """The model's provider refused or failed."""

    code = "LLM_PROVIDER_ERROR"


class LLMRateLimited(RunFailed):
    """The model's provider asks for fewer requests."""

    code = "LLM_RATE_LIMITED"


class LLMTimeout(RunFailed):
    """The model's provider sent nothing for too long."""

    code = "LLM_TIMEOUT"


class ContextOverflow(RunFailed):
    """The conversation does not fit into the model's context window."""

    code = "CONTEXT_OVERFLOW"


class RunCancelled(RunFailed):
    """It was cancelled."""

    code = "CANCELLED"


class SkillFailed(RunFailed):
    """A step of the skill failed."""

    code = "RUNTIME_ERROR"


class StepTimeout(RunFailed):
    """A step took too long."""

    code = "STEP_TIMEOUT"


class UpstreamFailure(RunFailed):
    """What a step called failed."""

    code = "UPSTREAM_FAILURE"


class UpstreamTimeout(RunFailed):
    """What a step called took too long."""

    code = "UPSTREAM_TIMEOUT"


class GateExecutionFailure(RunFailed):
    """A gate of the skill could not be asked."""

    code = "GATE_EXECUTION_FAILURE"
