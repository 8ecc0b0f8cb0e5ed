"""A server of skills that are made in code, in the process of the test: its functions hold on to gates of the test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx

from holdfast.agents.registry import Registry
from holdfast.agents.skill.agents import SkillAgents
from holdfast.agents.skill.bindings import Bindings
from holdfast.agents.skill.model import Capability, Skill
from holdfast.api.http.auth import key_hash
from holdfast.execution.worker import Worker
from holdfast.model import ApiKey
from holdfast.server import Server, _Http
from holdfast.settings import Settings
from tests.support.skills import Library

KEYS = {role: f"key-of-{role}" for role in ("reader", "executor", "operator", "admin")}


class SkillsServer:
    """A running server, called as whoever the test likes."""

    def __init__(self, server: Server, library: Library, client: httpx.AsyncClient, worker: Worker) -> None:
        self.server, self.library, self.client, self._worker = server, library, client, worker

    async def die(self) -> None:
        """From now on, as after kill -9: nothing is handed over and nothing more is written."""
        await self._worker.die()

    async def call(
        self, method: str, path: str, body: Any = None, *, key: str | None = "executor", **headers: str
    ) -> httpx.Response:
        """One call with the key of a role, or of this name; `x_trace_id="t"` is a header."""
        given = {} if key is None else {"x-api-key": KEYS.get(key, key)}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.request(method, path, json=body, headers=given)

    async def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return await self.call("POST", path, body, **options)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.call("GET", path, **options)

    async def execute(self, skill_id: str, inputs: Any = None, *, key: str = "executor", **fields: Any) -> Any:
        """The answer of an execution."""
        reply = await self.post(f"/v1/skills/{skill_id}/execute", {"inputs": inputs or {}, **fields}, key=key)
        return reply.json()

    @contextlib.asynccontextmanager
    async def stream(
        self, method: str, path: str, body: Any = None, *, key: str = "executor", **headers: str
    ) -> AsyncIterator[httpx.Response]:
        given = {"x-api-key": KEYS[key]} | {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.stream(method, path, json=body, headers=given) as reply:
            yield reply

    async def frames(self, method: str, path: str, body: Any = None, **options: Any) -> list[dict[str, Any]]:
        """The data of all frames of a stream, to its end."""
        async with self.stream(method, path, body, **options) as reply:
            assert reply.status_code == 200, await reply.aread()
            return [json.loads(line[6:]) async for line in reply.aiter_lines() if line.startswith("data: ")]


@contextlib.asynccontextmanager
async def skills_server(
    directory: Path,
    skills: Iterable[Skill] = (),
    capabilities: Iterable[Capability] = (),
    functions: dict[str, Callable[..., Any]] | None = None,
    store: Mapping[str, str] = MappingProxyType({}),
    **settings: Any,
) -> AsyncIterator[SkillsServer]:
    """A running server with a key of each role; its stops are quick. `store` is what the fixtures of stores give."""
    library, programs = Library(skills, capabilities), Registry()
    programs.finders.append(SkillAgents(library, Bindings(builtins=functions or {})))
    if store:
        settings |= {"store": store["HOLDFAST_STORE"], "lease_seconds": float(store["HOLDFAST_LEASE_SECONDS"])}
    made = Settings(data=str(directory), port=0, drain_seconds=0.2, **settings)
    server = Server(made, programs, None, None)
    # Named as TCP, for else asyncio leaves Nagle's algorithm on, and every answer takes 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    http = _Http(server.http_config())
    async with server.opened() as worker:
        server._services.library = library
        now = server._clock.now()
        for role, key in KEYS.items():
            await server._store.add_key(
                ApiKey(name=role, hash=key_hash(key), role=role, tenant="default", created_at=now)
            )
        await server._authenticator.refresh(server._store)
        serving = asyncio.create_task(http.serve(sockets=[listener]))
        await http.is_up.wait()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
                yield SkillsServer(server, library, client, worker)
        finally:
            http.should_exit = True
            await serving
    listener.close()
