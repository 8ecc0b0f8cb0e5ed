"""Check 29, files: what is read and written, what leads out of the roots, and what no file can do to the server."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import signal
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from holdfast.agents.assistant.calls import OUTPUT_CHARACTERS_MAX
from holdfast.agents.tools import Call, Ground, Reason, Tool, ToolError, file_tools
from holdfast.agents.tools import reading as reading_module
from holdfast.agents.tools import writing as writing_module
from holdfast.agents.tools.places import locate, open_file, opened_directory
from holdfast.agents.tools.searching import grep_tool
from holdfast.execution.codec import encode_result
from holdfast.execution.context import Context

TOOLS = {tool.name: tool for tool in file_tools()}


class World:
    """A workspace and a root, beside them what is nobody's business, and what is the server's own."""

    def __init__(self, base: Path) -> None:
        self.base = Path(os.path.realpath(base))
        self.data = self.base / "data"
        self.workspace = self.data / "workspaces" / "w"
        self.root = self.base / "root"
        self.catalog = self.root / "catalog"
        self.outside = self.base / "outside"
        for place in (self.workspace, self.catalog, self.outside):
            place.mkdir(parents=True)
        (self.outside / "secret.txt").write_text("secret")
        (self.data / "server.json").write_text("token secret")
        self.ground = Ground((self.workspace, self.root), hidden=(self.data,), kept=(self.catalog,))

    async def call(self, tool: str | Tool[Any], /, *, passed: Reason | None = None, **arguments: Any) -> Any:
        declared = TOOLS[tool] if isinstance(tool, str) else tool
        call = Call(cast(Context, None), "c1", "c1", ground=self.ground, passed=passed)
        value = await declared.function(call, declared.read(arguments))
        return msgspec.json.decode(encode_result(value, what="the result"))

    async def refused(self, tool: str, /, **arguments: Any) -> str:
        with pytest.raises(ToolError) as refusal:
            await self.call(tool, **arguments)
        assert "secret" not in str(refusal.value).replace("secret.txt", "")
        return refusal.value.code

    def asks(self, path: str) -> Reason | None:
        tool = TOOLS["write_file"]
        assert tool.guard is not None
        return tool.guard(tool.read({"path": path, "content": ""}), self.ground)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# Reading


async def test_lines_are_read_in_portions_that_fit_together(world: World) -> None:
    lines = [f"line {number} ü🎣\r\n" for number in range(9)] + ["the end, without a line end"]
    (world.workspace / "a.txt").write_text("".join(lines), newline="")

    found, offset = "", cast(int | None, 0)
    while offset is not None:
        part = await world.call("read_file", path="a.txt", offset=offset, limit=3)
        found += part["content"]
        offset = part["next_offset"]

    assert found == "".join(lines)


async def test_a_file_of_any_size_is_read_50_kib_at_a_time(world: World) -> None:
    (world.workspace / "big").write_bytes(b"".join(b"%09d\n" % number for number in range(200_000)))

    first = await world.call("read_file", path="big", limit=100_000)
    last = await world.call("read_file", path="big", offset=199_999)
    behind = await world.call("read_file", path="big", offset=200_000)

    assert len(first["content"]) == 51_200
    assert first["next_offset"] == first["lines"] == 5_120
    assert last == {"content": "000199999\n", "lines": 1, "next_offset": None}
    assert behind == {"content": "", "lines": 0, "next_offset": None}


async def test_a_line_that_is_too_long_is_cut_and_the_next_one_is_found(world: World) -> None:
    (world.workspace / "long").write_text("ü" * 40_000 + "\nnext\n")

    cut = await world.call("read_file", path="long")
    rest = await world.call("read_file", path="long", offset=cut["next_offset"])

    assert cut == {"content": "ü" * 25_600, "lines": 1, "next_offset": 1, "line_cut": True}
    assert rest["content"] == "next\n"


@pytest.mark.parametrize("size", [51_199, 51_200, 51_201])
async def test_nothing_is_lost_where_the_limit_falls(world: World, size: int) -> None:
    text = "x" * (size - 1) + "\n" + "tail"
    (world.workspace / "edge").write_text(text)

    part = await world.call("read_file", path="edge")
    rest = await world.call("read_file", path="edge", offset=part["next_offset"])

    assert part["content"] == text[: min(size, 51_200)]
    assert rest == {"content": "tail", "lines": 1, "next_offset": None}


@pytest.mark.parametrize("line", ["\n", '"\n', "\x1b\n", "\u2028\n", "\\" * 200 + "\n", "\x1b" * 40_000 + "\n"])
async def test_what_grows_as_json_still_fits_into_a_result(world: World, line: str) -> None:
    (world.workspace / "wide").write_text(line * 60_000 if len(line) < 1_000 else line * 2)

    part = await world.call("read_file", path="wide", limit=100_000)

    assert len(encode_result(part, what="it").decode()) < OUTPUT_CHARACTERS_MAX
    assert part["next_offset"] == part["lines"] > 0
    assert part["content"] in ((line * part["lines"]), line[:10_000])


async def test_an_empty_file_is_an_empty_text(world: World) -> None:
    (world.workspace / "empty").touch()

    assert await world.call("read_file", path="empty") == {"content": "", "lines": 0, "next_offset": None}


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a\0b", b"\x89PNG\r\n\x1a\n\0", "ü".encode()[:1]])
async def test_what_is_no_text_is_not_read(world: World, data: bytes) -> None:
    (world.workspace / "binary").write_bytes(data)

    assert await world.refused("read_file", path="binary") == "not_text"


async def test_what_is_no_file_is_not_read(world: World) -> None:
    os.mkfifo(world.workspace / "pipe")
    (world.workspace / "folder").mkdir()

    assert await world.refused("read_file", path="pipe") == "not_a_file"
    assert await world.refused("read_file", path="folder") == "not_a_file"
    assert await world.refused("read_file", path=".") == "not_a_file"
    assert await world.refused("read_file", path="none") == "not_found"
    assert await world.refused("read_file", path="none/deep") == "not_found"
    assert await world.refused("read_file", path="a\0b") == "invalid_input"
    assert await world.refused("read_file", path="x" * 300) == "invalid_input"
    assert await world.refused("read_file", path="x/" * 3000) == "invalid_input"


async def test_skipping_ends_with_its_time_and_with_the_call(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (world.workspace / "big").write_bytes(b"x" * 1_000_000)
    monkeypatch.setattr(reading_module, "SECONDS_MAX", 0.0)

    assert await world.refused("read_file", path="big", offset=10) == "tool_timeout"


def _links(world: World) -> list[str]:
    """Paths that lead out, each in another way."""
    inside = world.workspace
    (inside / "to_file").symlink_to(world.outside / "secret.txt")
    (inside / "to_folder").symlink_to(world.outside)
    (inside / "relative").symlink_to("../../../outside")
    (inside / "chain").symlink_to("to_folder")
    (inside / "folder").mkdir()
    (inside / "folder" / "up").symlink_to("../to_folder/secret.txt")
    (inside / "to_own").symlink_to(world.data / "server.json")
    (world.root / "to_data").symlink_to(world.data)
    return [
        str(world.outside / "secret.txt"),
        "../../../outside/secret.txt",
        "folder/../../../../outside/secret.txt",
        "to_file",
        "to_folder/secret.txt",
        "to_folder/../outside/secret.txt",
        "relative/secret.txt",
        "chain/secret.txt",
        "folder/up",
        "to_own",
        "../../server.json",
        "../other/secret.txt",
        str(world.root / "to_data" / "server.json"),
        str(world.data / "server.json"),
        "/proc/self/environ",
        "/etc/passwd",
        "/",
    ]


async def test_no_path_leads_a_reader_out_of_the_roots(world: World) -> None:
    for path in _links(world):
        for tool, more in (
            ("read_file", {}),
            ("grep", {"pattern": "."}),
            ("find", {}),
            ("file_search", {"query": "s"}),
        ):
            assert (path, tool, await world.refused(tool, path=path, **more)) == (path, tool, "outside_roots")


async def test_whatever_a_path_is_made_of_it_reads_and_writes_inside_alone(world: World) -> None:
    _links(world)
    for folder in (world.workspace, world.workspace / "folder", world.root):
        (folder / "secret.txt").write_text("mine")
    before = {path: path.read_bytes() for path in world.base.rglob("*") if path.is_file()}
    names = [
        "..",
        ".",
        "",
        "folder",
        "to_folder",
        "relative",
        "chain",
        "up",
        "data",
        "root",
        "outside",
        "workspaces",
        "w",
    ]
    dice = random.Random(29)
    seen = set()
    for _ in range(600):
        begin = dice.choice(["", "", f"{world.root}/", f"{world.base}/", "/", f"{world.workspace}/to_folder/"])
        path = begin + "/".join(dice.choices(names, k=dice.randrange(6))) + dice.choice(["/secret.txt", "/server.json"])
        try:
            seen.add((await world.call("read_file", path=path))["content"])
        except ToolError as refusal:
            seen.add(refusal.code)
        if (world.workspace / path).exists():  # else it makes directories, for ever new ones
            with contextlib.suppress(ToolError):
                await world.call("write_file", path=path, content="mine")

    assert "mine" in seen
    assert "outside_roots" in seen
    assert seen <= {"mine", "outside_roots", "not_found", "not_a_directory", "not_a_file"}
    assert {path: path.read_bytes() for path in world.base.rglob("*") if path.is_file()} == before


async def test_links_inside_of_the_roots_are_followed(world: World) -> None:
    (world.root / "shared.txt").write_text("shared")
    (world.workspace / "link").symlink_to(world.root / "shared.txt")
    (world.workspace / "loop").symlink_to("loop")

    assert (await world.call("read_file", path="link"))["content"] == "shared"
    assert (await world.call("read_file", path=str(world.root / "shared.txt")))["content"] == "shared"
    assert await world.refused("read_file", path="loop") in ("outside_roots", "not_found", "not_a_file")


async def test_without_a_workspace_there_are_no_files(world: World) -> None:
    world.ground = Ground()

    assert await world.refused("read_file", path="/etc/passwd") == "not_configured"
    assert await world.refused("write_file", path="a", content="") == "not_configured"


# Races


def _swap(world: World, path: str, then: Callable[[], None]) -> Any:
    """A place that was found, and what happens before it is opened."""
    place = locate(path, world.ground)
    then()
    return place


def test_a_file_that_becomes_a_link_after_the_look_is_not_opened(world: World) -> None:
    target = world.workspace / "a.txt"
    target.write_text("mine")

    def swap() -> None:
        target.unlink()
        target.symlink_to(world.outside / "secret.txt")

    place = _swap(world, "a.txt", swap)

    with pytest.raises(ToolError, match="changed while"):
        open_file(place)


def test_a_directory_that_becomes_a_link_after_the_look_is_not_entered(world: World) -> None:
    folder = world.workspace / "folder"
    folder.mkdir()
    (folder / "secret.txt").write_text("mine")

    def swap() -> None:
        folder.rename(world.workspace / "elsewhere")
        folder.symlink_to(world.outside)

    place = _swap(world, "folder/secret.txt", swap)

    with pytest.raises(ToolError):
        open_file(place)
    with pytest.raises(ToolError), opened_directory(place, make=True, above=1):
        pass
    assert os.listdir(world.outside) == ["secret.txt"]


async def test_a_thousand_swaps_let_no_reader_and_no_writer_out(world: World) -> None:
    """One thread puts a link and a directory in the way by turns, the other reads and writes through it."""
    real, link = world.workspace / "real", world.workspace / "link"
    real.mkdir()
    (real / "secret.txt").write_text("mine")
    link.symlink_to(world.outside)
    way, over = world.workspace / "way", threading.Event()

    def swap() -> None:
        for number in itertools.count():
            for place in (real, link):
                with contextlib.suppress(OSError):
                    place.rename(way)
                with contextlib.suppress(OSError):
                    way.rename(place)
                if os.path.lexists(place):  # else what is in the way is what the writer missed, and made
                    with contextlib.suppress(OSError):
                        way.rename(world.workspace / f"made{number}{place.name}")
            if over.is_set():
                return

    thread = threading.Thread(target=swap)
    thread.start()
    seen = set()
    try:
        for number in range(500):
            try:
                seen.add((await world.call("read_file", path="way/secret.txt"))["content"])
                await world.call("write_file", path=f"way/{number % 5}", content="x")
            except ToolError as refusal:
                seen.add(refusal.code)
    finally:
        over.set()
        thread.join()

    assert seen
    assert seen <= {"mine", "outside_roots", "not_found", "not_a_directory"}
    assert os.listdir(world.outside) == ["secret.txt"]


# Writing


async def test_a_file_is_written_whole_with_the_directories_on_its_way(world: World) -> None:
    new = await world.call("write_file", path="a/b/c.txt", content="ü")
    again = await world.call("write_file", path=str(world.workspace / "a/b/c.txt"), content="")

    assert new == {"path": "a/b/c.txt", "bytes": 2, "created": True}
    assert again == {"path": "a/b/c.txt", "bytes": 0, "created": False}
    assert os.listdir(world.workspace / "a" / "b") == ["c.txt"]


async def test_a_replaced_file_keeps_its_mode_and_who_reads_it_keeps_the_old_one(world: World) -> None:
    path = world.root / "run.sh"
    path.write_text("old")
    path.chmod(0o750)

    with path.open() as reader:
        await world.call("write_file", path=str(path), content="new")

        assert reader.read() == "old"
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o750


async def test_a_write_that_breaks_off_leaves_the_old_file_and_nothing_beside(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    (world.workspace / "a.txt").write_text("old")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", fail)

    assert await world.refused("write_file", path="a.txt", content="new") == "storage_full"
    assert os.listdir(world.workspace) == ["a.txt"]
    assert (world.workspace / "a.txt").read_text() == "old"


async def test_a_disk_that_is_nearly_full_is_left_to_the_server(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing_module, "FREE_BYTES_MIN", 2**62)

    assert await world.refused("write_file", path="a", content="x") == "storage_full"


async def test_more_than_a_mebibyte_is_not_written(world: World) -> None:
    await world.call("write_file", path="a", content="x" * 1024 * 1024)

    assert await world.refused("write_file", path="a", content="ü" * 600_000) == "invalid_input"
    assert await world.refused("write_file", path="a", content="x" * 1_048_577) == "invalid_input"
    assert (world.workspace / "a").stat().st_size == 1024 * 1024


async def test_what_is_no_file_is_not_written(world: World) -> None:
    os.mkfifo(world.workspace / "pipe")
    (world.workspace / "file").touch()

    assert await world.refused("write_file", path="pipe", content="x") == "not_a_file"
    assert await world.refused("write_file", path=".", content="x") == "not_a_file"
    assert await world.refused("write_file", path="file/below", content="x") == "not_a_directory"


async def test_writing_outside_is_asked_about_and_done_where_it_was_allowed(world: World) -> None:
    (world.workspace / "link").symlink_to(world.outside)
    asked = world.asks("link/new.txt")
    assert asked == Reason("outside_roots", target=str(world.outside / "new.txt"))

    assert await world.refused("write_file", path="link/new.txt", content="x") == "outside_roots"
    assert not (world.outside / "new.txt").exists()
    written = await world.call("write_file", passed=asked, path="link/new.txt", content="x")

    assert written == {"path": str(world.outside / "new.txt"), "bytes": 1, "created": True}
    assert (world.outside / "new.txt").read_text() == "x"


async def test_a_permission_for_one_place_is_none_for_another(world: World) -> None:
    link = world.workspace / "link"
    link.symlink_to(world.outside)
    asked = world.asks("link/new.txt")
    link.unlink()
    link.symlink_to(world.base)

    with pytest.raises(ToolError, match="nobody allowed"):
        await world.call("write_file", passed=asked, path="link/new.txt", content="x")

    assert not (world.base / "new.txt").exists()


async def test_the_servers_own_is_written_by_nobody_whoever_allows_it(world: World) -> None:
    (world.workspace / "link").symlink_to(world.data)
    for path in ("link/server.json", "../../server.json", "../other/a", str(world.catalog / "policy.json")):
        place = locate(path, world.ground).path

        assert world.asks(path) is None  # there is nothing to be decided
        with pytest.raises(ToolError) as refusal:
            await world.call("write_file", passed=Reason("outside_roots", target=str(place)), path=path, content="[]")
        assert refusal.value.code == "permission_denied"
    assert (world.data / "server.json").read_text() == "token secret"
    assert os.listdir(world.catalog) == []


async def test_the_catalog_may_be_read_where_it_lies_in_a_root(world: World) -> None:
    (world.catalog / "policy.json").write_text("[]")

    assert (await world.call("read_file", path=str(world.catalog / "policy.json")))["content"] == "[]"


# Looking


@pytest.fixture
def tree(world: World) -> World:
    base = world.workspace
    (base / "src" / "deep").mkdir(parents=True)
    (base / "src" / "one.py").write_text("import os\nprint('One')\n")
    (base / "src" / "deep" / "two.py").write_text("x = 1\nprint('two')\n")
    (base / "notes.md").write_text("The Café pays on the 5th.\n")
    (base / "binary").write_bytes(b"print\0")
    (base / "out").symlink_to(world.outside)
    (base / "out.txt").symlink_to(world.outside / "secret.txt")
    return world


async def test_grep_tells_lines_by_path_and_number(tree: World) -> None:
    found = await tree.call("grep", pattern=r"print\('(one|two)'\)", ignore_case=True)

    assert found == {
        "matches": [
            {"path": "src/deep/two.py", "line": 2, "text": "print('two')"},
            {"path": "src/one.py", "line": 2, "text": "print('One')"},
        ],
        "truncated": None,
        "left_out": 0,
    }
    assert len((await tree.call("grep", pattern="print", name="one.*"))["matches"]) == 1
    assert (await tree.call("grep", pattern="import", path="src/one.py"))["matches"][0]["path"] == "src/one.py"


async def test_nothing_that_looks_through_files_follows_links(tree: World) -> None:
    assert (await tree.call("grep", pattern="secret"))["matches"] == []
    assert (await tree.call("file_search", query="secret"))["hits"] == []
    assert "out/secret.txt" not in (await tree.call("find"))["paths"]


async def test_nothing_that_looks_through_a_root_sees_the_servers_own(world: World) -> None:
    world.ground = Ground((world.workspace, world.base), hidden=(world.data,))

    found = await world.call("find", path=str(world.base))
    matches = await world.call("grep", path=str(world.base), pattern="secret")

    assert str(world.outside / "secret.txt") in found["paths"]
    assert [path for path in found["paths"] if path.startswith(str(world.data))] == []
    assert [match["path"] for match in matches["matches"]] == [str(world.outside / "secret.txt")]


async def test_a_root_that_comes_first_opens_nothing_of_the_servers_own(world: World) -> None:
    """A call without a task has no workspace: its relative paths begin in the first of the roots."""
    world.ground = Ground((world.base,), hidden=(world.data,), kept=(world.catalog,))

    assert (await world.call("read_file", path="outside/secret.txt"))["content"] == "secret"
    assert await world.refused("read_file", path="data/server.json") == "outside_roots"
    assert await world.refused("write_file", path="data/a", content="") == "permission_denied"
    assert await world.refused("write_file", path="root/catalog/a", content="") == "permission_denied"
    assert [m["path"] for m in (await world.call("grep", pattern="secret"))["matches"]] == ["outside/secret.txt"]


async def test_grep_ends_with_a_hundred_matches(world: World) -> None:
    (world.workspace / "many").write_text("x\n" * 101)
    (world.workspace / "wide").write_text("y" * 200_000 + "z\nlast z\n")

    found = await world.call("grep", pattern="x")
    wide = await world.call("grep", pattern="y+")

    assert (len(found["matches"]), found["truncated"]) == (100, "matches")
    assert [len(match["text"]) for match in wide["matches"]] == [300]
    assert (await world.call("grep", pattern="last"))["matches"][0]["line"] == 2


async def test_matches_that_grow_as_json_still_fit_into_a_result(world: World) -> None:
    (world.workspace / "wide").write_text(("x" + "\x1b" * 400 + "\n") * 100)

    found = await world.call("grep", pattern="x")

    assert len(encode_result(found, what="it").decode()) < OUTPUT_CHARACTERS_MAX
    assert found["truncated"] == "matches"


async def test_a_pattern_that_takes_for_ever_is_ended_and_what_was_found_stays(world: World) -> None:
    (world.workspace / "a").write_text("aaa!\n")
    (world.workspace / "b").write_text("a" * 60 + "\n")
    began = time.monotonic()

    found = await world.call(grep_tool(0.1), pattern="(a+)+!")

    assert [match["path"] for match in found["matches"]] == ["a"]
    assert found["truncated"] == "time"
    assert time.monotonic() - began < 60


async def test_a_look_ends_with_its_call(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (world.workspace / "a").write_text("a" * 60 + "\n")
    started: asyncio.Queue[asyncio.subprocess.Process] = asyncio.Queue()
    begin = asyncio.create_subprocess_exec

    async def begun(*command: Any, **options: Any) -> asyncio.subprocess.Process:
        assert options["env"] == {}
        process = await begin(*command, **options)
        started.put_nowait(process)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", begun)
    call = asyncio.create_task(world.call(grep_tool(600), pattern="(a+)+!"))
    process = await started.get()

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("pattern", ["(", "[z-a]", "(?P<n>", "a{4294967296}", "(" * 900 + ")" * 900])
async def test_what_is_no_pattern_is_invalid_input(world: World, pattern: str) -> None:
    (world.workspace / "a").write_text("a")

    assert await world.refused("grep", pattern=pattern) == "invalid_input"


async def test_find_goes_by_name_type_size_and_time(tree: World) -> None:
    os.utime(tree.workspace / "notes.md", (0, 0))
    (tree.workspace / "big.py").write_bytes(b"x" * 1000)

    async def paths(**wanted: Any) -> list[str]:
        return list((await tree.call("find", **wanted))["paths"])

    assert await paths(name="*.py") == ["big.py", "src/deep/two.py", "src/one.py"]
    assert await paths(type="directory") == ["src/", "src/deep/"]
    assert await paths(type="link") == ["out", "out.txt"]
    assert await paths(type="file", bytes_min=1000) == ["big.py"]
    assert await paths(type="file", bytes_max=6) == ["binary"]
    assert await paths(modified_before="2001-01-01") == ["notes.md"]
    assert await paths(type="file", modified_after="2001-01-01T00:00:00Z", name="n*") == []
    assert await paths(path="src", type="file") == ["src/deep/two.py", "src/one.py"]
    assert await tree.refused("find", modified_after="yesterday") == "invalid_input"


async def test_find_ends_with_a_thousand_paths(world: World) -> None:
    for number in range(1_001):
        (world.workspace / f"{number:04}").touch()

    found = await world.call("find")

    assert (len(found["paths"]), found["paths"][-1], found["truncated"]) == (1_000, "0999", "paths")


async def test_names_of_any_kind_are_told_and_read(world: World) -> None:
    names = ["two\nlines", 'quo"te', "\u2028", "🎣", "-rf", " blank ", "\x1b[31m"]
    for name in names:
        (world.workspace / name).write_text("needle\n")
    (world.workspace / os.fsdecode(b"bad-\xff")).write_text("needle")

    found = await world.call("grep", pattern="needle")
    paths = await world.call("find")

    assert {match["path"] for match in found["matches"]} == {*names, "bad-\ufffd"}
    assert set(paths["paths"]) == {*names, "bad-\ufffd"}
    for name in names:
        assert (await world.call("read_file", path=name))["content"] == "needle\n"


async def test_a_tree_without_a_bottom_has_an_end(world: World) -> None:
    here = world.workspace
    for _ in range(150):
        here = here / "d"
        here.mkdir()
    (here / "needle").write_text("needle")

    found = await world.call("find", name="needle")

    assert (found["paths"], found["left_out"]) == ([], 1)


async def test_files_are_found_by_words_in_names_and_contents_the_best_first(tree: World) -> None:
    (tree.workspace / "cafe.md").write_text("nothing")

    found = await tree.call("file_search", query="CAFE pays")

    assert [hit["path"] for hit in found["hits"]] == ["notes.md", "cafe.md"]
    assert found["hits"][0]["excerpt"] == "The Café pays on the 5th."
    assert all(0 < hit["score"] < 1 for hit in found["hits"])
    assert (await tree.call("file_search", query="?!"))["hits"] == []


async def test_at_most_twenty_files_are_found(world: World) -> None:
    for number in range(25):
        (world.workspace / f"needle{number}").touch()

    assert len((await world.call("file_search", query="needle"))["hits"]) == 20
