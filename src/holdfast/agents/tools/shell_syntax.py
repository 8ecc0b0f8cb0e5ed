"""
The commands in a text for bash, as far as rules need them. No I/O.

`commands_of` finds every simple command, wherever it stands: in lists, pipelines, loops, functions, substitutions,
here-documents. They come flat and in the order of the text, for a rule does not care whether an `if` is true. Where bash
would find a command that this module does not see, it must refuse (`Unparsed`), and so it refuses all that is unusual:
better a person is asked once too often. Where it sees commands that bash would not run, no harm is done.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from holdfast.agents.tools.shell_words import COMPUTED, META, NAME, Effort, Unparsed, Word, Words, word_of

# More than any command that a person would read before allowing it.
CHARACTERS_MAX: Final = 65_536

_KEYWORD: Final = re.compile(r"(?:[a-z]+|\{|\}|!|\[\[)(?=[ \t\n;&|<>()]|\Z)")
_ASSIGNMENT: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:\[[A-Za-z0-9_]*\])?\+?=")
_TIME_OPTION: Final = re.compile(r"(-p|--)(?=[ \t\n;&|<>()]|\Z)")
_FUNCTION: Final = re.compile(r"[^ \t\n;&|<>()$`'\"\\={}]+[ \t]*\([ \t]*\)")
_NAMED_FUNCTION: Final = re.compile(r"function[ \t]+[^ \t\n;&|<>()$`'\"\\]+(?:[ \t]*\([ \t]*\))?")
_REDIRECT: Final = re.compile(r"([0-9]*|\{[A-Za-z_][A-Za-z0-9_]*\})(&>>|&>|<<<|<<-|<<|<>|<&|<|>>|>&|>\||>)")
# Where an array may be given as an argument.
_DECLARING: Final = frozenset({"declare", "typeset", "local", "export", "readonly"})

# After these a command follows at once.
_OPENING: Final = frozenset({"if", "then", "elif", "else", "do", "{", "!", "while", "until"})
_CLOSING: Final = frozenset({"fi", "done", "}"})


class Redirect(msgspec.Struct, frozen=True):
    """`target` is the file, or the text of `<<<` and of a here-document."""

    operator: str
    descriptor: str
    target: Word


class Command(msgspec.Struct, frozen=True):
    """
    A simple command, or the redirections of a compound one (`is_compound`).

    `is_repeated`: there is a loop around it, or a function in the text, so that commands behind it may run before it.
    """

    words: tuple[Word, ...]
    redirects: tuple[Redirect, ...] = ()
    assigned: tuple[str, ...] = ()
    is_repeated: bool = False
    is_compound: bool = False


def commands_of(text: str) -> list[Command]:
    """
    Every command in a text.

    Raises:
        Unparsed
    """
    if len(text) > CHARACTERS_MAX:
        raise Unparsed(f"more than {CHARACTERS_MAX:,} characters")
    if "\0" in text:
        raise Unparsed("a zero byte")
    found = _Found()
    _Reader(text, found).script()
    return [
        Command(
            tuple(draft.words),
            tuple(draft.redirects),
            tuple(draft.assigned),
            is_repeated=draft.is_repeated or found.has_functions,
            is_compound=draft.is_compound,
        )
        for draft in found.drafts
    ]


class _Draft:
    """A command while its text is read. The text of a here-document is put in when its lines have come."""

    def __init__(self, *, is_repeated: bool, is_compound: bool = False) -> None:
        self.words: list[Word] = []
        self.redirects: list[Redirect] = []
        self.assigned: list[str] = []
        self.is_repeated, self.is_compound = is_repeated, is_compound


class _Found:
    def __init__(self) -> None:
        self.drafts: list[_Draft] = []
        self.has_functions = False
        self.effort = Effort()


class _Document(msgspec.Struct):
    """A here-document whose lines have not come yet."""

    redirects: list[Redirect]
    index: int
    delimiter: str
    is_quoted: bool
    drops_tabs: bool


class _Reader(Words):
    """Reads one text. What stands in backticks is a text of its own."""

    def __init__(self, text: str, found: _Found, *, loops: int = 0) -> None:
        super().__init__(text, found.effort)
        self._found = found
        self._loops = loops
        self._documents: list[_Document] = []

    # Lists of commands

    def script(self, end: str = "") -> None:
        """Read commands up to the end of the text, or up to `)`, or up to the `;;` or `esac` that ends a case's list."""
        loops = self._loops
        self._blanks(newlines=True)
        while not self._is_end(end):
            with self._effort.nested():
                self._command(end)
            self._separator(end)
            self._blanks(newlines=True)
        if self._documents and end != ";;":
            raise Unparsed("a here-document without its text")
        if self._loops != loops:
            raise Unparsed("a loop without its end")

    def backticked(self, text: str) -> None:
        _Reader(text, self._found, loops=self._loops).script()

    @property
    def awaits_lines(self) -> bool:
        return bool(self._documents)

    def _is_end(self, end: str) -> bool:
        if self._at >= len(self._text):
            if end:
                raise Unparsed(f"{end} is missing")
            return True
        if end == ";;":
            return self._next(";;") or self._keyword() == "esac"
        return end == ")" and self._next(")")

    def _separator(self, end: str) -> None:
        """What stands between two commands; what ends the list is left where it is."""
        self._blanks()
        if self._at >= len(self._text) or self._next("\n") or (end and self._next(end)):
            return
        if self._next(";;"):
            raise Unparsed(";; outside of a case")
        for operator in ("&&", "||", "|&", ";", "&", "|"):
            if self._next(operator):
                self._at += len(operator)
                return
        if self._keyword() not in _CLOSING | _OPENING | {"esac"}:
            self._unexpected()

    def _command(self, end: str) -> None:
        """Read what stands at the place of a command: a keyword and what follows it, or a simple command."""
        if self._next("((") and self._arithmetic():
            return self._redirects_behind()
        if self._next("("):
            self._at += 1
            self.script(")")
            self._at += 1
            return self._redirects_behind()
        keyword = self._keyword()
        match keyword:
            case "for" | "select":
                return self._for(keyword)
            case "case":
                return self._case()
            case "[[":
                return self._condition()
            case "time":
                return self._time(end)
            case "coproc" | "esac":
                raise Unparsed(keyword)
            case _:
                return self._after_keyword(keyword, end)

    def _after_keyword(self, keyword: str, end: str) -> None:
        if keyword in _OPENING:
            self._at += len(keyword)
            self._loops += keyword in ("while", "until")
            return self._next_command(end)
        if keyword in _CLOSING:
            self._at += len(keyword)
            self._loops -= keyword == "done"
            if self._loops < 0:
                raise Unparsed("done without a loop")
            return self._redirects_behind()
        function = (_NAMED_FUNCTION if keyword == "function" else _FUNCTION).match(self._text, self._at)
        if function is not None:
            return self._function(function.end(), end)
        return self._simple()

    def _next_command(self, end: str) -> None:
        self._blanks(newlines=True)
        if self._is_end(end):
            raise Unparsed("a command is missing")
        with self._effort.nested():
            self._command(end)

    def _time(self, end: str) -> None:
        self._at += len("time")
        self._blanks()
        while option := _TIME_OPTION.match(self._text, self._at):
            self._at = option.end()
            self._blanks()
        if self._at < len(self._text) and self._text[self._at] not in ";&|\n)":
            with self._effort.nested():
                self._command(end)

    def _function(self, at: int, end: str) -> None:
        self._found.has_functions = True
        self._at = at
        self._blanks(newlines=True)
        if not self._next("(") and self._keyword() != "{":
            raise Unparsed("a function's body is { … } or ( … )")
        self._command(end)

    # Compound commands

    def _for(self, keyword: str) -> None:
        self._at += len(keyword)
        self._blanks()
        if self._next("(("):
            if not self._arithmetic():
                raise Unparsed("for (( without its ))")
        else:
            name = NAME.match(self._text, self._at)
            if name is None:
                raise Unparsed("for without a name")
            self._at = name.end()
            self._blanks(newlines=True)
            if self._keyword() == "in":
                self._at += len("in")
                self._blanks()
                while self.word().pieces:
                    self._blanks()
        self._blanks()
        if self._next(";"):
            self._at += 1
        self._blanks(newlines=True)
        if self._keyword() != "do":
            raise Unparsed("for without do")
        self._loops += 1

    def _case(self) -> None:
        self._at += len("case")
        self._blanks()
        self.word()
        self._blanks(newlines=True)
        if self._keyword() != "in":
            raise Unparsed("case without in")
        self._at += len("in")
        self._blanks(newlines=True)
        while self._keyword() != "esac":
            self._patterns()
            self.script(";;")
            if self._next(";;"):
                self._at += 3 if self._next(";;&") else 2
            self._blanks(newlines=True)
        self._at += len("esac")
        self._redirects_behind()

    def _patterns(self) -> None:
        if self._next("("):
            self._at += 1
        while True:
            self._blanks()
            if not self.word().pieces:
                raise Unparsed("a case without a pattern")
            self._blanks()
            if self._next(")"):
                self._at += 1
                return
            if not self._next("|"):
                raise Unparsed("a pattern of a case without its )")
            self._at += 1

    def _condition(self) -> None:
        """`[[ … ]]` runs nothing but what is substituted in it."""
        self._at += len("[[")
        while True:
            self._blanks(newlines=True)
            if self._at >= len(self._text) or self._next(";"):
                raise Unparsed("]] is missing")
            if self._text[self._at] in "<>()&|":
                self._at += 1
                continue
            literal = self.word().literal
            if literal == "]]":
                return self._redirects_behind()
            if literal == "=~":
                raise Unparsed("a regular expression")

    def _redirects_behind(self) -> None:
        """The redirections of a compound command."""
        draft = _Draft(is_repeated=self._loops > 0, is_compound=True)
        self._blanks()
        while self._redirect(draft.redirects):
            self._blanks()
        if draft.redirects:
            self._found.drafts.append(draft)

    # Simple commands

    def _simple(self) -> None:
        draft = _Draft(is_repeated=self._loops > 0)
        began = self._at
        while self._at < len(self._text):
            if self._redirect(draft.redirects):
                pass
            elif self._text[self._at] in ";&|\n)":
                break
            else:
                self._argument(draft)
            self._blanks()
        if self._at == began:
            self._unexpected()
        self._found.drafts.append(draft)

    def _argument(self, draft: _Draft) -> None:
        """A word, or an assignment in front of the first one."""
        name = _ASSIGNMENT.match(self._text, self._at)
        is_declared = bool(draft.words) and draft.words[0].literal in _DECLARING
        if name is not None and (not draft.words or is_declared) and self._text.startswith("(", name.end()):
            self._at = name.end() + 1
            self._array()
            if self._text[self._at : self._at + 1] not in ("", " ", "\t", "\n", ";"):
                self._unexpected()
            draft.assigned.append(name.group(1))
            return
        word = self.word()
        if not word.pieces:
            self._unexpected()
        if name is not None and (not draft.words or is_declared):
            draft.assigned.append(name.group(1))
        if name is None or draft.words:
            draft.words.append(word)

    def _array(self) -> None:
        self._blanks(newlines=True)
        while not self._next(")"):
            if not self.word().pieces:
                raise Unparsed("an array without its )")
            self._blanks(newlines=True)
        self._at += 1

    def _redirect(self, redirects: list[Redirect]) -> bool:
        """Read a redirection; False where there is none."""
        match = _REDIRECT.match(self._text, self._at)
        if match is None:
            return False
        descriptor, operator = match.groups()
        if operator in ("<", ">") and self._text.startswith("(", match.end()):
            return False  # <( and >( begin a word
        if descriptor and operator.startswith("&>"):
            return False  # the digits are a word
        self._at = match.end()
        self._blanks()
        began = self._at
        word = self.word()
        if not word.pieces:
            raise Unparsed(f"nothing behind {operator}")
        if operator in ("<<", "<<-"):
            delimiter = word.literal
            if not delimiter or "\n" in delimiter:
                raise Unparsed("a here-document without a plain end")
            is_quoted = any(mark in self._text[began : self._at] for mark in "'\"\\")
            self._documents.append(_Document(redirects, len(redirects), delimiter, is_quoted, operator == "<<-"))
        redirects.append(Redirect(operator, descriptor, word))
        return True

    # Blanks and here-documents

    def _blanks(self, *, newlines: bool = False) -> None:
        """Go on to where a word may begin. With `newlines`, here-documents are read where their lines stand."""
        text = self._text
        while self._at < len(text):
            if text[self._at] in " \t":
                self._at += 1
            elif text.startswith("\\\n", self._at):
                self._at += 2
            elif text[self._at] == "#" and (self._at == 0 or text[self._at - 1] in META):
                end = text.find("\n", self._at)
                self._at = len(text) if end < 0 else end
            elif newlines and text[self._at] == "\n":
                self._at += 1
                self._read_documents()
            else:
                return

    def _read_documents(self) -> None:
        documents, self._documents = self._documents, []
        for document in documents:
            body = self._lines_to(document)
            old = document.redirects[document.index]
            if document.is_quoted or not any(mark in body for mark in "$`\\"):
                word = word_of(body)
            else:
                word = COMPUTED
                _Reader(body, self._found, loops=self._loops).substitutions()
            document.redirects[document.index] = Redirect(old.operator, old.descriptor, word)

    def _lines_to(self, document: _Document) -> str:
        lines: list[str] = []
        while self._at < len(self._text):
            end = self._text.find("\n", self._at)
            end = len(self._text) if end < 0 else end
            line = self._text[self._at : end]
            self._at = min(end + 1, len(self._text))
            if document.drops_tabs:
                line = line.lstrip("\t")
            if line == document.delimiter:
                return "".join(lines)
            if not document.is_quoted and line.endswith("\\"):
                raise Unparsed("a line of a here-document that goes on in the next")
            lines.append(line + "\n")
        raise Unparsed("a here-document without its end")

    def _keyword(self) -> str:
        """The unquoted word at this place, where it is one that could be reserved."""
        match = _KEYWORD.match(self._text, self._at)
        return match.group() if match else ""
