"""
Where a server is, and what goes into the head of a request: checked before anything is sent. No I/O.

The HTTP library looks later, and then at every try: a key with a line break behind it, as a file has it, was tried for a
minute and written into the error's text.
"""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

_USER = re.compile(r"//[^/?#]*@")
_OF_HEADER = re.compile(r"(?:[!-~]+(?:[ \t]+[!-~]+)*)?")


def checked_url(url: str) -> str:
    """
    The address of a server as it was given: http or https, a host, and perhaps a path before ours.

    Raises:
        ValueError: it is none.
    """
    fault = _fault(url)
    if fault is not None:
        raise ValueError(f"expected http://HOST[:PORT][/PATH] or https://…, found {shown_url(url)!r}: {fault}")
    return url


def shown_url(url: str) -> str:
    """An address for people and logs: without a user and a password."""
    return _USER.sub("//***@", url).rstrip("/")


def without_user(url: str) -> tuple[str, tuple[str, str] | None]:
    """An address without its user and password, and these two. The HTTP library logs the addresses that it is given."""
    parts = urlsplit(url)
    user, found, host = parts.netloc.rpartition("@")
    if not found:
        return url, None
    name, _, password = user.partition(":")
    return parts._replace(netloc=host).geturl(), (unquote(name), unquote(password))


def checked_header(name: str, value: str) -> str:
    """
    The value of a header. What is wrong with it is told without it: it may be a key.

    Raises:
        ValueError: no header may hold it.
    """
    if not _OF_HEADER.fullmatch(value):
        raise ValueError(
            f"the value for {name}: expected visible ASCII without a blank or a line break at its ends,"
            f" found {_misfit(value)} in {len(value)} characters"
        )
    return value


def _fault(url: str) -> str | None:
    if any(letter.isspace() or not letter.isprintable() for letter in url):
        return "it has a blank or a control character"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as exc:
        return str(exc)
    if parts.scheme not in ("http", "https"):
        return "it does not begin with http:// or https://"
    if not parts.hostname:
        return "it names no host"
    if parts.query or parts.fragment:
        return "what follows ? or # belongs to no server"
    return None


def _misfit(value: str) -> str:
    place = next((at for at, letter in enumerate(value) if not " " <= letter <= "~"), None)
    if place is None:
        return "a blank at an end"
    return f"U+{ord(value[place]):04X} at place {place + 1}"
