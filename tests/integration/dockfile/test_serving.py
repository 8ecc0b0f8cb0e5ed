"""`holdfast serve Dockfile.yaml` as a process: what the file says is what callers meet."""

from __future__ import annotations

import http.server
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.integration.cli.commands import Server, holdfast, serving, until

pytestmark = pytest.mark.slow

SERVICE = Path(__file__).with_name("service.py")
JSON = {"content-type": "application/json"}

KEYS = """\
version: "1.0"
agent: {name: tutor, handler: "service:handle", description: "${ABOUT:-teaches}"}
io_schema:
  input: {type: object, properties: {query: {type: string}}, required: [query]}
  strict: true
expose: {streaming: none, host: 127.0.0.1, cors: {origins: ["https://app.test"], methods: [POST]}}
auth:
  api_keys: {header: X-Tutor-Key, allow_bearer: false, rotation_days: 30}
  roles:
    - {name: user, permissions: [invoke]}
    - {name: viewer, permissions: [view_metrics]}
    - {name: admin, permissions: [invoke, read_docs, view_metrics]}
  rate_limits: {user: 2/day, admin: 1000/minute}
streaming:
  async_runs: false
  id_generator: {type: custom, handler: "service:next_id"}
  allow_client_ids: false
secrets:
  optional: [{name: GREETING, default: hello}]
observability:
  metrics: {tokens: false}
  langfuse: {public_key: pk, secret_key: sk, host: "${LANGFUSE_HOST}"}
metadata: {version: "3.1", tags: [a]}
holdfast: {public_pages: off}
"""

TOKENS = """\
version: "1.0"
agent: {{name: {name}, handler: "{handler}"}}
io_schema: {{}}
expose: {{rest: false, host: 127.0.0.1}}
auth:
  mode: jwt
  jwt:
    jwks_url: ${{ISSUER}}
    audience: tutor
    claims: {{tenant_id: org.id, roles: realm.roles}}
  roles:
    - {{name: user, permissions: [invoke]}}
"""


class Recorder:
    """A local server that answers GET with a document and keeps what was posted."""

    def __init__(self, document: Any = None) -> None:
        self.document = document
        self.posts: list[tuple[str, str, bytes]] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(msgspec.json.encode(outer.document))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.posts.append((self.path, self.headers["authorization"], body))
                self._answer(b"")

            def _answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: a test's output is its own."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def project(folder: Path, text: str, *, module: str = "service") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(SERVICE, folder / f"{module}.py")
    (folder / "Dockfile.yaml").write_text(text)
    return folder / "Dockfile.yaml"


@pytest.fixture(scope="module")
def langfuse() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.close()


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory, langfuse: Recorder) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("keyed")
    file = project(folder, KEYS)
    (folder / ".env").write_text(
        f"HOLDFAST_API_KEY=main\nHOLDFAST_API_KEY_USER='u1, u2'\nABOUT=file\nLANGFUSE_HOST={langfuse.url}\n"
    )
    (folder / "env.yaml").write_text("HOLDFAST_API_KEY: lower\nHOLDFAST_API_KEY_VIEWER: v\n")
    with serving(folder, target=file, HOLDFAST_KEYS="", ABOUT="shell") as server:
        yield server


def call(server: Server, path: str = "/invoke", key: str | None = "main", **more: Any) -> httpx.Response:
    headers = {} if key is None else {"X-Tutor-Key": key}
    method = more.pop("method", "POST" if path.startswith("/invoke") else "GET")
    if method == "POST" and not {"json", "content"} & more.keys():
        more["json"] = {"query": "q"}
    headers |= more.pop("headers", {})
    return httpx.request(method, server.url + path, headers=headers, timeout=40, trust_env=False, **more)


def test_keys_come_from_the_variables_that_the_file_names_and_higher_layers_win(keyed: Server) -> None:
    assert call(keyed).json()["output"] == {"greeting": "hello", "query": "q", "extra": None}
    assert call(keyed, key="lower").json()["reason"] == "invalid_credentials"
    assert call(keyed, headers={"authorization": "Bearer main"}, key=None).json()["reason"] == "missing_credentials"
    assert call(keyed, headers={"x-api-key": "main"}, key=None).status_code == 200


def test_the_first_call_without_a_key_is_told_the_header(keyed: Server) -> None:
    refused = call(keyed, key=None)

    assert refused.status_code == 401
    assert "X-Tutor-Key" in refused.json()["detail"]
    assert refused.headers["www-authenticate"]


def test_a_role_without_invoke_may_call_nothing_of_runs_but_its_page(keyed: Server) -> None:
    refused = call(keyed, key="v")

    assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")
    assert call(keyed, "/runs/x", key="v").status_code == 403
    assert call(keyed, "/metrics", key="v").status_code == 200
    assert call(keyed, "/docs", key="v").status_code == 403
    assert call(keyed, "/metrics", key=None).status_code == 401
    assert call(keyed, "/openapi.json").status_code == 200
    assert call(keyed, "/health", key=None).status_code == 200


def test_a_caller_starts_so_many_runs_and_then_429_before_anything_is_read(keyed: Server) -> None:
    statuses = [call(keyed, key="u1").status_code for _ in range(3)]
    unread = call(keyed, key="u1", content=b"{", headers={"content-type": "text/plain"})

    assert statuses == [200, 200, 429]
    assert unread.status_code == 429
    assert unread.json()["code"] == "RATE_LIMIT_EXCEEDED"
    assert 0 < int(unread.headers["retry-after"]) <= 86400
    assert call(keyed, key="u2").status_code == 200
    assert call(keyed).status_code == 200


def test_calls_that_are_switched_off_name_the_key_that_does_it(keyed: Server) -> None:
    stream = call(keyed, "/invoke/stream")
    off = {
        "/invoke/stream": stream,
        "/runs": call(keyed, "/runs"),
        "/agents/tutor/runs": call(keyed, "/agents/tutor/runs", method="POST"),
        "/runs/own-1/events": call(keyed, "/runs/own-1/events"),
    }

    found = {path: (reply.status_code, reply.json()["code"], reply.json()["key"]) for path, reply in off.items()}
    assert found == {
        "/invoke/stream": (404, "NOT_ENABLED", "expose.streaming"),
        "/runs": (404, "NOT_ENABLED", "streaming.async_runs"),
        "/agents/tutor/runs": (404, "NOT_ENABLED", "streaming.async_runs"),
        "/runs/own-1/events": (404, "NOT_ENABLED", "expose.streaming"),
    }
    assert call(keyed, "/runs/own-1").status_code == 200
    assert "/invoke/stream" not in call(keyed, "/openapi.json").json()["paths"]
    assert call(keyed, "/invoke/stream", key=None).status_code == 401  # nobody learns it without a key


def test_ids_of_runs_are_the_files_own_and_callers_may_give_none(keyed: Server) -> None:
    assert call(keyed).headers["x-run-id"].startswith("own-")
    assert call(keyed, params={"run_id": "mine"}).status_code == 422


def test_input_is_held_against_the_declared_schema(keyed: Server) -> None:
    assert call(keyed, json={"query": 5}).json()["errors"][0]["pointer"] == "/query"
    assert call(keyed, json={"query": "q", "extra": 1}).status_code == 422


def test_what_the_file_says_of_the_agent_is_shown(keyed: Server) -> None:
    info = call(keyed, "/info", key=None).json()

    assert (info["version"], info["metadata"], info["rotation_days"]) == ("3.1", {"version": "3.1", "tags": ["a"]}, 30)
    assert (info["agent"]["description"], info["agent"]["handler"]) == ("shell", "service:handle")
    assert call(keyed, "/schema", key=None).json()["input_schema"]["required"] == ["query"]


def test_pages_of_the_listed_origin_may_call_with_the_listed_methods(keyed: Server) -> None:
    asked = {"origin": "https://app.test", "access-control-request-method": "POST"}
    preflight = call(keyed, method="OPTIONS", headers=asked, key=None)

    assert preflight.headers["access-control-allow-methods"] == "POST"
    assert call(keyed, headers={"origin": "https://evil.test"}).status_code == 403


def test_metrics_that_are_switched_off_are_not_shown(keyed: Server) -> None:
    text = call(keyed, "/metrics").text

    assert "holdfast_tokens_total" not in text
    assert "holdfast_requests_total" in text
    assert "holdfast_request_latency_seconds" in text


def test_spans_arrive_at_langfuse_with_its_keys(keyed: Server, langfuse: Recorder) -> None:
    call(keyed)

    until(lambda: any(b"step look" in body for _, _, body in langfuse.posts), lambda: keyed.stderr)
    path, authorization, _ = langfuse.posts[0]
    assert path == "/api/public/otel/v1/traces"
    assert authorization == "Basic cGs6c2s="


# Tokens


ISSUER_KEY = rsa.generate_private_key(65537, 2048)


def key_set(*kids: str) -> dict[str, Any]:
    public: Any = jwt.get_algorithm_by_name("RS256").to_jwk(ISSUER_KEY.public_key(), as_dict=True)
    return {"keys": [{**public, "kid": kid, "use": "sig", "alg": "RS256"} for kid in kids]}


def token(user: str = "ada", org: str = "acme", *, kid: str = "k1", **claims: Any) -> str:
    given = {
        "sub": user,
        "aud": "tutor",
        "exp": time.time() + 600,
        "org": {"id": org},
        "realm": {"roles": ["user"]},
        **claims,
    }
    return jwt.encode(given, ISSUER_KEY, "RS256", headers={"kid": kid})


@pytest.fixture(scope="module")
def issuer() -> Iterator[Recorder]:
    recorder = Recorder(key_set("k1"))
    yield recorder
    recorder.close()


@pytest.fixture(scope="module")
def tokened(tmp_path_factory: pytest.TempPathFactory, issuer: Recorder) -> Iterator[Server]:
    """Two Dockfiles as one server."""
    folder = tmp_path_factory.mktemp("tokened")
    one = project(folder / "a", TOKENS.format(name="one", handler="service:handle"))
    two = project(folder / "b", TOKENS.format(name="two", handler="service_b:other"), module="service_b")
    with serving(folder, two, target=one, HOLDFAST_KEYS="", ISSUER=issuer.url) as server:
        yield server


def post(server: Server, path: str, bearer: str, **body: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {bearer}"}
    return httpx.post(server.url + path, headers=headers, json=body, timeout=40, trust_env=False)


def get(server: Server, path: str, bearer: str) -> httpx.Response:
    headers = {"authorization": f"bearer {bearer}"}
    return httpx.get(server.url + path, headers=headers, timeout=40, trust_env=False)


def test_a_token_lets_in_and_its_tenant_sees_its_runs_alone(tokened: Server) -> None:
    ada, bob, eve = token("ada", "acme"), token("bob", "acme"), token("eve", "other")

    started = post(tokened, "/runs", ada, query="q")
    assert started.status_code == 202, started.text
    run_id = started.json()["run_id"]

    assert get(tokened, f"/runs/{run_id}?wait=20", bob).json()["output"]["query"] == "q"
    assert run_id in get(tokened, "/runs", bob).text
    strange, unknown = get(tokened, f"/runs/{run_id}", eve), get(tokened, f"/runs/{run_id}x", eve)
    assert strange.status_code == 404
    assert strange.json()["detail"].replace(run_id, "?") == unknown.json()["detail"].replace(f"{run_id}x", "?")
    assert get(tokened, "/runs", eve).json()["runs"] == []


def test_a_token_that_does_not_hold_is_401_with_its_reason_and_a_role_less_one_403(tokened: Server) -> None:
    reasons = {
        "token_expired": token(exp=time.time() - 100),
        "invalid_credentials": token(aud="somebody"),
    }

    for reason, bearer in reasons.items():
        refused = get(tokened, "/runs", bearer)
        assert (refused.status_code, refused.json()["reason"]) == (401, reason)
    assert get(tokened, "/runs", token(realm={"roles": ["guest"]})).status_code == 403
    assert get(tokened, "/runs", token(realm={}, permissions=["invoke"])).status_code == 200


def test_two_dockfiles_are_one_server(tokened: Server) -> None:
    agents = httpx.get(f"{tokened.url}/agents", trust_env=False).json()

    assert agents["default"] == "one"
    # Skills, which come with the server, may be started too.
    names = [item["name"] for item in agents["agents"]]
    assert [name for name in names if not name.startswith("skill:")] == ["one", "two"]
    run = post(tokened, "/agents/two/runs", token("zoe", "acme"), query="q").json()["run_id"]
    assert get(tokened, f"/runs/{run}?wait=20", token()).json()["output"] == {"other": True}


def test_without_rest_invoke_is_gone_and_its_stream_is_not(tokened: Server) -> None:
    refused = post(tokened, "/invoke", token(), query="q")

    assert (refused.status_code, refused.json()["key"]) == (404, "expose.rest")
    socket = get(tokened, "/runs/x/ws", token())
    assert (socket.status_code, socket.json()["key"]) == (404, "expose.streaming")  # sse, which is the default
    assert "event: complete" in post(tokened, "/invoke/stream", token(), query="q").text


# What does not start


def test_what_is_wrong_is_told_at_once_with_status_1_before_the_port_opens(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        text = KEYS.replace("rest: false", "").replace("2/day", "2/year").replace("name: tutor", "name: Tutor")
        project(tmp_path, f"{text}\nunknown: 1\n")
        done = holdfast(
            "serve", "Dockfile.yaml", "--port", taken.getsockname()[1], folder=tmp_path, LANGFUSE_HOST="http://x"
        )

    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1
    assert [line.partition("Dockfile.yaml:")[2].split(":")[1].strip() for line in lines] == ["agent.name", "unknown"]
    assert "cannot listen" not in done.stderr
    assert not (tmp_path / ".holdfast").exists()


def test_init_then_add_then_validate_then_serve(tmp_path: Path) -> None:
    assert holdfast("init", "my-tutor", folder=tmp_path).returncode == 0
    folder = tmp_path / "my-tutor"
    before = (folder / "Dockfile.yaml").read_text()
    assert holdfast("add", "auth", folder=folder).returncode == 0
    unset = holdfast("validate", folder=folder)
    valid = holdfast("validate", folder=folder, HOLDFAST_API_KEY="k")

    assert (folder / "Dockfile.yaml").read_text().startswith(before)
    assert unset.returncode == 1
    assert "auth.api_keys.env_var" in unset.stderr
    assert (valid.returncode, valid.stdout) == (0, "valid: my-tutor on 0.0.0.0:8080, by API keys\n")
    with serving(
        folder, "--host", "127.0.0.1", target="Dockfile.yaml", HOLDFAST_KEYS="", HOLDFAST_API_KEY="k"
    ) as server:
        reply = httpx.post(f"{server.url}/invoke", headers={"x-api-key": "k"}, json={"query": "why"}, trust_env=False)
    assert reply.json()["output"] == {"answer": "You asked: why"}


def test_without_auth_it_listens_on_this_machine_alone_and_says_so(tmp_path: Path) -> None:
    project(tmp_path, KEYS[: KEYS.index("auth:")].replace("host: 127.0.0.1, ", ""))

    with serving(tmp_path, target="Dockfile.yaml", HOLDFAST_KEYS="") as server:
        reply = httpx.post(f"{server.url}/invoke", json={"query": "q"}, trust_env=False)
        said = server.stderr
    refused = holdfast("serve", "Dockfile.yaml", "--host", "0.0.0.0", "--port", "0", folder=tmp_path)

    assert reply.status_code == 200
    assert server.url.startswith("http://127.0.0.1:")
    assert "only this machine can call" in said
    assert refused.returncode == 1
    assert "loopback" in refused.stderr


# At the end, because the issuer is asked again after ten seconds at the earliest: the tests before have used them.


def test_a_key_that_the_issuer_publishes_later_is_fetched_when_a_token_names_it(
    tokened: Server, issuer: Recorder
) -> None:
    assert get(tokened, "/runs", token(kid="k1")).status_code == 200
    issuer.document = key_set("k1", "k2")

    # Forged tokens must not make the server ask its issuer at their pace, so this may take ten seconds.
    until(lambda: get(tokened, "/runs", token(kid="k2")).status_code == 200, lambda: tokened.stderr, seconds=30)
