"""What a process that was forked has of its parent's clients and ledgers: their settings, and nothing that is at work."""

from __future__ import annotations

import asyncio
import os
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from holdfast.client.workflow import Beginning, FileLedger, SyncWorkflowClient
from tests.support.fake_workflow import fake_server

SECONDS = 20


def fork(work: Callable[[], object]) -> int:
    """The id of a process that does this, and is gone then: with 0, or with 1 if it raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that other threads are at work: it is what is tested
        child = os.fork()
    if child:
        return child
    status = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        work()
        status = 0
    finally:
        os._exit(status)


def test_a_client_serves_a_forked_process_as_it_did_its_parent() -> None:
    def get_current_time(args: dict[str, Any], agent_id: str, task_id: int) -> str:
        return f"noon in {os.getpid()}"

    def work() -> None:
        assert client.run_agent("clock", {"1": "?"}).result == f"noon in {os.getpid()}"
        client.close()

    with fake_server() as fake, SyncWorkflowClient(fake.url) as client:
        client.set_tools({"get_current_time": get_current_time})
        client.run_agent("clock", {"1": "?"})  # its threads are there now

        assert os.waitpid(fork(work), 0)[1] == 0
        assert client.run_agent("clock", {"1": "?"}).result == f"noon in {os.getpid()}"


def test_who_was_forked_does_not_hold_his_parents_calls(tmp_path: Path) -> None:
    """Say a handler's own processes: they may outlive the worker whose call is to be taken by another."""
    readable, writable = os.pipe()
    path = tmp_path / "ledger"

    def die_with_a_call() -> None:
        ledger = FileLedger(path)
        assert asyncio.run(ledger.begin((1, "call"))).beginning is Beginning.FRESH
        child = fork(signal.pause)
        os.write(writable, str(child).encode())

    assert os.waitpid(fork(die_with_a_call), 0)[1] == 0
    left = int(os.read(readable, 100))
    try:
        begun = asyncio.run(FileLedger(path).begin((1, "call")))
    finally:
        os.kill(left, signal.SIGKILL)
        os.close(readable)
        os.close(writable)

    assert begun.beginning is Beginning.AGAIN


def test_a_ledger_that_was_forked_is_another_owner(tmp_path: Path) -> None:
    ledger = FileLedger(tmp_path / "ledger")

    def work() -> None:
        assert asyncio.run(ledger.begin((1, "call"))).beginning is Beginning.BUSY
        assert asyncio.run(ledger.begin((1, "other"))).beginning is Beginning.FRESH
        asyncio.run(ledger.aclose())

    assert asyncio.run(ledger.begin((1, "call"))).beginning is Beginning.FRESH
    assert os.waitpid(fork(work), 0)[1] == 0
    assert asyncio.run(ledger.begin((1, "other"))).beginning is Beginning.AGAIN
    asyncio.run(ledger.aclose())
