"""
The clients that users have of this API, unmodified but for address and key, against a real server with the skill that
comes with the package: they end with the run and find every key that they read. The same programs as we would write
them ourselves, and the documented ones where they lie beside the checkout.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import KEY, ServerProcess, running_server

DOCUMENTED = Path(__file__).parents[4] / "shared" / "clients"
SECONDS = 60

needs_documented = pytest.mark.skipif(not DOCUMENTED.is_dir(), reason="the documented clients are not here")

LINES = [
    "skill_start Executing skill 'my.skill'.",
    "step_start Starting step 'analyze'.",
    "step_completed Step 'analyze' completed.",
    "skill_completed Skill 'my.skill' completed.",
    "done Skill 'my.skill' completed.",
]

PYTHON = """
import json, requests

with requests.post(
    'http://localhost:8080/v1/skills/my.skill/execute/stream',
    json={'inputs': {'text': 'hello'}},
    headers={'x-api-key': 'KEY'},
    stream=True,
) as answer:
    for line in answer.iter_lines(decode_unicode=True):
        if line.startswith('data: '):
            event = json.loads(line[6:])
            print(event['type'], event['message'])
"""

NODE = """
const answer = await fetch('/v1/skills/my.skill/execute/stream', {
  method: 'POST',
  headers: { 'Content-Type': 'application/json', 'x-api-key': 'KEY' },
  body: JSON.stringify({ inputs: { text: 'hello' } }),
});
const decoder = new TextDecoder();
let rest = '';
for await (const piece of answer.body) {
  rest += decoder.decode(piece, { stream: true });
  const lines = rest.split('\\n');
  rest = lines.pop();
  for (const line of lines.filter((line) => line.startsWith('data: '))) {
    const event = JSON.parse(line.slice(6));
    console.log(event.type, event.message);
  }
}
"""

CURL = """
curl -N -X POST http://localhost:8080/v1/skills/my.skill/execute/stream -H "Content-Type: application/json" \\
  -H "x-api-key: YOUR_KEY" -d '{"inputs": {"text": "Hello world"}}'
"""

# Section 6 of the specification, with R, T, Z and 1.5 for what differs from run to run.
FRAMES = """retry: 2000

id: 0
event: skill_start
data: {"type":"skill_start","message":"Executing skill 'my.skill'.","timestamp":"Z","step_id":null,"trace_id":"T",
"run_id":"R","sequence":0,"data":null}

id: 1
event: step_start
data: {"type":"step_start","message":"Starting step 'analyze'.","timestamp":"Z","step_id":"analyze","trace_id":"T",
"run_id":"R","sequence":1,"data":null}

id: 2
event: step_completed
data: {"type":"step_completed","message":"Step 'analyze' completed.","timestamp":"Z","step_id":"analyze","trace_id":"T",
"run_id":"R","sequence":2,"data":{"produced_output":{"summary":"Hello world"},"duration_ms":1.5,"attempt":1}}

id: 3
event: skill_completed
data: {"type":"skill_completed","message":"Skill 'my.skill' completed.","timestamp":"Z","step_id":null,"trace_id":"T",
"run_id":"R","sequence":3,"data":null}

id: 4
event: done
data: {"type":"done","message":"Skill 'my.skill' completed.","timestamp":"Z","step_id":null,"trace_id":"T",
"run_id":"R","sequence":4,"data":null,"skill_id":"my.skill","status":"completed","outputs":{"result":"Hello world"}}

""".replace(",\n", ",")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One without skills of its own."""
    root = tmp_path_factory.mktemp("root")
    environment = {"HOLDFAST_SKILLS_ROOTS": str(root)}
    with running_server(tmp_path_factory.mktemp("data"), agents=None, environment=environment) as process:
        yield process


def source(name: str, ours: str) -> list[object]:
    """Our program, and the file of the documented one."""
    return [
        pytest.param(ours, id="ours"),
        pytest.param(DOCUMENTED / name, id="documented", marks=needs_documented),
    ]


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"not installed: {program}")


def written(program: str | Path, file: Path, url: str) -> Path:
    """A program as a file, for this server: only address and key are another."""
    text = program if isinstance(program, str) else program.read_text()
    text = text.replace("http://localhost:8080", url).replace("fetch('/v1", f"fetch('{url}/v1")
    file.write_text(text.replace("YOUR_KEY", KEY).replace("'KEY'", f"'{KEY}'"))
    return file


def printed(server: ServerProcess, tmp_path: Path, program: str | Path, name: str, command: str) -> str:
    """What a program prints until it ends, which it has to do well and by itself."""
    done = subprocess.run(
        [command, str(written(program, tmp_path / name, server.url))],
        env={"NO_PROXY": "*", "PATH": "/usr/bin:/bin:/usr/local/bin"},
        capture_output=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.parametrize("program", source("skills_stream.py", PYTHON))
def test_the_python_client_prints_five_lines_and_ends(
    server: ServerProcess, tmp_path: Path, program: str | Path
) -> None:
    assert printed(server, tmp_path, program, "client.py", sys.executable).splitlines() == LINES


@needs("node")
@pytest.mark.parametrize("program", source("skills_stream.js", NODE))
def test_the_javascript_client_prints_the_same(server: ServerProcess, tmp_path: Path, program: str | Path) -> None:
    assert printed(server, tmp_path, program, "client.mjs", "node").splitlines() == LINES


@needs("curl")
@pytest.mark.parametrize("program", source("skills_stream.sh", CURL))
def test_the_curl_call_prints_the_frames_of_the_specification(
    server: ServerProcess, tmp_path: Path, program: str | Path
) -> None:
    found = printed(server, tmp_path, program, "client.sh", "sh")

    for field, shown in (("timestamp", r'"[-0-9]{10}T[:0-9]{8}\.[0-9]{6}Z"'), ("duration_ms", r"[0-9]+\.[0-9]+")):
        found = re.sub(f'"{field}":{shown}', f'"{field}":' + ("1.5" if field == "duration_ms" else '"Z"'), found)
    for field, short in (("run_id", "R"), ("trace_id", "T")):
        values = set(re.findall(f'"{field}":"([^"]+)"', found))
        assert len(values) == 1
        found = found.replace(values.pop(), short)
    assert found == FRAMES


AWKWARD = "ä\x85b\u2028c\u2029d\ne"
"""What readers of lines cut, or change."""


@pytest.mark.parametrize(
    ("program", "shows", "name", "command"),
    [
        (PYTHON, ("event['type'], event['message']", "json.dumps(event.get('outputs'))"), "client.py", sys.executable),
        pytest.param(
            NODE,
            ("event.type, event.message", "JSON.stringify(event.outputs ?? null)"),
            "client.mjs",
            "node",
            marks=needs("node"),
        ),
    ],
    ids=["python", "javascript"],
)
def test_text_that_readers_of_lines_cut_reaches_them_unchanged(
    server: ServerProcess, tmp_path: Path, program: str, shows: tuple[str, str], name: str, command: str
) -> None:
    changed = program.replace("'hello'", json.dumps(AWKWARD)).replace(*shows)

    lines = printed(server, tmp_path, changed, name, command).split("\n")

    assert [json.loads(line) for line in lines if line] == [None] * 4 + [{"result": AWKWARD}]
