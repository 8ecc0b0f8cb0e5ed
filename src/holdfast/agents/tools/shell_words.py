"""
The words of a shell's text, and what is substituted in them. No I/O.

A word keeps apart what is known before the shell runs (`literal`) from what the shell computes. Commands in substitutions
are read by whoever reads commands (`script`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal, NoReturn, TypeAlias

import msgspec

Kind: TypeAlias = Literal["text", "glob", "computed"]

DEPTH_MAX: Final = 40
STEPS_MAX: Final = 200_000

META: Final = frozenset(" \t\n;&|<>()")
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_SPECIAL: Final = frozenset("@*#?-$!0123456789")


class Unparsed(Exception):
    """This is not read here: it is no text for a shell, or uses what only bash itself can tell."""


class Piece(msgspec.Struct, frozen=True):
    """A part of a word. What is computed has no text."""

    text: str = ""
    kind: Kind = "text"
    is_quoted: bool = False


class Word(msgspec.Struct, frozen=True):
    """One word, before the shell expands it."""

    pieces: tuple[Piece, ...] = ()

    @property
    def literal(self) -> str | None:
        """The word as the command gets it; None: the shell has to compute it."""
        if any(piece.kind != "text" for piece in self.pieces):
            return None
        return "".join(piece.text for piece in self.pieces)

    @property
    def is_computed(self) -> bool:
        """Whether anything but names of files that match goes into it."""
        return any(piece.kind == "computed" for piece in self.pieces)

    @property
    def may_split(self) -> bool:
        """Whether it may become several words that are no names of files."""
        return any(piece.kind == "computed" and not piece.is_quoted for piece in self.pieces)

    @property
    def halves(self) -> tuple[str, str]:
        """The text in front of the first piece that is not plain, and the texts from there on."""
        texts = ["", ""]
        is_plain = True
        for piece in self.pieces:
            is_plain = is_plain and piece.kind == "text"
            texts[not is_plain] += piece.text
        return texts[0], texts[1]


COMPUTED: Final = Word((Piece(kind="computed"),))


def word_of(text: str) -> Word:
    """The word that is this text."""
    return Word((Piece(text, is_quoted=True),))


class Effort:
    """How deeply texts are nested, and how much was read of them: what looks like arithmetic may be read twice."""

    def __init__(self) -> None:
        self._depth = 0
        self._steps = 0

    def step(self) -> None:
        self._steps += 1
        if self._steps > STEPS_MAX:
            raise Unparsed("too much to read")

    @contextmanager
    def nested(self) -> Iterator[None]:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise Unparsed("nested too deeply")
        yield
        self._depth -= 1


class Words:
    """Reads one text from left to right, as far as words go."""

    def __init__(self, text: str, effort: Effort) -> None:
        self._effort = effort
        self._text = text
        self._at = 0

    def script(self, end: str = "") -> None:
        """Read commands up to the end of the text, or up to `end`, which is left where it is."""
        raise NotImplementedError

    def backticked(self, text: str) -> None:
        """Read the commands of a text that stood in backticks."""
        raise NotImplementedError

    @property
    def awaits_lines(self) -> bool:
        """Whether the text of a here-document begins with the next line."""
        raise NotImplementedError

    def substitutions(self) -> None:
        """Read a text in which nothing but substitutions counts."""
        while self._at < len(self._text):
            self._quoted_character([])

    def word(self) -> Word:
        """The word at this place; without pieces where there is none."""
        pieces: list[Piece] = []
        plain = ""  # what is not quoted
        began = self._at
        while self._at < len(self._text):
            character = self._text[self._at]
            if self._next("<(") or self._next(">("):
                if self.awaits_lines:
                    raise Unparsed("a here-document in front of a substitution")
                self._at += 2
                self.script(")")
                self._at += 1
                pieces.append(Piece(kind="computed"))
            elif character in META:
                break
            else:
                before = len(pieces)
                self._character(character, pieces, is_first=self._at == began)
                plain += "".join("q" if piece.is_quoted else piece.text or "q" for piece in pieces[before:])
        if plain == "[":
            return Word((Piece("["),))
        if _has_braces(plain):
            pieces.append(Piece(kind="computed"))
        return Word(tuple(pieces))

    def _character(self, character: str, pieces: list[Piece], *, is_first: bool) -> None:
        self._effort.step()
        match character:
            case "\\":
                if self._next("\\\n"):
                    # Within a word, or a keyword, or an operator: what comes of it is hard to tell.
                    raise Unparsed("a line that goes on in the middle of a word")
                if self._at + 1 >= len(self._text):
                    raise Unparsed("a backslash at the end")
                pieces.append(Piece(self._text[self._at + 1], is_quoted=True))
                self._at += 2
            case "'":
                pieces.append(Piece(self._to("'", self._at + 1), is_quoted=True))
            case '"':
                self._double_quoted(pieces)
            case "$":
                self._dollar(pieces, is_quoted=False)
            case "`":
                self._backticks(pieces, is_quoted=False)
            case _:
                kind: Kind = "glob" if character in "*?[" else "computed" if is_first and character == "~" else "text"
                pieces.append(Piece("" if kind == "computed" else character, kind))
                self._at += 1

    def _to(self, mark: str, at: int) -> str:
        """The text from `at` to the next mark, which is gone over."""
        end = self._text.find(mark, at)
        if end < 0:
            raise Unparsed(f"{mark} is missing")
        found = self._text[at:end]
        if self.awaits_lines and "\n" in found:
            raise Unparsed("a here-document in front of a quoted line end")
        self._at = end + 1
        return found

    def _double_quoted(self, pieces: list[Piece]) -> None:
        self._at += 1
        pieces.append(Piece(is_quoted=True))
        while not self._next('"'):
            if self._at >= len(self._text):
                raise Unparsed('" is missing')
            self._quoted_character(pieces)
        self._at += 1

    def _quoted_character(self, pieces: list[Piece]) -> None:
        self._effort.step()
        character = self._text[self._at]
        if character == "$":
            return self._dollar(pieces, is_quoted=True)
        if character == "`":
            return self._backticks(pieces, is_quoted=True)
        if character == "\\" and self._at + 1 < len(self._text):
            following = self._text[self._at + 1]
            self._at += 2
            if following != "\n":
                text = following if following in '$`"\\' else "\\" + following
                pieces.append(Piece(text, is_quoted=True))
            return None
        if character == "\n" and self.awaits_lines:
            raise Unparsed("a here-document in front of a quoted line end")
        self._at += 1
        pieces.append(Piece(character, is_quoted=True))
        return None

    # What is computed

    def _dollar(self, pieces: list[Piece], *, is_quoted: bool) -> None:
        began = self._at
        following = self._text[self._at + 1 : self._at + 2]
        name = NAME.match(self._text, self._at + 1)
        if following == "'" and not is_quoted:
            return self._ansi_quoted(pieces)
        if following == '"' and not is_quoted:
            self._at += 1
            return self._double_quoted(pieces)
        if following == "{":
            self._at += 2
            with self._effort.nested():
                self._braced()
        elif following == "(":
            with self._effort.nested():
                self._parenthesized()
        elif following == "[" or self._next("$\\\n"):
            raise Unparsed("$[, or a line that goes on behind a $")
        elif name is not None:
            self._at = name.end()
        elif following and following in _SPECIAL:
            self._at += 2
        else:
            self._at += 1
            pieces.append(Piece("$", is_quoted=is_quoted))
            return None
        # "$@" and "${names[@]}" are as many words as there are.
        is_one = is_quoted and not (following in ("@", "{") and "@" in self._text[began : self._at])
        pieces.append(Piece(kind="computed", is_quoted=is_one))
        return None

    def _ansi_quoted(self, pieces: list[Piece]) -> None:
        match = re.compile(r"\$'((?:[^'\\]|\\.)*)'", re.DOTALL).match(self._text, self._at)
        if match is None:
            raise Unparsed("' is missing")
        if self.awaits_lines and "\n" in match.group():
            raise Unparsed("a here-document in front of a quoted line end")
        self._at = match.end()
        text = match.group(1)
        pieces.append(Piece(kind="computed") if "\\" in text else Piece(text, is_quoted=True))

    def _braced(self) -> None:
        """The rest of `${…}`."""
        if self._text[self._at : self._at + 1] in ("", " ", "\t", "\n", "|", "("):
            raise Unparsed("a command in ${ … }")
        while not self._next("}"):
            character = self._text[self._at : self._at + 1]
            if character in ("", "'", "{") or self._next("<(") or self._next(">("):
                raise Unparsed("this ${ … }")
            if character == '"':
                self._double_quoted([])
            else:
                self._quoted_character([])
        self._at += 1

    def _parenthesized(self) -> None:
        """`$(( … ))` or `$( … )`."""
        if self.awaits_lines:
            raise Unparsed("a here-document in front of a substitution")
        self._at += 1
        if self._next("((") and self._arithmetic():
            return
        self._at += 1
        self.script(")")
        self._at += 1

    def _arithmetic(self) -> bool:
        """Read `(( … ))`; False where it is not one, and then nothing was read."""
        began = self._at
        self._at += 2
        depth = 0
        while self._at < len(self._text):
            character = self._text[self._at]
            if character == ")" and depth == 0:
                if not self._next("))"):
                    break
                self._at += 2
                return True
            if character == "'":
                raise Unparsed("a quote in an arithmetic expression")
            if character in "()":
                depth += 1 if character == "(" else -1
                self._at += 1
            elif character == '"':
                self._double_quoted([])
            else:
                self._quoted_character([])
        self._at = began
        return False

    def _backticks(self, pieces: list[Piece], *, is_quoted: bool) -> None:
        match = re.compile(r"`((?:[^`\\]|\\.)*)`", re.DOTALL).match(self._text, self._at)
        if match is None:
            raise Unparsed("` is missing")
        if self.awaits_lines:
            raise Unparsed("a here-document in front of a substitution")
        self._at = match.end()
        inner = re.sub(r'\\([$`\\"])' if is_quoted else r"\\([$`\\])", r"\1", match.group(1))
        self.backticked(inner)
        pieces.append(Piece(kind="computed", is_quoted=is_quoted))

    # Looking

    def _next(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def _unexpected(self) -> NoReturn:
        raise Unparsed(f"{self._text[self._at : self._at + 1]!r} is not expected here")


def _has_braces(plain: str) -> bool:
    """Whether it may become several words, as `{a,b}` and `{1..3}` do."""
    inner = plain[plain.find("{") : plain.rfind("}") + 1] if "{" in plain else ""
    return "," in inner or ".." in inner
