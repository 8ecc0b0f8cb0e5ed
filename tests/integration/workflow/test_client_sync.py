"""The sync client: the async one on a loop of its own, method for method."""

# Handlers are called with the keywords args, agent_id and task_id, whether they look at them or not.

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from holdfast.client.workflow import (
    RunResult,
    SyncWorkflowClient,
    WorkflowClient,
    WorkflowConnectionError,
    WorkflowHTTPError,
    WorkflowTimeout,
    sync,
)
from holdfast.client.workflow.namespaces import ExecutionFeedback, ExecutionRecords, Tools, Webhooks
from holdfast.client.workflow.run import WorkflowRun
from tests.support.fake_workflow import FakeServer
from tests.support.server import ServerProcess
from tests.support.tasks import start

PAIRS = {
    WorkflowClient: sync.SyncWorkflowClient,
    WorkflowRun: sync.SyncWorkflowRun,
    Tools: sync.SyncTools,
    ExecutionFeedback: sync.SyncExecutionFeedback,
    ExecutionRecords: sync.SyncExecutionRecords,
    Webhooks: sync.SyncWebhooks,
}


def public(cls: type) -> dict[str, Any]:
    return {name: member for name, member in vars(cls).items() if not name.startswith("_")}


@pytest.mark.parametrize("made", PAIRS, ids=lambda cls: cls.__name__)
def test_each_method_has_its_twin_with_the_same_parameters(made: type) -> None:
    twins = public(PAIRS[made])
    members = public(made)
    if "aclose" in members:
        members["close"] = members.pop("aclose")

    assert set(members) == set(twins)
    for name, member in members.items():
        if inspect.isfunction(member):
            assert not inspect.iscoroutinefunction(twins[name])
            assert inspect.signature(member).parameters == inspect.signature(twins[name]).parameters, name


def test_handlers_of_both_kinds_and_a_whole_run(server: ServerProcess) -> None:
    threads: list[str] = []

    def plain(args: dict[str, Any], agent_id: str, task_id: int) -> str:
        threads.append(threading.current_thread().name)
        return "plain"

    async def coroutine(args: dict[str, Any], agent_id: str, task_id: int) -> str:
        await asyncio.sleep(0)
        threads.append(threading.current_thread().name)
        return "coroutine"

    with SyncWorkflowClient(server.url) as client:
        client.set_api_key("test-key")
        client.set_tools({"find_0": plain, "find_1": coroutine})
        final: RunResult = client.run_agent("rounds", {"1": "1", "2": "2"})
        names = [item.name for item in client.list_workflows()]
        row = client.agent_execution_records.get(final.task_id)

    assert final.result == '[["plain","coroutine"]]'
    assert row.result == final.result
    assert "clock" in names
    assert threads[1] == "holdfast client" or threads[0] == "holdfast client"
    assert not any(thread.name == "holdfast client" for thread in threading.enumerate())


def test_a_timeout_ends_the_waiting_only_and_its_handle_is_a_sync_one(server: ServerProcess) -> None:
    release = threading.Event()

    def slow(args: dict[str, Any], agent_id: str, task_id: int) -> str:
        release.wait(20)
        return "late"

    with SyncWorkflowClient(server.url) as client:
        client.set_api_key("test-key")
        client.set_tools({"get_current_time": slow})
        with pytest.raises(WorkflowTimeout) as caught:
            client.run_agent("clock", response_timeout=0.2)
        release.set()
        run: Any = caught.value.run
        final = run.get_response(timeout=20)
        assert run.get_response() is final

    assert isinstance(run, sync.SyncWorkflowRun)
    assert final.result == "It is late."


def test_attaching_cancelling_and_many_threads_at_one_client(server: ServerProcess) -> None:
    with SyncWorkflowClient(server.url) as client, server.client() as http:
        client.set_api_key("test-key")
        paused = start(http, "clock")
        paused.paused()
        run = client.attach("clock", paused.number)
        assert run.cancel("enough") == "cancelled"
        with ThreadPoolExecutor(8) as pool:
            finals = list(pool.map(lambda index: client.run_agent("say", {"1": str(index)}), range(16)))
        status = run.status()

    assert [final.result for final in finals] == [str(index) for index in range(16)]
    assert status.status == "cancelled"


def test_errors_are_those_of_the_async_client(fake: FakeServer) -> None:
    with SyncWorkflowClient(fake.url) as client:
        fake.key = "right"
        client.set_api_key("wrong")
        with pytest.raises(WorkflowHTTPError):
            client.get_agent_task_status("clock", 1)
    with SyncWorkflowClient("http://127.0.0.1:9") as nobody, pytest.raises(WorkflowConnectionError):
        nobody.get_agent_task_status("clock", 1)


def test_a_sync_client_in_its_own_async_handler_says_so(server: ServerProcess) -> None:
    told: list[str] = []

    with SyncWorkflowClient(server.url) as client:

        async def inside(args: dict[str, Any], agent_id: str, task_id: int) -> str:
            try:
                client.get_agent_task_status(agent_id, task_id)
            except RuntimeError as exc:
                told.append(str(exc))
            return "x"

        client.set_api_key("test-key")
        client.set_tools({"get_current_time": inside})
        client.run_agent("clock")

    assert told == ["a sync client was called on its own event loop: use the async client in async handlers"]
