"""
Text as words to search by: folded, so that case and accents make no difference. No I/O.

Both stores are given the same words and take them as they are, so that they find the same. Whatever is no letter and no
digit only separates; so no text has a meaning to the search beyond its words.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

# Longer ones are cut: nobody types them, and indexes have their limits.
WORD_MAX: Final = 100

# Scripts that put no spaces between words: each character counts as one.
_ALONE: Final = re.compile(
    "([\u0e00-\u0e7f\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
)


def words_of(text: str) -> list[str]:
    """The words of a text, in order."""
    folded = unicodedata.normalize("NFKD", text.casefold())
    kept = "".join(
        character if character.isalnum() else " "
        for character in folded.casefold()
        if not unicodedata.category(character).startswith("M")
    )
    return [word[:WORD_MAX] for word in _ALONE.sub(r" \1 ", kept).split()]


def folded(*texts: str) -> str:
    """What is kept of texts to find them by."""
    return " ".join(word for text in texts for word in words_of(text))


def query_words(text: str) -> list[str]:
    """The different words of a query, in order."""
    return list(dict.fromkeys(words_of(text)))
