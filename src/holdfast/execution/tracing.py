"""
Spans of runs and steps, through the OpenTelemetry API.

An execution of a run is a span, and current while the agent's code runs, so that spans of the agent's own are below it;
a step's attempt is a span below it. They say names, numbers and outcomes, never inputs, outputs or texts of errors:
spans leave the server by a way that no `redact_patterns` watches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import context, trace
from opentelemetry.trace import StatusCode

from holdfast.execution.steps import OpenStep

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider

    from holdfast.model import Run

INSTRUMENT = "holdfast"


class RunSpans:
    """The spans of one execution."""

    def __init__(self, tracing: Tracing, run: Run, framework: str) -> None:
        self._tracer = tracing.tracer
        self._run = run
        self._framework = framework
        self._context: context.Context | None = None
        self._steps: dict[OpenStep, Span] = {}

    @contextmanager
    def executing(self) -> Iterator[None]:
        """Around the agent's code."""
        run = self._run
        attributes: dict[str, str | int] = {
            "holdfast.run_id": run.run_id,
            "holdfast.agent": run.agent,
            "holdfast.framework": self._framework,
            "holdfast.attempt": run.attempt,
            **({"holdfast.thread_id": run.thread_id} if run.thread_id is not None else {}),
        }
        with self._tracer.start_as_current_span(
            f"run {run.agent}", attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            self._context = context.get_current()
            try:
                yield
            except asyncio.CancelledError:
                span.set_attribute("holdfast.outcome", "stopped")  # it waits, is handed over, or was cancelled
                raise
            except BaseException as error:
                span.set_attribute("holdfast.outcome", "failed")
                span.set_status(StatusCode.ERROR, type(error).__name__)
                raise
            else:
                span.set_attribute("holdfast.outcome", "returned")
            finally:
                for step in list(self._steps):
                    self.step_ended(step)

    def step_began(self, step: OpenStep) -> None:
        """An attempt of a step begins."""
        attributes: dict[str, str | int] = {
            "holdfast.run_id": self._run.run_id,
            "holdfast.step": step.key,
            "holdfast.attempt": step.attempt,
        }
        self._steps[step] = self._tracer.start_span(f"step {step.name}", self._context, attributes=attributes)

    def step_ended(self, step: OpenStep) -> None:
        """It is over, or was given up."""
        span = self._steps.pop(step, None)
        if span is not None:
            span.end()


class Tracing:
    """Where the spans of a process come from; by default from the provider that the process has."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self.tracer = trace.get_tracer(INSTRUMENT, tracer_provider=provider)

    def of_run(self, run: Run, framework: str) -> RunSpans:
        """The spans of an execution that begins."""
        return RunSpans(self, run, framework)
