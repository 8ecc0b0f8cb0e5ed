"""Every route that the OpenAPI document lists, of all APIs, by each kind of caller: it lets in whom it says (check 24)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import httpx
import pytest

from holdfast.caller import ROLES
from tests.support.server import ServerProcess, running_server

AGENTS: Final = Path(__file__).with_name("describing_agents.py")
READ_CALLS: Final = {f"/runs/{{run_id}}{call}" for call in ("", "/events", "/interrupts", "/steps", "/ws")}


class Call(NamedTuple):
    """A call; `role` None is public. Its path names things that there are not, but for the run of `q-1`."""

    method: str
    route: str
    path: str
    role: str | None

    def by(self, client: httpx.Client, **more: str) -> httpx.Response:
        return client.request(self.method, self.path, headers={"X-API-Key": more["key"]} if "key" in more else None)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("data"), agents=AGENTS) as process:
        yield process


@pytest.fixture(scope="module")
def calls(server: ServerProcess) -> list[Call]:
    with server.client() as client:
        client.post("/invoke?run_id=q-1", json={}).raise_for_status()
        paths = client.get("/openapi.json").json()["paths"]
    return [
        Call(method.upper(), route, filled(route), None if operation.get("security") == [] else operation["x-role"])
        for route, operations in paths.items()
        for method, operation in operations.items()
    ]


def filled(route: str) -> str:
    known = route.replace("{run_id}", "q-1").replace("{store}", "knowledge")
    return re.sub(r"{\w+}", "none", known)


def test_nobody_is_let_in_without_a_right_key_but_to_what_is_public(server: ServerProcess, calls: list[Call]) -> None:
    keys: list[bytes | None] = [None, b"wrong", b"\xff\xfe", b""]
    with server.client(None) as client:
        for call in calls:
            headers = [[(b"X-API-Key", key)] if key is not None else [] for key in keys]
            found = {client.request(call.method, call.path, headers=one).status_code for one in headers}
            assert (found == {401}) == (call.role is not None), (call, found)

    assert len(calls) > 100
    assert {call.role for call in calls} == {None, *ROLES}


def test_each_role_is_let_in_where_it_is_enough_and_nowhere_else(server: ServerProcess, calls: list[Call]) -> None:
    with server.client() as admin, server.client(None) as client:
        made = [admin.post("/_holdfast/keys", json={"name": role, "role": role}).json() for role in ROLES]
        keys = {role: key["key"] for role, key in zip(ROLES, made, strict=True)}
        for call in calls:
            if call.role is not None and call.role != ROLES[0]:
                lower = ROLES[ROLES.index(call.role) - 1]
                assert call.by(client, key=keys[lower]).status_code == 403, call


def test_a_stream_token_opens_the_reading_of_its_run_on_no_other_route(
    server: ServerProcess, calls: list[Call]
) -> None:
    with server.client() as admin, server.client(None) as client:
        admin.post("/invoke?run_id=q-2", json={}).raise_for_status()
        token, foreign = [admin.post(f"/runs/{run}/stream-token", json={}).json()["token"] for run in ("q-1", "q-2")]
        for call in calls:
            if call.role is None:
                continue
            own, others = [
                client.request(call.method, call.path, params={"token": one}).status_code for one in (token, foreign)
            ]
            is_read = call.method == "GET" and call.route in READ_CALLS
            assert (own in (401, 403)) == (not is_read), (call, own)
            assert others in (401, 403), (call, others)
