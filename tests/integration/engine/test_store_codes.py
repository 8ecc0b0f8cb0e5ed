"""Codes of a server whose store is not there yet, away, or of another version; and of a server that fails (checks 11, 31)."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.crash.test_kill import free_port
from tests.integration.engine.support import AGENTS
from tests.support.postgres import PostgresServer
from tests.support.proxy import Proxy
from tests.support.server import KEY, spawn_server

pytestmark = pytest.mark.one_store("it is about the store of many processes")


async def until(ask: Any) -> Any:
    """What it gives as soon as it gives something."""
    async with asyncio.timeout(60):
        while (found := await ask()) is None:  # noqa: ASYNC110  another process is waited for
            await asyncio.sleep(0.02)
    return found


def told(response: httpx.Response) -> tuple[int, str]:
    body = response.json()
    assert set(body) <= {"error", "message", "details"}
    return response.status_code, body["error"]


async def test_a_store_that_is_not_as_it_should_be_is_told(
    tmp_path: Path, postgres: PostgresServer, database: str
) -> None:
    async with Proxy("127.0.0.1", postgres.port) as proxy:
        proxy.refuses = True
        port = free_port()
        environment = {
            "HOLDFAST_STORE": postgres.url(database).replace(f":{postgres.port}/", f":{proxy.port}/"),
            "HOLDFAST_PORT": str(port),
            "HOLDFAST_ID_GENERATOR": "json:loads",  # which takes an argument: each start of a run fails
        }
        process, says = spawn_server(tmp_path / "data", agents=AGENTS, environment=environment)
        url = f"http://127.0.0.1:{port}"
        try:
            async with httpx.AsyncClient(
                base_url=url, headers={"X-API-Key": KEY}, trust_env=False, timeout=30
            ) as client:

                async def health() -> str | None:
                    try:
                        return str((await client.get("/health")).json()["status"])
                    except httpx.TransportError:
                        return None

                async def is_well() -> bool | None:
                    return (await health()) == "ok" or None

                body = {"task_id": "t", "message": "Hi"}
                before = await until(health), await client.post("/execute", json=body), await client.get("/ready")
                proxy.refuses = False
                await until(is_well)
                failed = await client.post("/execute", json=body)
                proxy.refuses = True
                proxy.cut()
                away = await client.get("/tasks"), await health(), await client.get("/ready")
                proxy.refuses = False
                await until(is_well)
                await postgres.execute("ALTER TABLE holdfast.threads RENAME TO older", database=database)
                other = await client.get("/tasks")
                await postgres.execute("ALTER TABLE holdfast.older RENAME TO threads", database=database)
                back = await client.get("/tasks")
        finally:
            process.kill()
            await asyncio.to_thread(process.wait)
            os.close(says)

    assert before[0] == "starting"
    assert told(before[1]) == (503, "STARTING")
    assert before[1].headers["retry-after"] == "1"
    assert before[2].status_code == 503
    assert told(failed) == (500, "INTERNAL_ERROR")
    assert failed.json()["details"]["request_id"] in (tmp_path / "data" / "log").read_text()
    assert told(away[0]) == (503, "STORE_UNAVAILABLE")
    assert (away[1], away[2].status_code) == ("error", 503)
    assert told(other) == (503, "MIGRATION_REQUIRED")
    assert back.status_code == 200
    assert json.loads(back.content)["tasks"] == []
