"""
Which commands for a shell a person is asked about first: `destructive_shell` and `unparsed_shell`.

`classify` looks at the text alone, and at the disk for what a path leads to and whether a file is empty. It is a notice on
the door and not the wall: what a program does that the text only names (`python clean.py`, `make`) no rule can see. The
wall is the sandbox.

destructive_shell
    a recursive `rm`, or a `find` that deletes, outside of the roots; `shred`; a recursive `chmod`, `chown` or `chgrp`;
    a file that is not empty is emptied, or outside of the roots written anew.
unparsed_shell
    the text is not understood, or one of these commands, or a command's own name, is computed by the shell.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Final, Literal, Protocol, TypeAlias

from holdfast.agents.tools.shell_syntax import Command, Redirect, commands_of
from holdfast.agents.tools.shell_words import COMPUTED, Piece, Unparsed, Word, word_of

Rule: TypeAlias = Literal["destructive_shell", "unparsed_shell"]

# Texts in texts and commands in commands, as of `sudo sh -c`; directories between which a text may move.
NESTED_MAX: Final = 16
DIRECTORIES_MAX: Final = 16

_TRUNCATING: Final = frozenset({">", ">|", "&>", ">&"})
_DURATION: Final = re.compile(r"[0-9.]+[smhd]?")


class Files(Protocol):
    """What the rules ask the disk."""

    def resolve(self, path: str) -> str:
        """The absolute path without links; of what does not exist as far as it does."""

    def is_filled(self, path: str) -> bool:
        """Whether it is a regular file with something in it."""


class Disk:
    """The disk of this machine."""

    def resolve(self, path: str) -> str:
        return os.path.realpath(path)

    def is_filled(self, path: str) -> bool:
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size > 0


def classify(command: str, roots: Sequence[str], *, cwd: str | None = None, files: Files | None = None) -> Rule | None:
    """
    The rule under which a person is asked about a command, None: none.

    Args:
        roots: the directories in which a shell may write.
        cwd: where the command begins; by default in the first root.
    """
    judge = _Judge(roots, cwd or (roots[0] if roots else "/"), files or Disk())
    judge.script(command)
    if judge.is_destructive:
        return "destructive_shell"
    return "unparsed_shell" if judge.is_unknown else None


class _Place(Enum):
    INSIDE = "inside"
    OUTSIDE = "outside"
    UNKNOWN = "unknown"


class _Judge:
    """Goes through commands in the order of the text and takes note of what it finds."""

    def __init__(self, roots: Sequence[str], cwd: str, files: Files) -> None:
        self.is_destructive = False
        self.is_unknown = False
        self._files = files
        self._roots = [files.resolve(root) for root in roots]
        # Where a relative path may begin; None: anywhere.
        self._cwds: frozenset[str] | None = frozenset({files.resolve(cwd)})
        self._depth = 0

    def script(self, text: str) -> None:
        try:
            commands = commands_of(text)
        except Unparsed:
            self.is_unknown = True
        else:
            self._commands(commands)

    def _commands(self, commands: Sequence[Command]) -> None:
        moves = any(_name(command.words) in _MOVES for command in commands)
        if moves and any(command.is_repeated or "CDPATH" in command.assigned for command in commands):
            self._cwds = None
        for command in commands:
            self._redirects(command)
            if command.words:
                self.words(command.words, command.redirects)

    def words(self, words: Sequence[Word], redirects: Sequence[Redirect] = ()) -> None:
        """Judge one command without what stands around it."""
        name = words[0].literal
        if name is None:
            self.is_unknown = True
            return
        judge = _COMMANDS.get(os.path.basename(name))
        if judge is None:
            return
        if self._depth >= NESTED_MAX:
            self.is_unknown = True
            return
        self._depth += 1
        judge(self, words, redirects)
        self._depth -= 1

    # Paths

    def place(self, word: Word) -> _Place:
        """Where the file is that a word names; of a pattern, where all files are that it may name."""
        literal = word.literal
        if literal is not None:
            return self._place(literal)
        before, behind = word.halves
        if word.is_computed or "/" in behind:
            return _Place.UNKNOWN
        return self._place(before[: before.rfind("/") + 1] or "./")

    def _place(self, path: str) -> _Place:
        if not path:
            return _Place.INSIDE  # no file has an empty name
        paths = self._paths(path)
        if paths is None:
            return _Place.UNKNOWN
        return _Place.INSIDE if all(map(self._is_inside, paths)) else _Place.OUTSIDE

    def _paths(self, path: str) -> list[str] | None:
        if path.startswith("/"):
            return [path]
        return None if self._cwds is None else [os.path.join(cwd, path) for cwd in self._cwds]

    def _is_inside(self, path: str) -> bool:
        if path.startswith("/proc/"):
            return False  # there it means another process
        head, tail = os.path.split(path)
        # A link that stands last is not followed: it is removed itself.
        resolved = self._files.resolve(path) if tail in ("", ".", "..") else f"{self._files.resolve(head)}/{tail}"
        return any(resolved == root or resolved.startswith(f"{root.rstrip('/')}/") for root in self._roots)

    def removes(self, words: Iterable[Word]) -> None:
        """Take note that these are removed with all that is in them."""
        for word in words:
            place = self.place(word)
            self.is_destructive |= place is _Place.OUTSIDE
            self.is_unknown |= place is _Place.UNKNOWN

    def empties(self, word: Word) -> None:
        """Take note that this file is emptied."""
        literal = word.literal
        paths = None if literal is None else self._paths(literal)
        if paths is None:
            self.is_unknown = True
        else:
            self.is_destructive |= any(map(self._files.is_filled, paths))

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Relative paths may begin anywhere meanwhile."""
        cwds, self._cwds = self._cwds, None
        yield
        self._cwds = cwds

    def moves(self, path: str | None) -> None:
        """Take note that the commands behind this one may start in another directory, or in the same."""
        paths = None if path is None else self._paths(path)
        if paths is None or self._cwds is None:
            self._cwds = None
            return
        self._cwds |= {self._files.resolve(one) for one in paths}
        if len(self._cwds) > DIRECTORIES_MAX:
            self._cwds = None

    def _redirects(self, command: Command) -> None:
        written = [redirect for redirect in command.redirects if _is_truncating(redirect)]
        into = [
            redirect for redirect in command.redirects if redirect.descriptor in ("", "1") and ">" in redirect.operator
        ]
        is_silent = _is_silent(command)
        for redirect in written:
            # Of several the last one gets what is written, the others are only emptied.
            is_emptied = is_silent or redirect in into[:-1]
            if is_emptied or (redirect.target.literal and self.place(redirect.target) is _Place.OUTSIDE):
                self.empties(redirect.target)


def _name(words: Sequence[Word]) -> str:
    return os.path.basename(words[0].literal or "") if words else ""


def _is_truncating(redirect: Redirect) -> bool:
    is_copy = redirect.operator == ">&" and re.fullmatch(r"[0-9]*-?", redirect.target.literal or "1")
    return redirect.operator in _TRUNCATING and not is_copy


def _is_silent(command: Command) -> bool:
    """Whether it surely writes nothing."""
    if command.is_compound:
        return False
    name, rest = _name(command.words), [word.literal for word in command.words[1:]]
    reads_nothing = any(one.operator == "<" and one.target.literal == "/dev/null" for one in command.redirects)
    match name:
        case "" | ":" | "true" | "false":
            return not command.words or bool(name)
        case "cat":
            return all(text == "/dev/null" for text in rest) and (bool(rest) or reads_nothing)
        case "printf":
            return rest in ([""], ["%s"], ["%s", ""])
        case "echo":
            return rest in (["-n"], ["-n", ""])
        case _:
            return False


# The commands that are looked at. Each function gets the whole command, its name first.


def _rm(judge: _Judge, words: Sequence[Word], _: Sequence[Redirect]) -> None:
    is_recursive, operands, doubtful = _options(words, "rR", "--recursive")
    if is_recursive:
        judge.removes(operands)
        return
    for word in doubtful:
        others = [operand for operand in operands if operand is not word]
        # It may be `-r`: then all others are removed so, and it may be `-r` and a path, too.
        judge.is_unknown |= word.may_split or any(judge.place(other) is not _Place.INSIDE for other in others)


def _shred(judge: _Judge, _: Sequence[Word], __: Sequence[Redirect]) -> None:
    judge.is_destructive = True


def _change(judge: _Judge, words: Sequence[Word], _: Sequence[Redirect]) -> None:
    """`chmod`, `chown`, `chgrp`."""
    is_recursive, operands, doubtful = _options(words, "R", "--recursive")
    judge.is_destructive |= is_recursive
    # For a name that is computed to do harm as an option, a mode and a file must be left.
    judge.is_unknown |= any(word.may_split or (word.is_computed and len(operands) > 2) for word in doubtful)


def _options(words: Sequence[Word], letters: str, long: str) -> tuple[bool, list[Word], list[Word]]:
    """Whether one option is given, the operands, and those among them that may turn out to be options."""
    is_given, is_over = False, False
    operands: list[Word] = []
    doubtful: list[Word] = []
    for word in words[1:]:
        literal = word.literal
        if is_over or literal is None or not literal.startswith("-") or literal == "-":
            operands.append(word)
            if not is_over and literal is None and (word.may_split or word.halves[0][:1] in ("", "-")):
                doubtful.append(word)
        elif literal == "--":
            is_over = True
        elif literal.startswith("--"):
            is_given = is_given or long.startswith(literal)
        else:
            is_given = is_given or any(letter in literal for letter in letters)
    return is_given, operands, doubtful


def _truncate(judge: _Judge, words: Sequence[Word], _: Sequence[Redirect]) -> None:
    size: str | None = None
    names: list[Word] = []
    awaited = ""
    for word in words[1:]:
        literal = word.literal
        if awaited:
            size, awaited = (literal if awaited == "size" else size), ""
        elif literal is not None and re.fullmatch(r"-[co]*[sr]|--(size|reference)", literal):
            awaited = "size" if literal.endswith("s") or "size" in literal else "reference"
        elif literal is not None and (given := re.match(r"-[co]*s|--size=", literal)):
            size = literal[given.end() :]
        elif literal is None or not literal.startswith("-"):
            names.append(word)
    if size is not None and size.lstrip()[:1] in ("+", ">", "%"):
        return  # it only grows
    for name in names:
        judge.empties(name)


def _copy(judge: _Judge, words: Sequence[Word], _: Sequence[Redirect]) -> None:
    """`cp /dev/null file` and its like."""
    operands = [word for word in words[1:] if not (word.literal or "").startswith("-")]
    if len(operands) > 1 and any(word.literal == "/dev/null" for word in operands[:-1]):
        judge.empties(operands[-1])


def _dd(judge: _Judge, words: Sequence[Word], _: Sequence[Redirect]) -> None:
    texts = [word.literal or "" for word in words]
    if "if=/dev/null" in texts:
        for text in texts:
            if text.startswith("of="):
                judge.empties(word_of(text[3:]))


def _find(judge: _Judge, words: Sequence[Word], _: Sequence[Redirect]) -> None:
    rest = list(words[1:])
    follows = False
    while rest and re.fullmatch(r"-[HLP]|-O[0-9]", rest[0].literal or ""):
        follows |= rest.pop(0).literal == "-L"
    starts: list[Word] = []
    while rest and not (rest[0].literal is not None and rest[0].literal[:1] in ("-", "(", "!", ")", ",")):
        starts.append(rest.pop(0))
    starts = starts or [word_of(".")]
    texts = [word.literal for word in rest]
    follows = follows or "-follow" in texts
    # A test or an action may come out of these.
    judge.is_unknown |= any(word.may_split for word in [*starts[1:], *rest]) or "-files0-from" in texts
    if "-delete" in texts:
        judge.is_unknown |= follows
        judge.removes(starts)
    for at, text in enumerate(texts):
        if text in ("-exec", "-ok", "-execdir", "-okdir"):
            end = next((i for i in range(at, len(texts)) if texts[i] in (";", "+")), len(texts))
            for start in starts:
                found = (
                    Piece(kind="computed", is_quoted=True) if follows or start.literal is None else Piece("*", "glob")
                )
                inner = [_filled_in(word, start, found) for word in rest[at + 1 : end]]
                _run(judge, inner, is_elsewhere=text.endswith("dir"))


def _filled_in(word: Word, start: Word, found: Piece) -> Word:
    """A word of `-exec`, with what is found below `start` in the place of `{}`."""
    before, mark, behind = (word.literal or "").partition("{}")
    if not mark:
        return word
    pieces = (Piece(before), *start.pieces, Piece("/"), found, Piece(behind))
    return Word(tuple(piece for piece in pieces if piece.text or piece.kind != "text"))


def _run(judge: _Judge, words: Sequence[Word], *, is_elsewhere: bool = False) -> None:
    if not words:
        return
    if is_elsewhere:
        with judge.elsewhere():
            judge.words(words)
    else:
        judge.words(words)


def _shell(judge: _Judge, words: Sequence[Word], redirects: Sequence[Redirect]) -> None:
    """`sh -c text`; `sh file` is a program like others; `sh` alone reads what nobody saw."""
    texts = [word.literal for word in words[1:]]
    options = [text for text in texts if text is not None and text[:1] in ("-", "+")]
    operands = [text for text in texts if text is None or text[:1] not in ("-", "+")]
    if any(re.fullmatch(r"-[A-Za-z]*c[A-Za-z]*", option) for option in options):
        _texts(judge, operands)
    elif "-s" in options or not operands:
        if not {"--version", "--help"} & set(options):
            _standard_input(judge, redirects)
    elif operands[0] is None:
        judge.is_unknown = True


def _texts(judge: _Judge, operands: Sequence[str | None]) -> None:
    """The operands of `sh -c`: the first one is the text, but for the value of an option; the others may be computed."""
    for at, text in enumerate(operands):
        if text is not None:
            judge.script(text)
        elif all(before is None for before in operands[:at]):
            judge.is_unknown = True


def _standard_input(judge: _Judge, redirects: Sequence[Redirect]) -> None:
    given = [redirect for redirect in redirects if redirect.operator.startswith("<")]
    if not given:
        judge.is_unknown = True
    for redirect in given:
        if redirect.operator in ("<<", "<<-", "<<<"):
            _texts(judge, [redirect.target.literal])
        elif redirect.operator == "<&" or redirect.target.literal is None:
            judge.is_unknown = True


def _eval(judge: _Judge, words: Sequence[Word], _: Sequence[Redirect]) -> None:
    texts = [word.literal for word in words[1:]]
    if None in texts:
        judge.is_unknown = True
    else:
        judge.script(" ".join(text for text in texts if text is not None).removeprefix("-- "))


def _trap(judge: _Judge, words: Sequence[Word], _: Sequence[Redirect]) -> None:
    operands = [word.literal for word in words[1:] if word.literal not in ("-l", "-p", "-P", "--")]
    if operands and operands[0] != "-":
        _texts(judge, operands[:1])


def _source(judge: _Judge, words: Sequence[Word], _: Sequence[Redirect]) -> None:
    judge.is_unknown |= any(word.may_split or word.literal == "/dev/stdin" for word in words[1:2])


def _define(judge: _Judge, words: Sequence[Word], _: Sequence[Redirect]) -> None:
    """`alias` and `hash` can make a name mean something else."""
    texts = [word.literal for word in words[1:]]
    judge.is_unknown |= any(text is None or "=" in text or text.startswith("-p") for text in texts)


def _move(judge: _Judge, words: Sequence[Word], _: Sequence[Redirect]) -> None:
    operands = [word.literal for word in words[1:] if word.literal not in ("-P", "-L", "-e", "-@", "--")]
    is_plain = _name(words) == "cd" and len(operands) == 1 and operands[0] != "-"
    judge.moves(operands[0] if is_plain else None)


def _wrapper(judge: _Judge, words: Sequence[Word], redirects: Sequence[Redirect]) -> None:
    """
    A command that runs another one. Which of its words begins that, its options decide; so the first word counts that
    names a command which matters, wherever it stands.
    """
    name = _name(words)
    is_computed = False
    for at, word in enumerate(words[1:], 1):
        text = word.literal
        if text is None:
            is_computed = True
            continue
        if os.path.basename(text) in _COMMANDS:
            inner = [*words[at:], *([COMPUTED] if name in ("xargs", "parallel") else [])]
            is_elsewhere = name in _MOVING_WRAPPERS or any(map(_may_move, words[1:at]))
            with judge.elsewhere() if is_elsewhere else _nothing():
                judge.words(inner, redirects)
            return
        if is_computed and not re.match(r"-|[A-Za-z_]\w*=", text) and not _DURATION.fullmatch(text):
            judge.is_unknown = True
        if name in _TEXT_WRAPPERS and re.search(r"[\s;|&]", text):
            with judge.elsewhere():
                judge.script(re.sub(r"\A(-[A-Za-z]*[Sc]|--split-string=|--command=)", "", text))
    judge.is_unknown |= is_computed and all(word.literal is None for word in words[1:])


def _may_move(word: Word) -> bool:
    return bool(re.match(r"-[A-Za-z]*[CDiR]|--(chdir|login|wd|root|working-directory)", word.literal or "-C"))


@contextmanager
def _nothing() -> Iterator[None]:
    yield


_MOVES: Final = frozenset({"cd", "pushd", "popd"})
_MOVING_WRAPPERS: Final = frozenset({"chroot", "su", "runuser", "nsenter", "unshare", "systemd-run"})
_TEXT_WRAPPERS: Final = frozenset({"env", "su", "runuser", "script", "flock", "watch", "parallel", "systemd-run"})

_COMMANDS: Final[Mapping[str, Callable[[_Judge, Sequence[Word], Sequence[Redirect]], None]]] = {
    "rm": _rm,
    "shred": _shred,
    **dict.fromkeys(("chmod", "chown", "chgrp"), _change),
    "truncate": _truncate,
    **dict.fromkeys(("cp", "install"), _copy),
    "dd": _dd,
    "find": _find,
    **dict.fromkeys(("sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "rbash"), _shell),
    "eval": _eval,
    "trap": _trap,
    **dict.fromkeys(("source", "."), _source),
    **dict.fromkeys(("alias", "hash"), _define),
    **dict.fromkeys(_MOVES, _move),
    **dict.fromkeys(("command", "builtin", "exec", "env", "nohup", "setsid", "nice", "ionice", "chrt"), _wrapper),
    **dict.fromkeys(("timeout", "time", "stdbuf", "xargs", "parallel", "watch", "flock", "script"), _wrapper),
    **dict.fromkeys(("sudo", "doas", "su", "runuser", "chroot", "unshare", "nsenter", "systemd-run"), _wrapper),
    **dict.fromkeys(("busybox", "toybox", "taskset", "prlimit", "strace", "ltrace", "faketime", "unbuffer"), _wrapper),
}
