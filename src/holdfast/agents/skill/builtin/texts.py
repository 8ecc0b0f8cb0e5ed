"""
What can be done to text without a model. The same text gives the same result on every machine. No I/O.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Final

from holdfast.agents.skill.model import Json
from holdfast.agents.skill.references import walk
from holdfast.execution.steps import NotRetryable
from holdfast.model.encoding import encode_value

SUMMARY_CHARACTERS: Final = 500
KEYWORDS_MAX: Final = 10
_SENTENCE_END: Final = re.compile(r"[.!?…](?=\s)|\n[ \t\r]*\n")
_WORD: Final = re.compile(r"[^\W\d_][\w'-]*[^\W_]")
_SLOT: Final = re.compile(r"\{\{([^{}]*)\}\}")
_COMMON: Final = frozenset(
    _WORD.findall(
        """
        about after again all also and any are because been before being but can could did does doing down
        each few for from  further had has have having her here hers him his how into its itself just more
        most not now off once only other our  out over own same she should some such than that the their
        them then there these they this those through too under  until very was were what when where which
        while who whom why will with would you your one two may might must shall  aber als auch auf aus bei
        bis das dem den der des die doch durch ein eine einem einen einer eines für hat haben ich ihr  ihre
        ist kann mit nach nicht noch nur oder sein sich sie sind über und uns unter von vor war was wenn wie
        wir wird zum zur
        """
    )
)


def summarize(text: str | None, max_length: int | None = None) -> dict[str, Json]:
    """
    The beginning of a text, as many whole sentences as fit; of a first sentence that is too long, the words that fit.

    A text that is short enough comes back as it is.
    """
    most = SUMMARY_CHARACTERS if max_length is None else int(max_length)
    if most < 1:
        raise NotRetryable(f"max_length is {most}; it must be at least 1")
    text = text or ""
    if len(text) <= most:
        return {"summary": text}
    text = text.strip()
    if len(text) <= most:
        return {"summary": text}
    end = max((match.end() for match in _SENTENCE_END.finditer(text) if match.end() <= most), default=0)
    if end:
        return {"summary": text[:end].strip()}
    room = text[: most - 1]
    words = room if text[most - 1 : most].isspace() else room.rpartition(" ")[0] or room
    return {"summary": words.rstrip() + "…"}


def classify(text: str | None, labels: list[Json] | None, context: str | None = None) -> dict[str, Json]:
    """
    The label whose words occur most in a text, and the share of it among all that were found.

    A label is a text, or {label, description}. Where no word occurs, it is the first label, and the confidence is 0.
    """
    choices = [_choice(label) for label in labels or ()]
    if not choices:
        raise NotRetryable("labels must hold at least one text")
    words = Counter(map(_stem, _words(f"{text or ''} {context or ''}")))
    scores = [sum(words[stem] for stem in {_stem(word) for word in _words(hint)}) for _, hint in choices]
    best = scores.index(max(scores))
    total = sum(scores)
    return {"label": choices[best][0], "confidence": round(scores[best] / total, 4) if total else 0.0}


def _choice(label: Json) -> tuple[str, str]:
    if isinstance(label, str) and label:
        return label, label
    name = (label.get("label") or label.get("name")) if isinstance(label, dict) else None
    if not isinstance(name, str) or not name:
        raise NotRetryable("a label must be a text, or an object with the key label")
    return name, f"{name} {label.get('description') or ''}"


def template(template: str | None, variables: dict[str, Json] | None = None) -> dict[str, Json]:
    """A template with its `{{name}}` filled in: null and what is not there are empty, what is no text is JSON."""

    def value(match: re.Match[str]) -> str:
        name = match[1].strip()
        known = variables or {}
        return _text(known[name] if name in known else walk(known, name.split(".")))

    return {"text": _SLOT.sub(value, template or "")}


def merge(items: list[Json] | None, separator: str | None = None) -> dict[str, Json]:
    """The items that are not null as one text, what is no text as JSON; and how many they were."""
    found = [_text(item) for item in items or () if item is not None]
    return {"text": ("\n\n" if separator is None else separator).join(found), "item_count": len(found)}


def keywords(text: str | None) -> dict[str, Json]:
    """The words that occur most, the earlier of two that occur equally often first; no small words."""
    found = Counter(word for word in _words(text or "") if word not in _COMMON)
    return {"keywords": [word for word, _ in found.most_common(KEYWORDS_MAX)]}


def _words(text: str) -> list[str]:
    return [word for word in (found.casefold() for found in _WORD.findall(text)) if len(word) > 2]


def _stem(word: str) -> str:
    """So that `delays` and `delayed` count as `delay`; nothing cleverer is promised."""
    for ending in ("ing", "ed", "es", "en", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) > 3:
            return word[: -len(ending)]
    return word


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else encode_value(value)
