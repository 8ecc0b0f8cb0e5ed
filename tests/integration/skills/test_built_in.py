"""What is built in, executed: the sample skills, and the capabilities that ask others."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from holdfast.agents.skill.builtin import builtins
from holdfast.agents.skill.fetching import Fetched, Fetcher, FetchFailed, FetchLate, FetchRefused
from holdfast.agents.skill.generating import Generator
from holdfast.agents.skill.library import Library
from holdfast.model import Status
from tests.support.kernel import CALLER
from tests.support.skills import Skilled, shown, skilled


class Web(Fetcher):
    """Answers as its test says, and keeps what it was asked."""

    def __init__(self, answer: Callable[[], Fetched] = lambda: Fetched(200, {"a": "b"}, b"page")) -> None:
        super().__init__()
        self.answer = answer
        self.requests: list[tuple[str, str, Mapping[str, str], bytes | None, bool]] = []

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        guarded: bool = True,
    ) -> Fetched:
        self.requests.append((method, url, dict(headers or {}), body, guarded))
        return self.answer()


class Says(Generator):
    async def generate(
        self, prompt: str, system: str | None = None, *, say: Callable[[str], None] | None = None
    ) -> str:
        if say is not None:
            say("said ")
            say("aloud")
        return f"{system}: {prompt}"


@contextlib.asynccontextmanager
async def built_in(directory: Path, web: Fetcher | None = None, *, skill: str = "") -> AsyncIterator[Skilled]:
    """A kernel with all that is built in, and with one more skill."""
    if skill:
        (directory / "skills").mkdir(parents=True)
        (directory / "skills/own.skill.yaml").write_text(skill)
    library = Library([directory])
    library.refresh()
    assert library.problems() == []
    functions = dict(builtins(web or Web(), Says()))
    async with skilled(directory / "data", library.skills(), library.capabilities(), functions) as running:
        yield running


async def test_the_first_skill_gives_a_short_text_back_as_it_is(tmp_path: Path) -> None:
    text = "Hello\u0085wo\u2028rld, ä\n"
    async with built_in(tmp_path) as running:
        assert await running.outputs("skill:my.skill", {"text": text}) == {"result": text}


async def test_a_briefing_is_written_with_and_without_a_guide(tmp_path: Path) -> None:
    web = Web()
    async with built_in(tmp_path, web) as running:
        plain = await running.outputs("skill:news.briefing", {"articles": ["Ships sail.", "Rain falls."]})
        guided = await running.outputs(
            "skill:news.briefing", {"articles": [], "guide_url": "http://x", "audience": "us"}
        )

    assert plain == {
        "briefing": "For everyone. Ships sail.\n\nRain falls. ",
        "keywords": ["ships", "sail", "rain", "falls"],
    }
    assert guided == {"briefing": "For us.  page", "keywords": []}
    assert [request[:2] for request in web.requests] == [("GET", "http://x")]


async def test_a_briefing_with_an_address_in_it_is_withheld(tmp_path: Path) -> None:
    async with built_in(tmp_path) as running:
        run, events = await running.run("skill:news.briefing", {"articles": ["Ask jane@example.com"]})

    assert (run.status, events[-1]["code"]) == (Status.FAILED, "safety_denied")
    assert "e-mail" in events[-1]["error"]


async def test_a_briefing_is_published_once_somebody_agreed(tmp_path: Path) -> None:
    web = Web(lambda: Fetched(201, {}, b""))
    async with built_in(tmp_path, web) as running:
        run = await running.start("skill:news.publish", {"articles": ["Ships sail."], "hook": "http://hook"})
        waiting = await running.kernel.runs.wait(CALLER, run.run_id, timeout=30)
        assert (waiting.status, web.requests) == (Status.WAITING, [])
        await running.kernel.runs.answer(CALLER, run.run_id, True)
        events = await running.kernel.events(run)

    assert events[-1]["output"] == {"status_code": 201}
    ((method, url, headers, body, is_guarded),) = web.requests
    assert (method, url, is_guarded) == ("POST", "http://hook", True)
    assert body == b'{"text":"For everyone. Ships sail. "}'
    assert headers["content-type"] == "application/json"
    assert headers["idempotency-key"] == f"{run.run_id}/post"


FETCH = """
id: own.fetch
version: 1.0.0
name: Fetch
description: For a test.
inputs: {url: {type: string, required: true}, more: {type: object, default: {}}}
outputs: {text: {type: string}}
steps:
  - id: get
    uses: http.fetch
    input: {url: inputs.url, method: inputs.more.method, headers: inputs.more.headers}
    output: {text: outputs.text}
    config: {retry: {max_attempts: 2, backoff_seconds: 0}}
"""


def raising(error: Exception) -> Callable[[], Fetched]:
    def answer() -> Fetched:
        raise error

    return answer


@pytest.mark.parametrize(
    ("answer", "code", "requests"),
    [
        (raising(FetchRefused("x is no public address", is_final=True)), "safety_denied", 1),
        (raising(FetchLate("x did not answer in time")), "upstream_timeout", 2),
        (raising(FetchFailed("x cannot be reached")), "upstream_failure", 2),
        (raising(FetchFailed("too long", is_final=True)), "upstream_failure", 1),
        (lambda: Fetched(404, {}, b""), "upstream_failure", 1),
        (lambda: Fetched(429, {}, b""), "upstream_failure", 2),
        (lambda: Fetched(504, {}, b""), "upstream_timeout", 2),
    ],
)
async def test_what_a_request_comes_to_is_what_its_step_comes_to(
    tmp_path: Path, answer: Callable[[], Fetched], code: str, requests: int
) -> None:
    web = Web(answer)
    async with built_in(tmp_path, web, skill=FETCH) as running:
        _, events = await running.run("skill:own.fetch", {"url": "http://x"})

    assert (events[-1]["code"], len(web.requests)) == (code, requests)


@pytest.mark.parametrize("more", [{"method": "FETCH"}, {"headers": {"x": []}}])
async def test_a_request_that_cannot_be_is_not_sent(tmp_path: Path, more: dict[str, Any]) -> None:
    web = Web()
    async with built_in(tmp_path, web, skill=FETCH) as running:
        _, events = await running.run("skill:own.fetch", {"url": "http://x", "more": more})

    assert (events[-1]["code"], web.requests) == ("upstream_failure", [])


async def test_this_machine_is_not_reached_unless_it_is_allowed(tmp_path: Path) -> None:
    async with built_in(tmp_path, Fetcher(), skill=FETCH) as running:
        _, events = await running.run("skill:own.fetch", {"url": "http://127.0.0.1:1/"})

    assert events[-1]["code"] == "safety_denied"


async def test_the_model_is_asked_and_heard_while_it_speaks(tmp_path: Path) -> None:
    skill = FETCH.replace("http.fetch", "model.generate").replace("own.fetch", "own.ask")
    lines = skill.splitlines()
    lines[-3:] = [
        "    input: {prompt: inputs.url, system: be brief}",
        "    output: {text: outputs.text}",
        "    config: {stream: true}",
    ]
    async with built_in(tmp_path, skill="\n".join(lines)) as running:
        run, events = await running.run("skill:own.ask", {"url": "why?"})

    assert run.status is Status.COMPLETED
    assert events[-1]["output"] == {"text": "be brief: why?"}
    assert "".join(event["content"] for event in events if event["type"] == "token") == "said aloud"
    assert shown(events)[-1] == "complete"
