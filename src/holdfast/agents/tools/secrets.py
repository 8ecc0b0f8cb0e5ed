"""
What a server must not tell: its keys and those that it was given. In what tools give back they become `[secret]`.

It is a net and no wall. The shell has none of them to begin with; a secret that is written in another way, say in
base64, is not recognized.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from holdfast.settings import Settings

MARK: Final = "[secret]"
# Shorter ones stand in ordinary text too.
CHARACTERS_MIN: Final = 8

_NAMES: Final = re.compile(r"(KEY|KEYS|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|AUTHORIZATION|COOKIE)\Z")


class Secrets:
    """Texts that are replaced wherever they stand. Only grows."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._texts: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self.add(*texts)

    def add(self, *texts: str) -> None:
        self._texts |= {text for text in texts if len(text) >= CHARACTERS_MIN}
        # The longest first: one may be the beginning of another.
        ordered = sorted(self._texts, key=lambda text: (-len(text), text))
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def text(self, text: str) -> str:
        return text if self._pattern is None else self._pattern.sub(MARK, text)

    def value(self, value: Any) -> Any:
        """A JSON value with `text` applied to every text in it, also to names."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {
                self.text(name) if isinstance(name, str) else name: self.value(item) for name, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return value


def named_secrets(named: Mapping[str, str]) -> list[str]:
    """The values of variables or headers whose names say that they hold a secret; also without the word before it."""
    values = [value for name, value in named.items() if _NAMES.search(name.upper())]
    return [text for value in values for text in (value, value.partition(" ")[2]) if text]


def secrets_of(settings: Settings, environ: Mapping[str, str]) -> Secrets:
    """The secrets in the settings, and in variables whose names say that they hold one."""
    found = [settings.model_key, settings.asset_key, settings.webhook_secret, *settings.keys]
    found += [header.partition("=")[2] for header in settings.otlp_headers]
    if settings.store is not None and "://" in settings.store:
        password = urlsplit(settings.store).password
        found += [settings.store, password, None if password is None else unquote(password)]
    found += named_secrets(environ)
    return Secrets(text for text in found if text)
