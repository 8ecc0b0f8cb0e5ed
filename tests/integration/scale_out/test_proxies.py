"""The proxies of the guide before two servers, with the configuration that the guide prints."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.sync.client import connect

from tests.integration.cli.commands import KEY, Server
from tests.integration.scale_out.processes import Fleet, Travel, fleet_on
from tests.integration.scale_out.proxies import NAME, PROXIES, program, running_proxy
from tests.support.postgres import PostgresServer
from tests.support.sse import Frame, events

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fleet(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A worker; what listens comes to it."""
    with ThreadPoolExecutor(1) as aside:
        name = aside.submit(asyncio.run, postgres.make_database()).result()
        with fleet_on(tmp_path_factory.mktemp("proxies"), postgres.url(name)) as started:
            started.work()
            yield started


@pytest.fixture(scope="module")
def survivor(fleet: Fleet) -> Server:
    return fleet.serve("--no-worker", HOLDFAST_ALLOWED_HOSTS=NAME)


def trusting() -> ssl.SSLContext:
    """The proxy's certificate is of its own making."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def through(url: str) -> httpx.Client:
    """A client of the proxy, which knows it by its public name."""
    headers = {"X-API-Key": KEY, "Host": NAME}
    return httpx.Client(base_url=url, headers=headers, verify=trusting(), timeout=40, trust_env=False)


def hello(url: str, run_id: str) -> dict[str, Any]:
    """What a WebSocket through the proxy is told first."""
    address = urlsplit(url)
    assert address.hostname is not None
    with (
        socket.create_connection((address.hostname, address.port or 0), timeout=20) as tcp,
        connect(
            f"{'wss' if address.scheme == 'https' else 'ws'}://{NAME}/runs/{run_id}/ws",
            sock=tcp,
            ssl=trusting() if address.scheme == "https" else None,
            additional_headers={"X-API-Key": KEY},
            proxy=None,
        ) as opened,
    ):
        told: dict[str, Any] = json.loads(opened.recv(timeout=20))
    return told


@pytest.mark.parametrize("kind", PROXIES)
def test_streams_pass_token_by_token_and_go_on_at_the_other_server(
    fleet: Fleet, survivor: Server, kind: str, tmp_path: Path
) -> None:
    """Of two readers one is at each server, because a proxy sends calls to where the fewest are."""
    program(kind)
    mortal = fleet.serve("--no-worker", HOLDFAST_ALLOWED_HOSTS=NAME)
    backends = [server.url.removeprefix("http://") for server in (mortal, survivor)]
    with running_proxy(kind, tmp_path / "proxy", *backends) as url, through(url) as client:
        travel = Travel(tmp_path, survivor, "walker")
        path = f"/runs/{travel.run_id}/events"
        cut = 0
        with client.stream("GET", path) as one, client.stream("GET", path) as other:
            readers = [events(one), events(other)]
            greeting = hello(url, travel.run_id)
            # The run does nothing more until its gate is opened, so a proxy that collects would show nothing now.
            seen = [[next(reader), next(reader)] for reader in readers]
            mortal.kill()
            calls = [client.post("/runs?agent=greeter", json={}).status_code for _ in range(10)]
            travel.open_gate()
            for reader, frames in zip(readers, seen, strict=True):
                cut += read_on(client, path, reader, frames)

    assert greeting["run_id"] == travel.run_id
    assert cut == 1
    assert calls == [202] * 10
    for frames in seen:
        assert [frame.id for frame in frames] == [str(number) for number in range(len(frames))]
        assert [frame.event for frame in frames][-1] == "complete"
    assert seen[0] == seen[1]


def read_on(client: httpx.Client, path: str, reader: Iterator[Frame], frames: list[Frame]) -> bool:
    """Read to the end of the run; whether the stream was cut, so that another call had to go on."""
    with contextlib.suppress(httpx.TransportError):
        frames += reader
    if frames[-1].event == "complete":
        return False
    with client.stream("GET", path, headers={"Last-Event-ID": str(frames[-1].id)}) as again:
        frames += events(again)
    return True
