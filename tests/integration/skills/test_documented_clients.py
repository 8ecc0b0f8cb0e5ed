"""
The clients that users of this API have, unmodified but for address and key: they end with the run and find every key
that they read. The same programs as we would write them ourselves, and the documented ones where they lie beside the
checkout.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.integration.skills.api_skills import serving
from tests.support.skills_server import KEYS, SkillsServer

DOCUMENTED = Path(__file__).parents[4] / "shared" / "clients"
SECONDS = 30

needs_documented = pytest.mark.skipif(not DOCUMENTED.is_dir(), reason="the documented clients are not here")

pytestmark = pytest.mark.asyncio(loop_scope="module")

LINES = [
    "skill_start Executing skill 'my.skill'.",
    "step_start Starting step 'work'.",
    "step_completed Step 'work' completed.",
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
  -H "x-api-key: YOUR_KEY" -d '{"inputs": {"text": "hello"}}'
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SkillsServer]:
    async with serving(tmp_path_factory.mktemp("skills")) as (made, _):
        yield made


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
    file.write_text(text.replace("YOUR_KEY", KEYS["executor"]).replace("'KEY'", f"'{KEYS['executor']}'"))
    return file


async def printed(server: SkillsServer, tmp_path: Path, program: str | Path, name: str, *command: str) -> str:
    """What a program prints until it ends, which it has to do well and by itself."""
    file = written(program, tmp_path / name, str(server.client.base_url).rstrip("/"))
    process = await asyncio.create_subprocess_exec(
        *command,
        str(file),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"NO_PROXY": "*", "PATH": "/usr/bin:/bin:/usr/local/bin"},
    )
    output, errors = await asyncio.wait_for(process.communicate(), SECONDS)
    assert process.returncode == 0, errors.decode()
    return output.decode()


@pytest.mark.parametrize("program", source("skills_stream.py", PYTHON))
async def test_the_python_client_prints_five_lines_and_ends(
    server: SkillsServer, tmp_path: Path, program: str | Path
) -> None:
    assert (await printed(server, tmp_path, program, "client.py", sys.executable)).splitlines() == LINES


@needs("node")
@pytest.mark.parametrize("program", source("skills_stream.js", NODE))
async def test_the_javascript_client_prints_the_same(server: SkillsServer, tmp_path: Path, program: str | Path) -> None:
    assert (await printed(server, tmp_path, program, "client.mjs", "node")).splitlines() == LINES


@needs("curl")
@pytest.mark.parametrize("program", source("skills_stream.sh", CURL))
async def test_the_curl_call_prints_the_frames(server: SkillsServer, tmp_path: Path, program: str | Path) -> None:
    frames = (await printed(server, tmp_path, program, "client.sh", "sh")).split("\n\n")

    assert frames[0] == "retry: 2000"
    assert [frame.split("\n")[:2] for frame in frames[1:-1]] == [
        [f"id: {place}", f"event: {line.split()[0]}"] for place, line in enumerate(LINES)
    ]
