"""
Looks through files, as a program of its own: what `grep`, `find` and `file_search` run (`searching.py`).

It is another process so that a pattern that takes for ever, or a tree that has no end, can be stopped by killing it, and
takes no time from the server meanwhile. It reads a task from its input, one JSON object, and writes what it finds, one
JSON object a line, at once. It follows no link: each directory is opened from the one above it.

It imports the standard library alone and is run by its path, so that it starts in some hundredths of a second.
"""

import fnmatch
import heapq
import json
import os
import re
import resource
import stat
import sys
import time
import unicodedata
from collections.abc import Iterator
from typing import Any, NamedTuple

DEPTH_MAX = 100
MEMORY_BYTES = 1024 * 1024 * 1024
LINE_BYTES_MAX = 64 * 1024
EXCERPT_CHARACTERS = 300
# Of a file that is searched for words; whoever looks for more uses grep.
CONTENT_BYTES_MAX = 1024 * 1024

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Found(NamedTuple):
    """An entry of a directory that is looked through. `directory` is open only until the next one is asked for."""

    path: str  # from the place where the look begins
    name: str
    directory: int
    facts: os.stat_result

    @property
    def kind(self) -> str:
        mode = self.facts.st_mode
        if stat.S_ISREG(mode):
            return "file"
        return "directory" if stat.S_ISDIR(mode) else "link" if stat.S_ISLNK(mode) else "other"


class OutOfTime(Exception):
    """It took too long; what was found stays found."""


class Look:
    """One look through the files below a place."""

    def __init__(self, task: dict[str, Any]) -> None:
        self.task = task
        self.ends = time.monotonic() + task["seconds"]
        self.closed = frozenset(task["hidden"])
        self.left_out = 0  # what could not be opened, or lies too deep

    def check(self) -> None:
        if time.monotonic() > self.ends:
            raise OutOfTime

    def entries(self) -> Iterator[Found]:
        """All entries below the place, a directory before what is in it, by name. The place may be a file."""
        root, parts = self.task["root"], self.task["parts"]
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for index, name in enumerate(parts):
            facts = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if index == len(parts) - 1 and not stat.S_ISDIR(facts.st_mode):
                yield Found(name, name, descriptor, facts)
                return
            descriptor = os.open(name, _DIRECTORY, dir_fd=descriptor)
        yield from self._below(descriptor, "", os.path.join(root, *parts), 0)

    def _below(self, directory: int, prefix: str, absolute: str, depth: int) -> Iterator[Found]:
        try:
            with os.scandir(directory) as listed:
                names = sorted(entry.name for entry in listed)
            for name in names:
                self.check()
                try:
                    facts = os.stat(name, dir_fd=directory, follow_symlinks=False)
                except OSError:
                    self.left_out += 1
                    continue
                here = os.path.join(absolute, name)
                if here in self.closed:
                    continue
                yield Found(prefix + name, name, directory, facts)
                if stat.S_ISDIR(facts.st_mode):
                    yield from self._inside(directory, name, prefix + name + "/", here, depth)
        finally:
            os.close(directory)

    def _inside(self, directory: int, name: str, prefix: str, absolute: str, depth: int) -> Iterator[Found]:
        if depth >= DEPTH_MAX:
            self.left_out += 1
            return
        try:
            below = os.open(name, _DIRECTORY, dir_fd=directory)
        except OSError:
            self.left_out += 1
            return
        yield from self._below(below, prefix, absolute, depth + 1)

    def open(self, found: Found) -> Any:
        """The file, to be read as bytes; None: it is no regular file that can be opened."""
        if found.kind != "file":
            return None
        try:
            descriptor = os.open(found.name, _FILE, dir_fd=found.directory)
        except OSError:
            self.left_out += 1
            return None
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return os.fdopen(descriptor, "rb", buffering=LINE_BYTES_MAX)
        os.close(descriptor)
        return None


def tell(**facts: Any) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def grep(look: Look) -> None:
    task = look.task
    try:
        pattern = re.compile(task["pattern"], re.IGNORECASE if task["ignore_case"] else 0)
    except (re.error, RecursionError, OverflowError) as exc:
        tell(error="invalid_input", message=f"the pattern: {exc}")
        return
    count = size = 0
    for found in look.entries():
        if task["name"] is not None and not fnmatch.fnmatchcase(found.name, task["name"]):
            continue
        file = look.open(found)
        if file is None:
            continue
        with file:
            if b"\0" in file.peek(8192)[:8192]:
                continue
            number = 0
            while line := file.readline(LINE_BYTES_MAX):
                number += 1
                look.check()
                text = line.decode(errors="replace").rstrip("\r\n")
                match = pattern.search(text)
                if match is not None:
                    shown = excerpt(text, match.start())
                    size += len(json.dumps([found.path, shown]))
                    if count == task["limit"] or size > task["characters_max"]:
                        tell(truncated="matches")
                        return
                    count += 1
                    tell(path=found.path, line=number, text=shown)
                while len(line) == LINE_BYTES_MAX and not line.endswith(b"\n"):
                    line = file.readline(LINE_BYTES_MAX)


def find(look: Look) -> None:
    task = look.task
    count = size = 0
    for found in look.entries():
        facts = found.facts
        if not fnmatch.fnmatchcase(found.name, task["name"] or "*"):
            continue
        if task["type"] not in (None, found.kind):
            continue
        if not task["bytes_min"] <= facts.st_size <= task["bytes_max"]:
            continue
        if not task["after"] <= facts.st_mtime < task["before"]:
            continue
        size += len(json.dumps(found.path))
        if count == task["limit"] or size > task["characters_max"]:
            tell(truncated="paths")
            return
        count += 1
        tell(path=found.path + ("/" if found.kind == "directory" else ""))


def search(look: Look) -> None:
    """The files that have most of the words, in their paths or in what is in them; the best come last."""
    words = sorted(set(words_of(look.task["query"])))
    best: list[tuple[float, str, str]] = []
    try:
        for found in look.entries():
            if found.kind != "file" or not words:
                continue
            score, text = rate(look, found, words)
            if score > 0:
                item = (round(score / (1 + score), 3), found.path, text)
                heapq.heappush(best, item) if len(best) < look.task["limit"] else heapq.heappushpop(best, item)
    except OutOfTime:
        tell(truncated="time")
    for score, path, text in sorted(best, key=lambda item: (-item[0], item[1])):
        tell(path=path, score=score, excerpt=text)


def rate(look: Look, found: Found, words: list[str]) -> tuple[float, str]:
    path = fold(found.path)
    file = look.open(found)
    if file is None:
        return 0.0, ""
    with file:
        data = file.read(CONTENT_BYTES_MAX)
    content = "" if b"\0" in data[:8192] else data.decode(errors="replace")
    folded = fold(content)
    score, first = 0.0, len(content)
    for word in words:
        count = folded.count(word)
        score += (2.0 if word in path else 0.0) + (1.0 + min(count, 20) / 20 if count else 0.0)
        if count:
            first = min(first, folded.index(word))
    score /= len(words)
    return score, excerpt(content, first).strip() if first < len(content) else ""


def fold(text: str) -> str:
    """Lower case without accents."""
    return "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+", fold(text))


def excerpt(text: str, at: int) -> str:
    begin = max(0, min(at - EXCERPT_CHARACTERS // 3, len(text) - EXCERPT_CHARACTERS))
    return text[begin : begin + EXCERPT_CHARACTERS]


KINDS = {"grep": grep, "find": find, "search": search}


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    look = Look(json.load(sys.stdin))
    # Whoever would end it may have died.
    seconds = int(look.task["seconds"]) + 5
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    try:
        KINDS[look.task["kind"]](look)
    except OutOfTime:
        tell(truncated="time")
    except MemoryError:
        tell(error="tool_failed", message="it takes too much memory")
    except OSError as exc:
        tell(error="not_found" if isinstance(exc, FileNotFoundError) else "io_error", message=str(exc.strerror))
    tell(left_out=look.left_out)


if __name__ == "__main__":
    main()
