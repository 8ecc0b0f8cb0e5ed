"""Check 29, files: the tools of a whole server, its workspaces, and what is asked before anything is written outside."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from holdfast.agents.assistant import AssistantProgram
from holdfast.testing.fake_server import FakeServer
from tests.support.obeying_model import obeying_model


class World:
    """A server, its directories, and somebody who has its model call tools."""

    def __init__(self, base: Path) -> None:
        self.data, self.root, self.outside = base / "data", base / "root", base / "outside"
        self.root.mkdir()
        self.outside.mkdir()
        self.server = FakeServer(
            AssistantProgram(obeying_model()),
            settings={
                "HOLDFAST_DATA": str(self.data),
                "HOLDFAST_ROOTS": str(self.root),
                "HOLDFAST_LEARNING": "false",
            },
        )
        self.frames: list[dict[str, Any]] = []

    def connect(self) -> None:
        self._client = httpx2.AsyncClient(
            transport=self.server.transport(),
            base_url=self.server.url,
            headers={"X-Engine-Key": self.server.key},
            timeout=60,
        )

    async def call(self, *calls: tuple[str, dict[str, Any]], task: str = "t") -> list[Any]:
        """What the tools gave; a turn that asks is left there."""
        self.frames = []
        body = {"task_id": task, "message": json.dumps(calls, ensure_ascii=False)}
        async with self._client.stream("POST", "/execute", json=body) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data:"):
                    self.frames.append(json.loads(line[5:]))
                    if self.frames[-1]["type"] == "hitl_request":
                        return []
        assert self.frames[-1]["phase"] == "completed", self.frames[-1]
        answer: list[Any] = json.loads(self.frames[-1]["output"])
        return answer

    async def answer(self, answer: str) -> dict[str, Any]:
        """Answer what the last turn asked; the result of its tool."""
        asked = self.frames[-1]
        said = {"task_id": "t", "answer": answer, "request_id": asked["request_id"], "input_hash": asked["input_hash"]}
        assert (await self._client.post("/hitl/respond", json=said)).status_code == 200
        path = f"/execute/replay?task_id=t&turn_id={asked['turn_id']}"
        async with self._client.stream("GET", path) as stream:
            frames: list[dict[str, Any]] = [
                json.loads(line[5:]) async for line in stream.aiter_lines() if line.startswith("data:")
            ]
        [result] = [frame for frame in frames if frame["type"] == "tool_result"]
        return result

    async def delete(self, task: str) -> None:
        assert (await self._client.delete(f"/tasks/{task}")).status_code == 200

    @property
    def workspaces(self) -> list[Path]:
        return [place for place in (self.data / "workspaces").iterdir() if place.is_dir()]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    async with made.server:
        made.connect()
        yield made


@contextmanager
def as_before(folder: Path) -> Iterator[None]:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    yield
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


async def test_files_of_a_task_are_there_in_its_next_turn_and_in_no_other_task(world: World) -> None:
    write = ("write_file", {"path": "notes/a.txt", "content": "needle\n"})
    read = ("read_file", {"path": "notes/a.txt"})

    [written] = await world.call(write)
    world.server.restart(kill=True)
    found, matches, paths, hits = await world.call(
        read, ("grep", {"pattern": "need"}), ("find", {"type": "file"}), ("file_search", {"query": "needle"})
    )
    [other] = await world.call(read, task="other")

    assert written == {"path": "notes/a.txt", "bytes": 7, "created": True}
    assert found == {"content": "needle\n", "lines": 1, "next_offset": None}
    assert matches["matches"] == [{"path": "notes/a.txt", "line": 1, "text": "needle"}]
    assert paths["paths"] == ["notes/a.txt"]
    assert hits["hits"][0]["path"] == "notes/a.txt"
    assert other.startswith("not_found: ")


async def test_a_call_with_as_much_text_as_a_file_may_have_is_told_by_a_reference(world: World) -> None:
    content = "é" * (1 << 19)

    [written] = await world.call(("write_file", {"path": "long.txt", "content": content}))

    [told] = [frame["input"] for frame in world.frames if frame["type"] == "tool_call"]
    [workspace] = world.workspaces
    assert written["bytes"] == 1 << 20
    assert (workspace / "long.txt").read_text() == content
    assert set(told) == {"file", "bytes", "sha256"}


async def test_a_question_about_as_much_text_as_a_file_may_have_is_asked_and_answered(world: World) -> None:
    place = world.outside / "long.txt"

    await world.call(("write_file", {"path": str(place), "content": "é" * (1 << 19)}))
    await world.answer("yes")

    assert place.stat().st_size == 1 << 20


async def test_a_workspace_is_removed_with_its_task(world: World) -> None:
    write = ("write_file", {"path": "a", "content": "mine"})
    await world.call(write)
    await world.call(write, task="stays")
    assert len(world.workspaces) == 2

    await world.delete("t")

    assert len(world.workspaces) == 1
    [again] = await world.call(("read_file", {"path": "a"}))
    assert again.startswith("not_found: ")


async def test_writing_outside_of_the_roots_is_asked_about_with_the_place_it_leads_to(world: World) -> None:
    (world.root / "link").symlink_to(world.outside)
    path, target = str(world.root / "link" / "new.txt"), world.outside / "new.txt"

    await world.call(("write_file", {"path": path, "content": "x"}))
    asked = world.frames[-1]
    denied = await world.answer("no")
    exists_after_no = target.exists()
    await world.call(("write_file", {"path": path, "content": "x"}))
    allowed = await world.answer("yes")

    assert (asked["rule"], asked["choices"]) == ("outside_roots", ["yes", "no", "always"])
    assert asked["question"].startswith(f"Allow write_file to run on {target}: ")
    assert (denied["error"], exists_after_no) == ("permission_denied", False)
    assert json.loads(allowed["output"])["path"] == str(target)
    assert target.read_text() == "x"


async def test_a_link_that_is_swapped_while_a_person_thinks_gets_nothing(world: World) -> None:
    link = world.root / "link"
    link.symlink_to(world.outside)
    await world.call(("write_file", {"path": str(link / "new.txt"), "content": "x"}))
    link.unlink()
    link.symlink_to(world.outside.parent)

    result = await world.answer("yes")

    assert result["error"] == "permission_denied"
    assert not (world.outside.parent / "new.txt").exists()
    assert os.listdir(world.outside) == []


async def test_nothing_of_the_server_is_read_or_written(world: World) -> None:
    await world.call(("write_file", {"path": "mine", "content": "x"}))
    [workspace] = world.workspaces
    (world.root / "data").symlink_to(world.data)
    (workspace / "up").symlink_to("../..")
    store = next(path for path in world.data.iterdir() if path.is_file())
    paths = [str(store), f"../../{store.name}", f"up/{store.name}", str(world.root / "data" / store.name)]

    for path in paths:
        read, write = await world.call(
            ("read_file", {"path": path}), ("write_file", {"path": f"{path}.new", "content": "x"})
        )
        assert read.startswith("outside_roots: ")
        assert write.startswith("permission_denied: ")

    assert [path for path in world.data.iterdir() if path.suffix == ".new"] == []


async def test_an_edit_of_policy_json_by_the_model_is_refused(tmp_path: Path) -> None:
    """The catalog may lie in a root; the model cannot give itself permissions."""
    made = World(tmp_path)
    policy = made.root / "policy.json"
    policy.write_text('[{"tool": "write_file", "action": "allow"}]')
    made.server = FakeServer(
        AssistantProgram(obeying_model()),
        settings={"HOLDFAST_DATA": str(made.data), "HOLDFAST_ROOTS": str(made.root), "CATALOG_DIR": str(made.root)},
    )
    async with made.server:
        made.connect()
        with as_before(made.root):
            [refused] = await made.call(("write_file", {"path": str(policy), "content": "[]"}))

    assert refused.startswith("permission_denied: ")
