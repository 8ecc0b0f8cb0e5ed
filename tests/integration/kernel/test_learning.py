"""What learns from a turn is a run like any other, started once, and only where settings say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.agents.assistant import AssistantProgram
from holdfast.agents.assistant.learning import NAME, run_id_of
from holdfast.agents.registry import Registry
from holdfast.equipping import add_memory
from holdfast.errors import QueueFull
from holdfast.execution.codec import decode_result
from holdfast.model import Run, Status
from holdfast.runs import Caller, StartRequest
from holdfast.settings import Settings
from holdfast.store.base import RunQuery, Started
from holdfast.testing.model import Says, ScriptedModel
from tests.support.kernel import CALLER, Kernel, kernel


async def turn(k: Kernel, assistant: AssistantProgram, settings: Settings) -> Run:
    """A turn of an assistant that was given its memory as a server does."""
    programs = Registry([assistant])
    k.worker.programs = programs
    add_memory(programs, k.runs, settings)
    run = await k.start("assistant", {"message": "Hello"}, thread_id="t1", message="Hello")
    ended = await k.finished(run)
    assert ended.status is Status.COMPLETED
    return ended


async def learning_runs(k: Kernel) -> list[Run]:
    return list(await k.runs.list(RunQuery(tenant=CALLER.tenant, agent=NAME)))


async def test_a_turn_is_learned_from_once_however_often_it_asks_for_it(tmp_path: Path) -> None:
    assistant = AssistantProgram(ScriptedModel([Says("Good day.")]))
    async with kernel(tmp_path, assistant) as k:
        run = await turn(k, assistant, Settings())
        learn = assistant._learn
        assert learn is not None
        await learn(run)  # as a second execution does that a crash cut off from the record of the first

        (started,) = await learning_runs(k)
        learned = await k.finished(started)
        (episode,) = await k.store.memory.items(CALLER.tenant, "episodes")

    assert started.run_id == run_id_of(run)
    assert (learned.status, learned.thread_id, learned.caller) == (Status.COMPLETED, None, CALLER.name)
    assert decode_result(learned.output or b"null") == {"episode": episode.item_id, "facts": []}


async def test_where_no_run_can_be_started_the_turn_completes_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []

    async def refuse(caller: Caller, request: StartRequest) -> Started:
        refused.append((caller.name, request.agent))
        raise QueueFull("full", retry_after=1)

    assistant = AssistantProgram(ScriptedModel([Says("Good day.")]))
    async with kernel(tmp_path, assistant) as k:
        programs = Registry([assistant])
        k.worker.programs = programs
        add_memory(programs, k.runs, Settings())
        run = await k.start("assistant", {"message": "Hello"})
        monkeypatch.setattr(k.runs, "start", refuse)
        ended = await k.finished(run)

        assert ended.status is Status.COMPLETED
        assert refused == [(CALLER.name, NAME)]
        assert await learning_runs(k) == []


async def test_without_the_setting_nothing_is_learned(tmp_path: Path) -> None:
    assistant = AssistantProgram(ScriptedModel([Says("Good day.")]))
    async with kernel(tmp_path, assistant) as k:
        await turn(k, assistant, Settings(learning=False))

        assert await learning_runs(k) == []
        assert "knowledge_search" in assistant.tools.names()
