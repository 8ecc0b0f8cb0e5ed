"""Workspaces: one for each task, removed with it, never found again by another one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.agents.tools.gate import ground_of
from holdfast.agents.tools.workspaces import Workspaces, remove_tree
from holdfast.model import Run, Status, Thread
from holdfast.settings import InvalidSetting, Settings


class FewTasks:
    """What workspaces ask a store."""

    def __init__(self) -> None:
        self.threads: dict[tuple[str, str], Thread] = {}
        self.runs: dict[tuple[str, str], Run] = {}

    async def thread(self, tenant: str, thread_id: str) -> Thread | None:
        return self.threads.get((tenant, thread_id))

    async def run(self, tenant: str, run_id: str) -> Run | None:
        return self.runs.get((tenant, run_id))

    def task(self, thread_id: str, *, tenant: str = "default", created_at: int = 1) -> Run:
        thread = Thread(tenant=tenant, thread_id=thread_id, agent="a", created_at=created_at, updated_at=1)
        self.threads[(tenant, thread_id)] = thread
        return a_run(tenant=tenant, thread_id=thread_id)


def a_run(**fields: Any) -> Run:
    given = {"number": 1, "run_id": "r", "agent": "a", "agent_id": "a", "status": Status.RUNNING, **fields}
    return Run(input=b"null", created_at=1, tail_sequence=-1, **given)


@pytest.fixture
def store() -> FewTasks:
    return FewTasks()


@pytest.fixture
def workspaces(tmp_path: Path, store: FewTasks) -> Workspaces:
    return Workspaces(tmp_path, store)  # type: ignore[arg-type]  # the part of a store that it uses


async def test_a_task_has_one_workspace_and_each_task_its_own(workspaces: Workspaces, store: FewTasks) -> None:
    one = await workspaces.of(store.task("../../etc/🎣\\"))
    two = await workspaces.of(store.task("two"))
    elsewhere = await workspaces.of(store.task("two", tenant="other"))

    assert one == await workspaces.of(store.task("../../etc/🎣\\"))
    assert len({one, two, elsewhere}) == 3
    assert one.parent == two.parent == elsewhere.parent
    assert one.stat().st_mode & 0o777 == 0o700


async def test_a_task_that_is_made_anew_never_finds_the_files_of_the_old_one(
    workspaces: Workspaces, store: FewTasks
) -> None:
    old = await workspaces.of(store.task("t"))
    (old / "left").touch()

    assert os.listdir(await workspaces.of(store.task("t", created_at=2))) == []


async def test_a_workspace_goes_with_its_task(workspaces: Workspaces, store: FewTasks) -> None:
    here = await workspaces.of(store.task("t"))
    (here / "file").touch()

    await workspaces.remove("default", "t", 1)
    await workspaces.remove("default", "t", 1)

    assert os.listdir(here.parent) == []


async def test_what_a_crash_left_is_swept_and_what_is_needed_stays(workspaces: Workspaces, store: FewTasks) -> None:
    kept = await workspaces.of(store.task("kept"))
    gone = await workspaces.of(store.task("gone"))
    anew = await workspaces.of(store.task("anew"))
    running, over = a_run(run_id="running"), a_run(run_id="over")
    places = [await workspaces.of(run) for run in (running, over)]
    store.runs = {("default", "running"): running}
    store.runs["default", "over"] = msgspec.structs.replace(over, status=Status.COMPLETED)
    del store.threads["default", "gone"]
    store.task("anew", created_at=2)
    (kept.parent / ".trash-1").mkdir()
    (kept.parent / "torn.json").write_bytes(b'{"tenant":"def')

    assert await workspaces.sweep() == 3

    assert [place.exists() for place in (kept, gone, anew, *places)] == [True, False, False, True, False]
    assert len(os.listdir(kept.parent)) == 5
    assert await workspaces.sweep() == 0


def test_a_tree_is_removed_however_deep_and_its_links_are_not_followed(tmp_path: Path) -> None:
    top, outside = tmp_path / "top", tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    top.mkdir()
    (top / "link").symlink_to(outside)
    (top / "pipe").touch()
    descriptor = os.open(top, os.O_RDONLY)
    for _ in range(3000):  # deeper than a path can be long, and than Python calls itself
        os.mkdir("deep", dir_fd=descriptor)
        below = os.open("deep", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    (top / "closed").mkdir(mode=0o000)

    remove_tree(top)

    assert os.listdir(tmp_path) == ["outside"]
    assert os.listdir(outside) == ["file"]


def test_roots_are_directories_that_are_not_the_servers_own(tmp_path: Path) -> None:
    data, root = tmp_path / "data", tmp_path / "root"
    (data / "files").mkdir(parents=True)
    root.mkdir()
    (tmp_path / "link").symlink_to(root)

    ground = ground_of(Settings(data=str(data), roots=(str(tmp_path / "link"),), catalog=str(root)))

    assert (ground.roots, ground.hidden, ground.kept) == ((root,), (data,), (root,))
    for wrong in (data, data / "files", tmp_path / "none", "/etc/passwd"):
        with pytest.raises(InvalidSetting, match="HOLDFAST_ROOTS"):
            ground_of(Settings(data=str(data), roots=(str(wrong),)))
    with pytest.raises(InvalidSetting, match="the server's own"):
        ground_of(Settings(data=str(tmp_path / "elsewhere"), store=str(data), roots=(str(data / "files"),)))
