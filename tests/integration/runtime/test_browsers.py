"""What users have in pages, in a real browser: EventSource, fetch and WebSocket, each cut off and going on."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection

from tests.integration.engine.proxy import cutting
from tests.integration.runtime.test_documented_clients import DOCUMENTED, documented, needs_documented
from tests.support.browser import Page, needs_chromium, open_page, running_browser
from tests.support.server import KEY, ServerProcess, running_server

pytestmark = [needs_chromium, pytest.mark.slow, pytest.mark.one_store]

EXAMPLES = Path(__file__).parents[3] / "examples" / "runtime"
PRINTED_RUN = "550e8400-e29b-41d4-a716-446655440000"

# With the habits of the documented page: closes itself at the end and at every error, and writes to a terminal.
LIKE_PRINTED = f"""
const runId = '{PRINTED_RUN}';
const eventSource = new EventSource(`/runs/${{runId}}/events`);
eventSource.addEventListener('token', (e) => process.stdout.write(JSON.parse(e.data).content));
eventSource.addEventListener('complete', (e) => {{
  console.log('\\nDone:', JSON.parse(e.data).output);
  eventSource.close();
}});
eventSource.addEventListener('error', (e) => {{
  console.error('Error:', e.data);
  eventSource.close();
}});
"""
TERMINAL = """
globalThis.written = ''; globalThis.logged = []; globalThis.wrong = [];
globalThis.process = { stdout: { write: (text) => { written += text; } } };
console.log = (...all) => logged.push(all);
console.error = (...all) => wrong.push(all);
"""
TOKEN = """
fetch('/runs/{run_id}/stream-token', {{
  method: 'POST', headers: {{ 'X-API-Key': '{key}', 'Content-Type': 'application/json' }}, body: '{{"cookie":true}}'
}}).then((reply) => reply.status)
"""
# An EventSource that never closes itself.
OPEN_END = """
globalThis.seen = [];
globalThis.source = new EventSource('{url}');
for (const type of ['started', 'token', 'complete'])
  source.addEventListener(type, (event) => seen.push(JSON.parse(event.data).sequence));
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[ClientConnection]:
    with running_browser() as connection:
        yield connection


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that asks for no key."""
    with running_server(tmp_path_factory.mktemp("open"), key=None, environment={"HOLDFAST_NO_AUTH": "true"}) as process:
        yield process


@pytest.fixture(scope="module")
def other_origin() -> Iterator[str]:
    """A page of another origin, with nothing in it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>elsewhere</title>")

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def printed_or_like_it(kind: str) -> str:
    return (DOCUMENTED / "runtime_eventsource.js").read_text() if kind == "documented" else LIKE_PRINTED


def assert_read_to_the_end(page: Page) -> None:
    page.until("logged.length + wrong.length")
    assert page.run("written") == "Quantum"
    assert page.run("logged") == [["\nDone:", {"answer": 42}]]
    assert page.run("wrong") == []
    assert page.run("eventSource.readyState") == 2


@pytest.mark.parametrize("kind", ["ours", pytest.param("documented", marks=needs_documented)])
@pytest.mark.parametrize("way", ["open", "cookie"])
def test_the_printed_event_source_reads_its_run(
    browser: ClientConnection, server: ServerProcess, open_server: ServerProcess, kind: str, way: str
) -> None:
    target = open_server if way == "open" else server
    with target.client(None if way == "open" else KEY) as client:
        # The printed page has one run id; whoever was first with it started the run.
        reply = client.post(
            f"/agents/say/invoke?run_id={PRINTED_RUN}", json={"texts": ["Quan", "tum"], "output": {"answer": 42}}
        )
        assert reply.status_code in (200, 409)
    with open_page(browser, f"{target.url}/health") as page:
        page.run(TERMINAL)
        if way == "cookie":
            assert page.run(TOKEN.format(run_id=PRINTED_RUN, key=KEY)) == 201
        page.run(printed_or_like_it(kind))
        assert_read_to_the_end(page)


def test_without_a_token_the_event_source_is_refused_for_good(
    browser: ClientConnection, server: ServerProcess, client: httpx.Client
) -> None:
    client.post("/agents/say/invoke?run_id=refused", json={"texts": []})
    with open_page(browser, f"{server.url}/health") as page:
        page.run(OPEN_END.format(url="/runs/refused/events"))
        page.until("source.readyState === EventSource.CLOSED")
        assert page.answers[-1] == ("/runs/refused/events", 401)
        assert page.run("seen") == []


def test_an_event_source_that_does_not_close_itself_comes_back_once(
    browser: ClientConnection, server: ServerProcess, client: httpx.Client
) -> None:
    run_id = client.post("/agents/say/runs", json={"texts": ["a", "b"]}).json()["run_id"]
    url = client.post(f"/runs/{run_id}/stream-token", json={}).json()["events_url"]
    with open_page(browser, f"{server.url}/health") as page:
        page.run(OPEN_END.format(url=url))
        # An EventSource that was answered 204 is closed, and a closed one never calls again.
        page.until("source.readyState === EventSource.CLOSED")
        assert page.run("seen") == [0, 1, 2, 3]
        assert [answer for answer in page.answers if "/events" in answer[0]] == [(url, 200), (url, 204)]


def test_an_event_source_that_is_cut_goes_on_behind_its_last_event(
    browser: ClientConnection, server: ServerProcess, client: httpx.Client
) -> None:
    run_id = client.post("/agents/count/runs", json={"n": 15}).json()["run_id"]
    url = client.post(f"/runs/{run_id}/stream-token", json={}).json()["events_url"]
    with cutting(server.port, 6) as proxy, open_page(browser, f"{proxy.url}/health") as page:
        page.run((EXAMPLES / "eventsource.js").read_text())
        page.run("globalThis.seen = []")
        last = page.run(f"followRun('{url}', (event) => seen.push(event.sequence))")
        assert page.run("seen") == list(range(1, 16))
        assert last["sequence"] == 16
        statuses = [status for path, status in page.answers if "/events" in path]
        assert statuses == [200] * len(statuses)
        assert len(statuses) >= 3


LIKE_PRINTED_FETCH = """
async function streamInvoke(payload) {
  const response = await fetch('http://localhost:8080/invoke/stream', {
    method: 'POST', headers: { 'Content-Type': 'application/json', 'X-API-Key': 'your-key' }, body: JSON.stringify(payload)
  });
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let buffer = '';
  while (true) {
    const { done, value } = await reader.read();
    if (done) break;
    buffer += decoder.decode(value, { stream: true });
    const lines = buffer.split('\\n');
    buffer = lines.pop();
    for (const line of lines)
      if (line.startsWith('data: ')) {
        const event = JSON.parse(line.slice(6));
        if (['complete', 'error', 'cancelled'].includes(event.type)) return event;
      }
  }
}
streamInvoke({ query: 'explain quantum computing' });
"""


@pytest.mark.parametrize("kind", ["ours", pytest.param("documented", marks=needs_documented)])
def test_the_printed_fetch_reader_works_in_a_page_of_another_origin(
    browser: ClientConnection, server: ServerProcess, other_origin: str, kind: str
) -> None:
    ours = LIKE_PRINTED_FETCH.replace("http://localhost:8080", server.url).replace("your-key", KEY)
    script = documented("runtime_stream_fetch.js", server.url) if kind == "documented" else ours
    with open_page(browser, other_origin) as page:
        event = page.run(script)

    assert (event["type"], event["output"]) == ("complete", {"answer": "Quan"})


def test_a_page_reads_the_headers_that_are_exposed_and_has_no_credentials(
    browser: ClientConnection, server: ServerProcess, other_origin: str
) -> None:
    call = f"""fetch('{server.url}/runs', {{
      method: 'POST', credentials: 'CREDENTIALS', body: '{{}}',
      headers: {{ 'X-API-Key': '{KEY}', 'Content-Type': 'application/json', 'Idempotency-Key': 'page' }}
    }}).then((reply) => [reply.headers.get('X-Run-Id'), reply.headers.get('Location')], (error) => error.name)"""
    with open_page(browser, other_origin) as page:
        run_id, location = page.run(call.replace("CREDENTIALS", "omit"))
        assert location == f"/runs/{run_id}"
        assert page.run(call.replace("CREDENTIALS", "include")) == "TypeError"


@pytest.mark.parametrize("way", ["message", "token"])
def test_a_page_follows_and_answers_over_a_web_socket(
    browser: ClientConnection, server: ServerProcess, client: httpx.Client, other_origin: str, way: str
) -> None:
    run_id = client.post("/agents/ask/runs", json={"choices": ["yes", "no"]}).json()["run_id"]
    token = client.post(f"/runs/{run_id}/stream-token", json={}).json()["token"]
    url = f"{server.url.replace('http', 'ws', 1)}/runs/{run_id}/ws"
    first = f"{{type: 'auth', api_key: '{KEY}'}}" if way == "message" else "null"
    with open_page(browser, other_origin) as page:
        page.run((EXAMPLES / "websocket.js").read_text())
        page.run(
            "globalThis.seen = []; globalThis.ended = null;"
            f"followRun('{url}{'' if way == 'message' else '?token=' + token}', {first}, (event, say) => {{"
            " seen.push(event.type);"
            " if (event.type === 'interrupt') say({type: 'answer', interrupt_id: event.interrupt_id, answer: 'yes'});"
            "}).then((from) => { ended = from; }); 0"
        )
        page.until("seen.includes('interrupt')")
        if way == "token":  # it may not answer
            interrupt_id = client.get(f"/runs/{run_id}/interrupts").json()["interrupts"][0]["interrupt_id"]
            client.post(f"/runs/{run_id}/interrupts/{interrupt_id}", json={"answer": "yes"})
        page.until("ended !== null")
        seen = page.run("seen")

    assert seen == ["started", "interrupt", "interrupt_resolved", "complete"]


def test_a_page_of_another_origin_is_not_let_in_by_the_cookie(
    browser: ClientConnection, server: ServerProcess, client: httpx.Client, other_origin: str
) -> None:
    """Another port is the same site, so the browser sends the cookie; `*` must not make it count."""
    client.post("/agents/say/invoke?run_id=guarded", json={"texts": []})
    url = f"{server.url.replace('http', 'ws', 1)}/runs/guarded/ws"
    opened = (
        f"new Promise((resolve) => {{ const socket = new WebSocket('{url}');"
        " socket.onmessage = ({data}) => resolve(JSON.parse(data).type);"
        " socket.onopen = () => socket.send(JSON.stringify({type: 'subscribe'}));"
        " socket.onclose = ({code}) => resolve(code); })"
    )
    with open_page(browser, f"{server.url}/health") as page:
        assert page.run(TOKEN.format(run_id="guarded", key=KEY)) == 201
        assert page.run(opened) == "hello"
        page.call("Page.navigate", url=other_origin)
        page.until("document.title === 'elsewhere'")
        assert page.run(opened) == 4401


def test_a_page_goes_on_after_the_server_was_killed(
    browser: ClientConnection, tmp_path: Path, other_origin: str
) -> None:
    gate = tmp_path / "gate"
    with running_server(tmp_path / "data") as server, server.client() as client:
        client.post("/agents/gated/runs?run_id=one", json={"gate": str(gate)})
        url = f"{server.url.replace('http', 'ws', 1)}/runs/one/ws"
        with open_page(browser, other_origin) as page:
            page.run((EXAMPLES / "websocket.js").read_text())
            page.run(
                "globalThis.seen = []; globalThis.ended = null;"
                f"followRun('{url}', {{type: 'auth', api_key: '{KEY}'}}, (event) => seen.push(event.sequence))"
                ".then((from) => { ended = from; }); 0"
            )
            page.until("seen.length === 2")
            server.kill()
            gate.touch()
            with running_server(tmp_path / "data", environment={"HOLDFAST_PORT": str(server.port)}) as again:
                assert page.until("ended") == 6
                seen = page.run("seen")
                with again.client() as reader:
                    tail = reader.get("/runs/one").json()["tail_sequence"]

    assert seen == list(range(tail + 1))
