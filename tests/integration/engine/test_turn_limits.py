"""
Check 25 from the first refusal to the end, and what bounds a turn: one server whose model and whose fallback are of two
providers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.engine.support import AGENTS, Engine
from tests.integration.engine.test_providers import last, named
from tests.support.providers import Fault, Provider, Reply, provider
from tests.support.server import ServerProcess, running_server

pytestmark = pytest.mark.one_store("what a provider says does not depend on the store")

BUSY = Fault(429, "rate_limit_error", "slow down", retry_after="0")


@pytest.fixture(scope="module")
def main() -> Iterator[Provider]:
    with provider("anthropic") as made:
        yield made


@pytest.fixture(scope="module")
def backup() -> Iterator[Provider]:
    with provider("openai-responses") as made:
        yield made


@pytest.fixture(scope="module")
def server(main: Provider, backup: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    environment = {
        **main.settings,
        "FALLBACK_MODEL": "openai-responses:backup",
        "OPENAI_API_KEY": "backup-key",
        "OPENAI_BASE_URL": backup.url,
        "HOLDFAST_LEARNING": "false",
        "HOLDFAST_TURN_TOKENS_MAX": "3000",
        "HOLDFAST_ITERATIONS_MAX": "3",
        "MAX_TOKENS": "77",
    }
    with running_server(tmp_path_factory.mktemp("limits"), agents=None, environment=environment) as process:
        yield process


@pytest.fixture
def talk(server: ServerProcess) -> Iterator[Engine]:
    with server.client(timeout=60) as client:
        yield Engine(client)


def test_after_five_refusals_the_fallback_answers(main: Provider, backup: Provider, talk: Engine, task_id: str) -> None:
    main.reset(*[BUSY] * 5)
    backup.reset(Reply("Here I am."))

    found = talk.execute("Hello.", task_id)

    assert last(found)["output"] == "Here I am."
    assert [item["data"]["attempt"] for item in named(found, "provider_retry")] == [1, 2, 3, 4, 5]
    assert (len(main.requests), len(backup.requests)) == (5, 1)
    assert (main.requests[0]["max_tokens"], backup.requests[0]["max_output_tokens"]) == (77, 77)
    assert backup.requests[0]["model"] == "backup"


def test_what_was_said_before_the_fallback_is_void(
    main: Provider, backup: Provider, talk: Engine, task_id: str
) -> None:
    main.reset(Reply("Half of an answer", cut=True), *[BUSY] * 4)
    backup.reset(Reply("The whole answer."))

    found = talk.execute("Hello.", task_id)

    (restarted,) = named(found, "restarted")
    void = range(restarted["discard_from"], restarted["sequence"])
    kept = "".join(frame.data["text"] for frame in found if "text" in frame.data and frame.data["sequence"] not in void)
    assert kept == last(found)["output"] == "The whole answer."


def test_when_the_fallback_fails_too_the_turn_ends_with_its_code(
    main: Provider, backup: Provider, talk: Engine, task_id: str
) -> None:
    main.reset(Fault(401, "authentication_error", "no such key"))
    backup.reset(*[Fault(429, "rate_limit_error", "slow down", retry_after="0")] * 4, Fault(429, retry_after="400"))

    found = talk.execute("Hello.", task_id)

    assert (last(found)["phase"], last(found)["error"]) == ("errored", "LLM_RATE_LIMITED")
    assert found[-2].data["details"] == {"retry_after": 400}
    assert (len(main.requests), len(backup.requests)) == (1, 5)


def test_providers_that_do_not_answer_in_time_are_told(
    main: Provider, backup: Provider, talk: Engine, task_id: str
) -> None:
    main.reset(*[Fault(504, "timeout_error", "took too long", retry_after="0")] * 5)
    backup.reset(*[Fault(408, "timeout_error", "took too long", retry_after="0")] * 5)

    found = talk.execute("Hello.", task_id)

    assert (last(found)["phase"], last(found)["error"]) == ("errored", "LLM_TIMEOUT")
    assert (len(main.requests), len(backup.requests)) == (5, 5)


def test_a_turn_ends_after_so_many_requests(main: Provider, backup: Provider, talk: Engine, task_id: str) -> None:
    main.reset(*(Reply("Hm.", calls=[(f"c{number}", "sum", {"numbers": [1]})]) for number in range(5)))

    found = talk.execute("Go on.", task_id)

    assert (last(found)["phase"], last(found)["stop_reason"]) == ("completed", "max_iterations")
    assert len(main.requests) == 3


def test_a_turn_ends_after_so_many_tokens(main: Provider, talk: Engine, task_id: str) -> None:
    main.reset(
        Reply("Hm.", calls=[("c1", "sum", {"numbers": [1]})], input_tokens=1500),
        Reply("Hm.", calls=[("c2", "sum", {"numbers": [1]})], input_tokens=1500),
    )

    found = talk.execute("Go on.", task_id)

    assert (last(found)["phase"], last(found)["error"]) == ("errored", "BUDGET_EXCEEDED")
    assert found[-2].data["details"]["limit"] == 3000
    assert len(main.requests) == 2


def test_a_turn_ends_after_so_many_seconds(tmp_path: Path, task_id: str) -> None:
    environment = {"HOLDFAST_TURN_SECONDS_MAX": "1"}
    with running_server(tmp_path, agents=AGENTS, environment=environment) as process, process.client() as client:
        found = Engine(client).execute("Go on.", task_id, agent="stuck")

    assert (last(found)["phase"], last(found)["error"]) == ("errored", "TURN_TIMEOUT")
    assert last(found)["timestamp"] - found[0].data["timestamp"] >= 1000
