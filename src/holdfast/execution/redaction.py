"""
Text that must not leave: matches of an agent's `redact_patterns` become `[REDACTED]`. No I/O.

Patterns are searched one by one; matches that overlap or touch become one `[REDACTED]`, so that no end of one match is
left over by another. A match may have up to 256 characters; longer ones are not promised, though most go too.

Text that comes in pieces is a `Row`. It holds back what a match may still come from and nothing else: a suffix from
the first place on where a match begins that more text could complete, or change. That is where the patterns' engine
reports a partial match, or a match that ends less than 256 characters after its beginning allows for. So text is held
for at most 256 characters, wherever the pieces were cut, and what comes out joined is what `Redactor.text` makes of
the joined text.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import regex

from holdfast.errors import HoldfastError

MARK: Final = "[REDACTED]"
MATCH_CHARACTERS_MAX: Final = 256

Span = tuple[int, int]


class InvalidPattern(HoldfastError):
    """A declared pattern is no regular expression, or matches everywhere. `index` is its place in the list."""

    code = "invalid_pattern"


class Redactor:
    """The patterns of one policy. Its methods only read, and may be called from any thread."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """
        Raises:
            InvalidPattern
        """
        self.patterns = [_compiled(pattern, index) for index, pattern in enumerate(patterns)]

    def text(self, text: str) -> str:
        """The text with its matches replaced; the same object if there are none."""
        spans: list[Span] = []
        for pattern in self.patterns:
            spans += [match.span() for match in pattern.finditer(text) if match.end() > match.start()]
        return _replaced(text, spans) if spans else text

    def value(self, value: Any) -> Any:
        """A JSON value with `text` applied to every text in it, keys and numbers included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return self._object(value)
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if value is None or isinstance(value, bool):
            return value
        shown = msgspec.json.encode(value).decode()
        return value if self.text(shown) is shown else self.text(shown)

    def json(self, data: bytes) -> bytes:
        """JSON with `value` applied; the same object if nothing matches."""
        value = msgspec.json.decode(data)
        clean = self.value(value)
        return data if clean == value else msgspec.json.encode(clean)

    def _object(self, value: dict[str, Any]) -> dict[str, Any]:
        clean: dict[str, Any] = {}
        for key, item in value.items():
            name = self.text(key)
            while name in clean:
                name += "_"  # two keys that became one must not lose a member
            clean[name] = self.value(item)
        return clean


class Row:
    """Text that comes in pieces. `has_matched` tells whether anything was replaced so far."""

    def __init__(self, redactor: Redactor) -> None:
        self.has_matched = False
        self._patterns = redactor.patterns
        self._from = [0] * len(self._patterns)  # of each pattern: nothing before this is looked at again
        self._buffer = ""  # text not yet given out, after some that was, for patterns that look behind
        self._base = 0  # where the buffer begins in the whole text
        self._given = 0  # up to where the text was given out
        self._spans: list[Span] = []  # matches that end behind that
        self._is_marked_to = -1  # where the last mark's match ended; one that touches it needs no further mark

    def feed(self, piece: str) -> str:
        """Take a piece, and give out what no match can come from any more."""
        self._buffer += piece
        return self._give(min(self._settle(index) for index in range(len(self._patterns))))

    def end(self) -> str:
        """Give out the rest."""
        for index, pattern in enumerate(self._patterns):
            for match in pattern.finditer(self._buffer, self._from[index] - self._base):
                if match.end() > match.start():
                    self._spans.append((match.start() + self._base, match.end() + self._base))
        return self._give(self._base + len(self._buffer))

    def _settle(self, index: int) -> int:
        """Find what this pattern surely matches, and say up to where it surely matches nothing else."""
        pattern, total = self._patterns[index], self._base + len(self._buffer)
        while True:
            match = self._next(pattern, self._from[index] - self._base)
            if match is None or match.start() == len(self._buffer):
                self._from[index] = total
                return total
            start, end = match.start() + self._base, match.end() + self._base
            if total - start <= MATCH_CHARACTERS_MAX:
                self._from[index] = start
                return start
            if match.partial:
                # To be whole it would have to be longer than is promised; perhaps there is a shorter one here.
                whole = pattern.match(self._buffer, start - self._base)
                end = start if whole is None else whole.end() + self._base
            if end > start:
                self._spans.append((start, end))
            self._from[index] = max(end, start + 1)

    def _next(self, pattern: regex.Pattern[str], begin: int) -> regex.Match[str] | None:
        """The first match, whole or partial. The engine prefers a whole one to a partial one before it."""
        match = pattern.search(self._buffer, begin, partial=True)
        if match is None or match.partial:
            return match
        for at in range(max(begin, len(self._buffer) - MATCH_CHARACTERS_MAX), match.start()):
            earlier = pattern.match(self._buffer, at, partial=True)
            if earlier is not None and earlier.partial:
                return earlier
        return match

    def _give(self, to: int) -> str:
        """The text up to there, and no further than the last whole match."""
        spans, self._spans = _merged(self._spans), []
        parts: list[str] = []
        at = self._given
        for start, end in spans:
            if start > to:
                self._spans.append((start, end))
                continue
            self.has_matched = True
            if start > at:
                parts.append(self._buffer[at - self._base : start - self._base])
            if start > self._is_marked_to:
                parts.append(MARK)
            self._is_marked_to = max(self._is_marked_to, end)
            at = max(at, end)
        if to > at:
            parts.append(self._buffer[at - self._base : to - self._base])
            at = to
        self._given = at
        keep = max(at - MATCH_CHARACTERS_MAX, self._base)
        self._buffer, self._base = self._buffer[keep - self._base :], keep
        return "".join(parts)


@functools.lru_cache(maxsize=256)
def redactor_of(patterns: tuple[str, ...]) -> Redactor | None:
    """
    The redactor of these patterns; None without any.

    Raises:
        InvalidPattern
    """
    return Redactor(patterns) if patterns else None


def _compiled(pattern: str, index: int) -> regex.Pattern[str]:
    try:
        compiled = regex.compile(pattern)
    except (regex.error, ValueError) as exc:
        raise InvalidPattern(f"{pattern!r} is no regular expression: {exc}", index=index) from None
    if compiled.search("") is not None:
        raise InvalidPattern(f"{pattern!r} matches the empty text, and so everywhere", index=index)
    return compiled


def _merged(spans: list[Span]) -> list[Span]:
    """In order, with those that overlap or touch made one."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _replaced(text: str, spans: list[Span]) -> str:
    parts: list[str] = []
    at = 0
    for start, end in _merged(spans):
        parts += [text[at:start], MARK]
        at = end
    return "".join([*parts, text[at:]])


__all__ = ["MARK", "InvalidPattern", "Redactor", "Row", "redactor_of"]
