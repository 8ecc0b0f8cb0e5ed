"""What fulfils capabilities beside functions: HTTP, MCP, the model, the caller."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from holdfast.agents.skill.fetching import Fetcher, FetchFailed, FetchRefused
from holdfast.agents.skill.model import Client, Http, Mcp, Prompt, Python
from holdfast.agents.tools import ToolError
from holdfast.execution.answers import ToolOutput
from holdfast.model import Status
from holdfast.webhooks.guard import Allowed
from tests.support.kernel import CALLER
from tests.support.skills import capability, shown, skill, skilled
from tests.support.until import until


class Site:
    """An HTTP server in a thread that answers as its test says."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answer: Callable[[str], tuple[int, dict[str, str], bytes]] = lambda _: (200, {}, b"{}")
        self.is_released = threading.Event()


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            made.requests.append((self.command, self.path, headers, body))
            if self.path == "/hang":
                made.is_released.wait(30)
            status, own, answer = made.answer(self.path)
            self.send_response(status)
            for name, value in own.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PUT = _do  # noqa: N815

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    made.is_released.set()
    server.shutdown()
    server.server_close()


def calling(id: str = "web", **step: Any) -> Any:
    given = {"id": "a", "uses": id, "input": {"text": "inputs.text"}, "output": {"out": "outputs.out"}, **step}
    return skill("calling", given, inputs="text", outputs="out")


# HTTP


async def test_an_http_capability_sends_its_inputs_and_takes_its_outputs_from_the_answer(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITE_TOKEN", "t0p")
    site.answer = lambda _: (200, {}, b'{"data": {"all": [{"x": 7}]}}')
    bind = Http(
        url=site.url + "/${input.text}?q=${input.text}",
        headers={"Authorization": "Bearer ${env.SITE_TOKEN}"},
        body={"said": "${input.text}", "line": "<${input.text}>", "all": ["${input.none}"]},
        response={"out": "data.all.0.x"},
    )
    web = capability("web", "text:string none", bind=bind)
    plain = capability("plain", "text", bind=Http(url=site.url + "/plain", response={"out": "data"}))
    async with skilled(tmp_path, [calling()], [web, plain]) as running:
        run, events = await running.run("skill:calling", {"text": "a/b c"})
        await running.outputs("capability:plain", {"text": [1]})

    assert events[-1]["output"] == {"out": 7}
    method, path, headers, body = site.requests[0]
    assert (method, path) == ("POST", "/a%2Fb%20c?q=a%2Fb%20c")
    assert json.loads(body) == {"said": "a/b c", "line": "<a/b c>", "all": [None]}
    assert (headers["authorization"], headers["idempotency-key"]) == ("Bearer t0p", f"{run.run_id}/a")
    assert json.loads(site.requests[1][3]) == {"text": [1]}


@pytest.mark.parametrize(
    ("status", "code", "requests"),
    [
        (404, "upstream_failure", 1),
        (429, "upstream_failure", 2),
        (503, "upstream_failure", 2),
        (504, "upstream_timeout", 2),
    ],
)
async def test_what_may_pass_is_asked_again_and_what_will_not_is_not(
    tmp_path: Path, site: Site, status: int, code: str, requests: int
) -> None:
    site.answer = lambda _: (status, {}, b"")
    step = calling(retry={"max_attempts": 2, "backoff_seconds": 0})
    async with skilled(tmp_path, [step], [capability("web", "text", bind=Http(url=site.url))]) as running:
        _, events = await running.run("skill:calling", {"text": "x"})

    assert (events[-1]["code"], len(site.requests)) == (code, requests)
    assert str(status) in events[-1]["error"]


async def test_a_late_answer_is_not_waited_for(tmp_path: Path, site: Site) -> None:
    step = calling(timeout_seconds=0.2)
    async with skilled(tmp_path, [step], [capability("web", "text", bind=Http(url=site.url + "/hang"))]) as running:
        _, events = await running.run("skill:calling", {"text": "x"})

    assert (events[-1]["code"], events[-1]["error"]) == ("step_timeout", "Step 'a': over 0.2 s.")


async def test_a_host_from_an_input_is_guarded_and_one_from_the_file_is_not(tmp_path: Path, site: Site) -> None:
    port = site.url.rpartition(":")[2]
    guarded = capability("web", "text", bind=Http(url="http://${input.text}:" + port + "/x"))
    async with skilled(tmp_path, [calling()], [guarded]) as running:
        _, events = await running.run("skill:calling", {"text": "127.0.0.1"})

    assert (events[-1]["code"], site.requests) == ("safety_denied", [])


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "[::1]", "169.254.169.254", "10.0.0.1", "2130706433", "0x7f.1", "inside.example", "user@a.example"],
)
async def test_guarded_requests_reach_public_addresses_alone(host: str) -> None:
    async def resolve(name: str, port: int) -> Any:
        known = {"inside.example": "192.168.0.7", "2130706433": "127.0.0.1", "0x7f.1": "127.0.0.1"}
        return (
            [ip_address("93.184.216.34"), ip_address(known[name])] if name in known else [ip_address("93.184.216.34")]
        )

    fetcher = Fetcher(resolve=resolve)

    with pytest.raises(FetchRefused):
        await fetcher.fetch("GET", f"http://{host}/")
    await fetcher.close()


async def test_a_redirect_is_guarded_like_a_request_and_keys_stay_where_they_were_given(site: Site) -> None:
    async def resolve(name: str, port: int) -> Any:
        return [ip_address("127.0.0.1")]

    port = int(site.url.rpartition(":")[2])
    fetcher = Fetcher(Allowed(hosts=frozenset({("one.example", port), ("two.example", port)})), resolve=resolve)
    places = {"/a": f"http://two.example:{port}/b", "/c": f"http://inside.example:{port}/d", "/loop": "/loop"}
    site.answer = lambda path: (302, {"location": places[path]}, b"") if path in places else (200, {}, b"ok")
    base = f"http://one.example:{port}"

    answer = await fetcher.fetch("POST", base + "/a", headers={"Authorization": "k", "X-Other": "o"}, body=b"x")
    with pytest.raises(FetchRefused):
        await fetcher.fetch("GET", base + "/c")
    with pytest.raises(FetchFailed, match="redirects more than 5 times"):
        await fetcher.fetch("GET", base + "/loop")
    await fetcher.close()

    assert (answer.status_code, answer.text) == (200, "ok")
    paths = [path for _, path, _, _ in site.requests]
    assert paths == ["/a", "/b", "/c", *["/loop"] * 6]
    method, _, headers, body = site.requests[1]
    assert (method, body, headers.get("authorization"), headers["x-other"]) == ("GET", b"", None, "o")
    assert headers["host"] == f"two.example:{port}"


async def test_an_answer_that_is_too_long_is_not_taken(site: Site) -> None:
    site.answer = lambda _: (200, {}, b"x" * (5 * 1024 * 1024 + 1))
    fetcher = Fetcher()

    with pytest.raises(FetchFailed, match="bytes"):
        await fetcher.fetch("GET", site.url, guarded=False)
    await fetcher.close()


# Others


class FakeMcp:
    def __init__(self) -> None:
        self.calls: list[Any] = []

    async def call_server(self, tenant: str, server: str, tool: str, arguments: dict[str, Any]) -> Any:
        self.calls.append((tenant, server, tool, arguments))
        if arguments["text"] == "bad":
            raise ToolError("tool_failed", "out of paper")
        return {"out": arguments["text"]} if arguments["text"] == "structured" else "text"


async def test_an_mcp_tool_gives_its_structured_content_or_its_text(tmp_path: Path) -> None:
    mcp: Any = FakeMcp()
    web = capability("web", "text none", bind=Mcp(server="printer", tool="print"))
    async with skilled(tmp_path, [calling()], [web], mcp=mcp) as running:
        made = [await running.outputs("skill:calling", {"text": text}) for text in ("structured", "plain")]
        _, events = await running.run("skill:calling", {"text": "bad"})

    assert made == [{"out": "structured"}, {"out": "text"}]
    assert mcp.calls[0] == ("default", "printer", "print", {"text": "structured"})
    assert events[-1]["code"] == "upstream_failure"
    assert "out of paper" in events[-1]["error"]


class FakeGenerator:
    def __init__(self, answer: str) -> None:
        self.answer, self.asked = answer, []  # type: ignore[var-annotated]

    async def generate(self, prompt: str, system: str | None = None, *, say: Any = None) -> str:
        self.asked.append((prompt, system))
        for piece in self.answer.split(" ") if say else ():
            say(piece)
        return self.answer


async def test_a_prompt_is_filled_in_and_its_answer_is_text_or_an_object(tmp_path: Path) -> None:
    text = capability("web", "text", bind=Prompt(template="Say {{text}} and {{ none }}.", system="Be {{text}}"))
    data = capability("data", "text", "a b", bind=Prompt(template="x", json=True))
    said: Any = FakeGenerator("two words")
    async with skilled(tmp_path / "a", [calling(stream=True)], [text], generator=said) as running:
        _, events = await running.run("skill:calling", {"text": "hi"})
    fenced: Any = FakeGenerator('```json\n{"a": 1, "b": [2]}\n```')
    async with skilled(tmp_path / "b", [], [data], generator=fenced) as running:
        made = await running.outputs("capability:data", {"text": "hi"})
    broken: Any = FakeGenerator("no object")
    async with skilled(tmp_path / "c", [], [data], generator=broken) as running:
        _, failed = await running.run("capability:data", {"text": "hi"})

    assert said.asked == [("Say hi and .", "Be hi")]
    assert events[-1]["output"] == {"out": "two words"}
    assert [event["content"] for event in events if event["type"] == "token"] == ["two", "words"]
    assert made == {"a": 1, "b": [2]}
    assert failed[-1]["code"] == "upstream_failure"


async def test_the_caller_executes_a_client_tool_while_the_run_waits(tmp_path: Path) -> None:
    web = capability("web", "text", bind=Client(tool="screen"))
    async with skilled(tmp_path, [calling()], [web]) as running:
        run = await running.start("skill:calling", {"text": "hi"})
        waiting = await running.kernel.waiting(run)
        (interrupt,) = await running.kernel.store.interrupts(run.number)
        call = interrupt.parts[0]
        output = ToolOutput(tool_call_id=call.tool_call_id, output='{"out": 5}')
        await running.kernel.runs.answer(CALLER, run.run_id, [output], interrupt_id=interrupt.interrupt_id)
        events = await running.kernel.events(run)

    assert (waiting.status, call.tool, json.loads(call.input)) == (Status.WAITING, "screen", {"text": "hi"})
    assert events[-1]["output"] == {"out": 5}
    assert shown(events)[1:-2] == [
        "step_started a",
        "tool_call a",
        "interrupt a",
        "tool_result a",
        "interrupt_resolved a",
        "step_completed a",
    ]


async def test_a_python_function_is_found_by_its_name_and_its_absence_is_told(tmp_path: Path) -> None:
    dumps = capability("web", "obj", bind=Python(function="json:dumps"))
    missing = capability("gone", "", bind=Python(function="json:nothing"))
    async with skilled(tmp_path, [], [dumps, missing]) as running:
        made = await running.outputs("capability:web", {"obj": [1]})
        _, events = await running.run("capability:gone")

    assert made == {"out": "[1]"}
    assert events[-1]["code"] == "invalid_configuration"


async def test_a_cancelled_run_waits_for_no_answer(tmp_path: Path, site: Site) -> None:
    web = capability("web", "text", bind=Http(url=site.url + "/hang"))
    async with skilled(tmp_path, [calling()], [web]) as running:
        run = await running.start("skill:calling", {"text": "x"})
        await until(lambda: site.requests)
        await running.kernel.runs.cancel(CALLER, run.run_id)
        events = await running.kernel.events(run)

    assert shown(events)[-2:] == ["step_failed a", "cancelled"]


async def test_a_model_is_asked_for_text_whole_and_in_pieces() -> None:
    from pydantic_ai.models.test import TestModel

    from holdfast.agents.skill.model_asking import asker

    ask, pieces = asker(TestModel(custom_output_text="some words here")), []  # type: ignore[var-annotated]

    whole = await ask("prompt", "system", None)
    streamed = await ask("prompt", None, pieces.append)

    assert whole == streamed == "".join(pieces) == "some words here"
    assert len(pieces) > 1
