"""Spans: one for each execution and each attempt of a step, and nothing of what runs say is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from holdfast import Context, agent
from holdfast.agents.function import FunctionAgent
from holdfast.execution.tracing import Tracing
from holdfast.exporting import open_exporter
from holdfast.settings import InvalidSetting, Settings
from tests.support.kernel import CALLER, kernel

SECRET = "hunter2"


class Recorded:
    """A provider that keeps its spans, and a tracing that uses it."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = Tracing(self.provider)

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    @property
    def text(self) -> str:
        return "".join(span.to_json() for span in self._exporter.get_finished_spans())


async def spans_of(directory: Path, program: FunctionAgent, recorded: Recorded, input: Any = None) -> None:
    async with kernel(directory, program) as it:
        it.worker.tracing = recorded.tracing
        await it.finished(await it.start(program.name, input))


async def test_a_run_is_a_span_with_its_steps_and_its_agents_own_spans_below(tmp_path: Path) -> None:
    recorded = Recorded()
    own = trace.get_tracer("own", tracer_provider=recorded.provider)

    @agent("traced")
    async def traced(context: Context, input: str) -> str:
        async def fetch() -> str:
            return input

        with own.start_as_current_span("mine"):
            return str(await context.step("fetch", fetch))

    await spans_of(tmp_path, traced, recorded, SECRET)

    (run,), (step,), (mine,) = recorded.named("run traced"), recorded.named("step fetch"), recorded.named("mine")
    assert run.context is not None
    assert step.parent is not None
    assert mine.parent is not None
    assert step.parent.span_id == mine.parent.span_id == run.context.span_id
    assert (run.attributes or {})["holdfast.outcome"] == "returned"
    assert (step.attributes or {})["holdfast.step"] == "fetch"
    assert SECRET not in recorded.text


async def test_a_failure_is_told_by_its_kind_and_not_by_its_text(tmp_path: Path) -> None:
    recorded = Recorded()

    @agent("failing")
    async def failing(context: Context, input: str) -> str:
        async def fetch() -> str:
            raise LookupError(SECRET)

        return str(await context.step("fetch", fetch, attempts=2, backoff_seconds=0.001))

    await spans_of(tmp_path, failing, recorded)

    (run,) = recorded.named("run failing")
    assert run.status.description == "StepFailed"
    assert [(span.attributes or {})["holdfast.attempt"] for span in recorded.named("step fetch")] == [1, 2]
    assert SECRET not in recorded.text


async def test_each_execution_of_a_run_that_waited_is_a_span(tmp_path: Path) -> None:
    recorded = Recorded()

    @agent("asking")
    async def asking(context: Context, input: str) -> Any:
        return await context.ask("Sure?")

    async with kernel(tmp_path, asking) as it:
        it.worker.tracing = recorded.tracing
        run = await it.waiting(await it.start("asking"))
        (interrupt,) = await it.store.interrupts(run.number)
        await it.runs.answer(CALLER, run.run_id, "yes", interrupt_id=interrupt.interrupt_id)
        await it.finished(run)

    outcomes = [(span.attributes or {})["holdfast.outcome"] for span in recorded.named("run asking")]
    assert outcomes == ["stopped", "returned"]


def test_without_a_place_nothing_is_exported() -> None:
    assert open_exporter(Settings(tracing=True)) is None
    assert open_exporter(Settings(otlp_endpoint="http://127.0.0.1:1/v1/traces")) is None


def test_a_header_that_is_none_refuses_the_start_without_showing_it() -> None:
    with pytest.raises(InvalidSetting, match=r"header 2 is no name=value") as refused:
        open_exporter(Settings(tracing=True, otlp_endpoint="http://x", otlp_headers=("a=b", SECRET)))

    assert SECRET not in refused.value.message
