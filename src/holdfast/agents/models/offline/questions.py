"""
From "Ask me which colour I like" to "Which colour do you like?": what the offline model asks when told to. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

_SWAPPED = {"i": "you", "me": "you", "my": "your", "mine": "yours", "myself": "yourself", "am": "are"}
_AUXILIARIES = frozenset({"am", "was", "can", "could", "will", "would", "should", "may", "must", "have", "had"})
_TOGETHER = {"am": "are", "was": "were"}


def question_to_ask(message: str) -> tuple[str, list[str]] | None:
    """The question that a message tells us to ask, and its choices if it names some; None: it tells no such thing."""
    told = re.search(r"(?is)\bask me\b[\s:,]*(.*)", message)
    if told is None:
        return None
    rest = re.split(r"[.;?!]|,?\s+(?:and )?then\b", told[1].strip(), maxsplit=1)[0].strip()
    choices = _choices(rest)
    if choices:
        return f"Which do you choose: {', '.join(choices[:-1])} or {choices[-1]}?", choices
    return _question(rest), []


def _choices(rest: str) -> list[str]:
    named = re.search(r"(?i)\b(?:between|from|one of)\s+(.+)$", rest)
    if named is None:
        return []
    parts = [part.strip() for part in re.split(r",\s*(?:and |or )?|\s+(?:and|or)\s+", named[1])]
    chosen = list(dict.fromkeys(part for part in parts if part))
    return chosen if len(chosen) > 1 else []


def _question(rest: str) -> str:
    if not rest or re.fullmatch(r"(?i)(?:a|any|some)?\s*(?:question|something|anything)s?", rest):
        return "What would you like to tell me?"
    for pattern, build in _FORMS:
        match = re.fullmatch(pattern, rest)
        if match is not None:
            return _as_question(build(match))
    return _as_question(_swap(rest))


def _verb(verb: str) -> str:
    """`like` → `do you like`, `am` → `are you`."""
    word = verb.lower()
    return f"{_TOGETHER.get(word, word)} you" if word in _AUXILIARIES else f"do you {word}"


def _swap(text: str) -> str:
    """Turn the speaker's words round: my → your."""
    return re.sub(r"[A-Za-z]+", lambda match: _SWAPPED.get(match[0].lower(), match[0]), text)


def _as_question(text: str) -> str:
    text = " ".join(text.split())
    return f"{text[:1].upper()}{text[1:]}?"


_FORMS: Sequence[tuple[str, Callable[[re.Match[str]], str]]] = (
    (r"(?is)(?:whether|if)\s+i\s+(\w+)\b(.*)", lambda m: f"{_verb(m[1])}{_swap(m[2])}"),
    (r"(?is)(.+?)\s+i\s+(\w+)\b(.*)", lambda m: f"{_swap(m[1])} {_verb(m[2])}{_swap(m[3])}"),
    (r"(?is)(what|who|where|when|how)\s+(.+)\s+(is|are|was)", lambda m: f"{m[1]} {m[3]} {_swap(m[2])}"),
    (r"(?is)(?:for|about)\s+(.+)|(my\s+.+)", lambda m: f"what is {_swap(m[1] or m[2])}"),
    (r"(?is)to\s+(.+)", lambda m: f"could you {_swap(m[1])}"),
)
