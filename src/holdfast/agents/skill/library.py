"""
The skills and capabilities in the files of some roots, as they are now.

Each file is read once, and again when it has changed; all of them are then linked anew and take the place of the former ones
in one assignment, so that who looks something up, from any thread, sees one state of the files. What did not change stays the
same object.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Final, TypeVar

import msgspec
import structlog

from holdfast.agents.skill.capability_reading import read_capability
from holdfast.agents.skill.linking import File, Linked, define, link
from holdfast.agents.skill.lookup import SkillInvalid, SkillNotFound
from holdfast.agents.skill.model import Capability, Definition, Problem, Skill
from holdfast.agents.skill.reading import Report
from holdfast.agents.skill.skill_reading import read_skill
from holdfast.agents.skill.yaml_text import BYTES_MAX, BadYaml, Document

log = structlog.get_logger(__name__)

T = TypeVar("T", Skill, Capability)

PACKAGED: Final = Path(__file__).parent / "builtin"
"""The root with which every library ends: what is built in."""

REFRESH_SECONDS: Final = 0.5
# Of a file that is no YAML: then its callers are told that it has errors, and not that there is nothing of that id.
_SEEMING_ID: Final = re.compile(
    rb"(?m)^(?:\{[ \t]*)?id:[ \t]+[\"']?([a-z0-9_-]+(?:\.[a-z0-9_-]+)*)[\"']?[ \t\r]*(?:$|,|#)"
)
# Two changes of a file that are closer to each other may have one time stamp.
_SETTLED_SECONDS: Final = 0.1


class _Known(msgspec.Struct):
    """A file, and by what a change of it is seen."""

    file: File
    stamp: tuple[int, int, int]
    is_settled: bool
    content: bytes | None  # kept until the stamp cannot be shared by another content


class _Snapshot(msgspec.Struct):
    linked: Linked
    problems: list[Problem]
    broken_capabilities: dict[str, list[Problem]]
    definitions: dict[str, Definition]


class Library:
    """
    Skills and capabilities; a `Lookup`. Before the first `refresh` it is empty.

    Looking up is quick and may be done from any thread while another one refreshes.
    """

    def __init__(self, roots: Iterable[Path | str] = (".",), *, files: Iterable[Path] = ()) -> None:
        """
        Args:
            roots: folders that hold `skills` and `capabilities`; the earlier ones count more. What is built in comes last.
            files: further files, which count more than all roots.
        """
        named: dict[Path, Path] = {}  # one folder under two names is one root
        for root in roots:
            named.setdefault(Path(root).resolve(), Path(root))
        self._roots = [*named.values(), PACKAGED]
        self._files = list(files)
        self._known: dict[Path, _Known] = {}
        self._lock = threading.Lock()  # one refreshes at a time
        self._snapshot = _Snapshot(Linked({}, {}, {}), [], {}, {})

    def put_on_path(self) -> None:
        """Let Python find the modules beside the folders `capabilities`."""
        for root in self._roots[:-1]:
            folder = str(root.resolve())
            if folder not in sys.path:
                sys.path.append(folder)

    # Looking up

    def skill(self, id: str) -> Skill | None:
        return self._snapshot.linked.skills.get(id)

    def skills(self) -> list[Skill]:
        return list(self._snapshot.linked.skills.values())

    def capability(self, id: str) -> Capability | None:
        return self._snapshot.linked.capabilities.get(id)

    def capabilities(self) -> list[Capability]:
        return list(self._snapshot.linked.capabilities.values())

    def problems(self, skill_id: str | None = None) -> list[Problem]:
        """What is wrong with files, by file and line: with all of them, or with those of one skill."""
        found = self._snapshot.problems
        return [problem for problem in found if skill_id is None or problem.skill_id == skill_id]

    def definition(self, target: str) -> Definition:
        """
        All that a run of `skill:<id>` or `capability:<id>` needs; the same object for as long as the files are the same.

        Raises:
            SkillNotFound: no file has that id.
            SkillInvalid: its files have errors.
        """
        snapshot = self._snapshot
        if target in snapshot.definitions:
            return snapshot.definitions[target]
        kind, _, name = target.partition(":")
        skills, capabilities = snapshot.linked.skills, snapshot.linked.capabilities
        if not ((kind == "skill" and name in skills) or (kind == "capability" and name in capabilities)):
            raise self._refusal(snapshot, kind, name)
        found = snapshot.definitions[target] = define(target, snapshot.linked)
        return found

    def _refusal(self, snapshot: _Snapshot, kind: str, name: str) -> Exception:
        if kind == "skill":
            problems = [problem for problem in snapshot.problems if problem.skill_id == name]
        else:
            problems = snapshot.broken_capabilities.get(name, []) if kind == "capability" else []
        errors = [problem for problem in problems if problem.severity == "error"]
        if not errors:
            return SkillNotFound(f"there is no {kind} {name!r}")
        first = errors[0]
        where = f"{first.file}:{first.line}:{first.column}"
        return SkillInvalid(
            f"the {kind} {name!r} has errors, the first is {first.code} at {where}: {first.message}", errors
        )

    def files(self) -> set[str]:
        """The names of all files that were found, but those that are built in."""
        return {known.file.name for path, known in self._known.items() if not path.is_relative_to(PACKAGED)}

    # Following the files

    async def follow(self, seconds: float = REFRESH_SECONDS) -> None:
        """Refresh again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(seconds)
            try:
                is_changed = await asyncio.to_thread(self.refresh)
            except Exception:  # what was loaded is still served, and the next look may go well
                log.exception("skills_not_refreshed")
                continue
            if is_changed:
                self._tell_changed()

    def _tell_changed(self) -> None:
        errors = [problem for problem in self.problems() if problem.severity == "error"]
        if not errors:
            log.info("skills_changed", skills=len(self.skills()), errors=0)
            return
        first = errors[0]
        said = f"{first.file}:{first.line}:{first.column}: {first.code}: {first.message}"
        log.warning("skills_changed", skills=len(self.skills()), errors=len(errors), first=said)

    def refresh(self) -> bool:
        """Read what has changed since the last time; whether anything had. Blocks."""
        with self._lock:
            found = list(self._scan())
            known = {path: self._read(path, root) for path, root in found}
            is_changed = any(known[path] is not self._known.get(path) for path in known) or len(known) != len(
                self._known
            )
            is_first = not self._known
            self._known = known
            if not is_changed:
                return False
            made = _snapshot([(root, known[path].file) for path, root in found], self._snapshot)
            if (made.linked, made.problems) == (self._snapshot.linked, self._snapshot.problems):
                return is_first
            self._snapshot = made
            return True

    def _scan(self) -> Iterator[tuple[Path, Path]]:
        """The files and their roots, the ones that count more first; each file once."""
        seen: set[Path] = set()
        for path in self._files:
            seen.add(path)
            yield path, _root_of(path)
        for root in self._roots:
            for path in (*_walk(root / "skills", _is_skill), *_walk(root / "capabilities", _is_yaml)):
                if path not in seen:
                    seen.add(path)
                    yield path, root

    def _read(self, path: Path, root: Path) -> _Known:
        """The file, read again if it may have changed; the very same if it has not."""
        before = self._known.get(path)
        try:
            status = path.stat()
        except OSError as exc:
            return _Known(_unreadable(path, exc), (0, 0, 0), False, None)
        stamp = status.st_mtime_ns, status.st_size, status.st_ino
        if before is not None and before.stamp == stamp and before.is_settled:
            return before
        try:
            with path.open("rb") as file:
                content = file.read(BYTES_MAX + 1)
        except OSError as exc:
            return _Known(_unreadable(path, exc), stamp, False, None)
        is_settled = time.time_ns() - status.st_mtime_ns > _SETTLED_SECONDS * 1e9
        if before is not None and before.content == content:
            before.stamp, before.is_settled = stamp, is_settled
            before.content = None if is_settled else content
            return before
        return _Known(read_file(path, root, content), stamp, is_settled, None if is_settled else content)


def _is_skill(name: str) -> bool:
    return name == "skill.yaml" or name.endswith(".skill.yaml")


def _is_yaml(name: str) -> bool:
    return name.endswith(".yaml")


def _walk(folder: Path, is_wanted: Callable[[str], bool]) -> Iterator[Path]:
    """The wanted files below a folder, and folders that cannot be listed: reading those fails, which is told as of a file."""
    failed: list[OSError] = []
    for place, folders, names in os.walk(folder, onerror=failed.append):
        # What is hidden is the business of editors, of version control, of how a volume is mounted.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if is_wanted(name) and not name.startswith("."):
                yield Path(place) / name
    for error in failed:
        if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            yield Path(error.filename)


def files_in(folder: Path) -> list[Path]:
    """All files below a folder that are skills or, where it belongs to `capabilities`, capabilities."""
    is_of_capabilities = "capabilities" in folder.resolve().parts
    return list(_walk(folder, _is_yaml if is_of_capabilities else _is_skill))


def _root_of(path: Path) -> Path:
    """The root of a file that was named by itself: what holds the outermost `skills` or `capabilities` above it."""
    found = path.parent
    for parent in path.parents:
        if parent.name in ("skills", "capabilities"):
            found = parent.parent
    return found


# ------------------------------------------------------------------------------------------------------- reading files


def read_file(path: Path, root: Path, content: bytes) -> File:
    """One file, checked as far as it goes by itself. No I/O."""
    name = str(path) if root != PACKAGED else f"holdfast:{path.relative_to(root).as_posix()}"
    is_skill = _is_skill(path.name) and _place(path, root).parts[:1] != ("capabilities",)
    report = Report(name)
    guessed = _SEEMING_ID.search(content)
    if guessed and is_skill:
        report.skill_id = guessed[1].decode()
    document = _document(report, content)
    if document is None:
        found = guessed[1].decode() if guessed else None
        return File(name, None, is_skill, found, tuple(report.problems))
    report.document = document
    report.skill_id = None
    if is_skill:
        skill = read_skill(report, document.value, _place(path, root))
        file = File(name, document, True, report.skill_id, tuple(report.problems), skill=skill)
    else:
        found, capability = read_capability(report, document.value, is_packaged=root == PACKAGED)
        is_unbound = any(problem.code == "unbound_capability" for problem in report.problems)
        problems = tuple(report.problems)
        file = File(name, document, False, found, problems, capability=capability, is_unbound=is_unbound)
    document.forget()
    return file


def _place(path: Path, root: Path) -> PurePosixPath:
    try:
        return PurePosixPath(path.relative_to(root).as_posix())
    except ValueError:
        return PurePosixPath(path.name)


def _document(report: Report, content: bytes) -> Document | None:
    if len(content) > BYTES_MAX:
        report.error("yaml_invalid", (), f"expected at most {BYTES_MAX // 1024} KiB, found more")
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        before = content[: exc.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        report.at((line, column), "yaml_invalid", f"expected UTF-8, found the byte 0x{content[exc.start]:02x}")
        return None
    try:
        return Document(text)
    except BadYaml as exc:
        report.at(exc.place, "yaml_invalid", exc.message)
        return None


def _unreadable(path: Path, exc: OSError) -> File:
    report = Report(str(path))
    report.error("yaml_invalid", (), f"the file cannot be read: {exc.strerror}")
    return File(str(path), None, _is_skill(path.name), None, tuple(report.problems))


# ------------------------------------------------------------------------------------------------------------- linking


def _snapshot(files: list[tuple[Path, File]], before: _Snapshot) -> _Snapshot:
    found: dict[str, list[Problem]] = {}
    for _, file in files:
        found[file.name] = list(file.problems)
    skills = _by_id([(root, file) for root, file in files if file.is_skill], found)
    capabilities = _by_id([(root, file) for root, file in files if not file.is_skill], found)
    linked = link(skills, capabilities)
    for name, problems in linked.problems.items():
        found[name] += problems
    linked.skills = _kept(linked.skills, before.linked.skills)
    linked.capabilities = _kept(linked.capabilities, before.linked.capabilities)
    broken = {name: found[file.name] for name, file in capabilities.items() if name not in linked.capabilities}
    problems = [problem for name in found for problem in sorted(found[name], key=lambda one: (one.line, one.column))]
    return _Snapshot(linked, problems, broken, {})


def _kept(new: dict[str, T], old: dict[str, T]) -> dict[str, T]:
    """The new ones, where they say the same as before the old objects."""
    return {name: old[name] if name in old and old[name] == value else value for name, value in new.items()}


def _by_id(files: Sequence[tuple[Path, File]], found: dict[str, list[Problem]]) -> dict[str, File]:
    """Of each id the file that counts: that of the earliest root, none if that root has two."""
    chosen: dict[str, File] = {}
    roots: dict[str, Path] = {}
    twins: dict[str, list[File]] = defaultdict(list)
    for root, file in files:
        if file.id is None:
            continue
        if file.id not in chosen:
            chosen[file.id], roots[file.id] = file, root
        elif roots[file.id] == root:
            twins[file.id].append(file)
        else:
            _tell(found, file, "shadowed", f"{chosen[file.id].name} comes first, so this file is not used")
    for name, others in twins.items():
        same = [chosen[name], *others]
        for file in same:
            other = next(one for one in same if one is not file)
            _tell(found, file, "duplicate_id", f"the id {name!r} is that of {other.name} too, so neither is used")
        first = chosen[name]
        chosen[name] = File(first.name, first.document, first.is_skill, name, tuple(found[first.name]))
    return chosen


def _tell(found: dict[str, list[Problem]], file: File, code: str, message: str) -> None:
    report = Report(file.name, file.document)
    report.skill_id = file.id if file.is_skill else None
    if code == "shadowed":
        report.warn(code, ("id",), message)
    else:
        report.error(code, ("id",), message)
    found[file.name] += report.problems
