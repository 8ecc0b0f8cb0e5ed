"""Text with everything at which somebody cuts lines: every decoder that users have reads the same."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

import httpx
import pytest
import requests
import sseclient

from tests.support.recorder import Frame, Target
from tests.support.server import KEY, ServerProcess
from tests.support.sse import frames

TEXTS = [
    "\u0085",
    "\u2028 \u2029",
    "a\rb",
    "a\nb",
    "a\r\n\r\nb",
    "\x00",
    "\x0b\x0c\x1c\x1d\x1e\x1f\x7f",
    "😀 é 日本",
    '"\\ data: id: event:',
    ": comment",
    "\ufeff",
    " ",
]
FETCH = Path(__file__).parents[3] / "examples" / "runtime" / "stream_fetch.mjs"


@pytest.fixture(scope="module")
def run_id(server: ServerProcess) -> str:
    run_id = f"x-{uuid.uuid4().hex}"
    with server.client() as client:
        client.post(f"/agents/say/invoke?run_id={run_id}", json={"texts": TEXTS, "output": {"all": TEXTS}})
    return run_id


def datas(lines: Iterable[str]) -> list[str]:
    """The data lines among lines."""
    return [line[6:] for line in lines if line.startswith("data: ")]


def by_sseclient(url: str) -> list[str]:
    with requests.get(url, headers={"X-API-Key": KEY}, stream=True, timeout=20) as response:
        return [event.data for event in sseclient.SSEClient(response).events()]  # type: ignore[arg-type]  # see its docs


def by_requests(url: str) -> list[str]:
    with requests.get(url, headers={"X-API-Key": KEY}, stream=True, timeout=20) as response:
        return datas(line.decode("utf-8") for line in response.iter_lines())


def by_httpx(url: str) -> list[str]:
    with httpx.Client(headers={"X-API-Key": KEY}, trust_env=False) as client, client.stream("GET", url) as response:
        return [json.dumps(frame.data) for frame in frames(response.iter_lines()) if frame.event is not None]


def by_text_lines(url: str) -> list[str]:
    """Universal newlines: LF, CR and CR LF end a line, as the standard of SSE has it."""
    with requests.get(url, headers={"X-API-Key": KEY}, stream=True, timeout=20) as response:
        return datas(line.rstrip("\n") for line in io.TextIOWrapper(io.BytesIO(response.content), "utf-8"))


def by_splitlines(url: str) -> list[str]:
    with httpx.Client(headers={"X-API-Key": KEY}, trust_env=False) as client:
        return datas(client.get(url).content.decode("utf-8").splitlines())


def by_bytes(url: str) -> list[str]:
    address = httpx.URL(url)

    async def read() -> list[Frame]:
        stream = await Target(address.port or 0, KEY).open("GET", address.raw_path.decode())
        found = [frame async for frame in stream.frames()]
        stream.close()
        await stream.writer.wait_closed()
        return found

    return [frame.data.decode() for frame in asyncio.run(read())]


@pytest.mark.parametrize("decoder", [by_sseclient, by_requests, by_httpx, by_text_lines, by_splitlines, by_bytes])
@pytest.mark.parametrize("query", ["", "?types=token", "?view=compact"])
def test_every_decoder_reads_the_same_text(
    server: ServerProcess, run_id: str, decoder: Callable[[str], list[str]], query: str
) -> None:
    found = [json.loads(data) for data in decoder(f"{server.url}/runs/{run_id}/events{query}")]

    assert "".join(event["content"] for event in found if event["type"] == "token") == "".join(TEXTS)
    assert found[-1]["output"] == {"all": TEXTS}
    assert len(found) == (3 if "compact" in query else len(TEXTS) + 2)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_decoder_of_a_page_reads_the_same_text(server: ServerProcess, tmp_path: Path) -> None:
    """`TextDecoder` and `split('\\n')`, on a run that it starts itself."""
    script = tmp_path / "client.mjs"
    script.write_text(
        FETCH.read_text()
        .replace("/invoke/stream", "/agents/say/invoke/stream")
        .replace("{ query: process.argv[2] ?? 'explain quantum computing' }", json.dumps({"texts": TEXTS}))
    )
    environment = {**os.environ, "HOLDFAST_URL": server.url, "HOLDFAST_KEY": KEY}

    done = subprocess.run(["node", str(script)], env=environment, capture_output=True, timeout=60)

    found = [json.loads(line) for line in done.stdout.decode().split("\n") if line]
    assert done.returncode == 0, done.stderr
    assert [event["content"] for event in found if event["type"] == "token"] == TEXTS
