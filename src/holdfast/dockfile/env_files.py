"""
Variables from files: `.env` lines, and flat YAML. No I/O.

A line is `NAME=text`, with or without `export`; `#` begins a comment at the start of a line or after a blank. Text in
single quotes is taken as it is, in double quotes with `\\n`, `\\t`, `\\"` and `\\\\`; quoted text may have several lines.
Nothing is expanded.
"""

from __future__ import annotations

import re
from typing import Any, Final

from holdfast.dockfile.problems import Report
from holdfast.dockfile.yaml_text import read_yaml

_ENTRY: Final = re.compile(
    r"""[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*
        (?: '(?P<single>[^']*)' | "(?P<double>(?:[^"\\]|\\.)*)" | (?P<bare>[^\n]*?) )
        [ \t]*(?:(?<=[ \t'"=])\#[^\n]*)?(?:\r?\n|\Z)""",
    re.VERBOSE | re.DOTALL,
)
_SKIPPED: Final = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\r?\n|\Z)")
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r"}
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def parse_env(text: str, file: str) -> dict[str, str]:
    """
    The variables of a `.env` file; the last of a name counts.

    Raises:
        InvalidDockfile: a line is no assignment.
    """
    found: dict[str, str] = {}
    lines: dict[str, int] = {}
    report = Report(file, lines)
    at = 0
    while at < len(text):
        if skipped := _SKIPPED.match(text, at):
            at = skipped.end()
            continue
        entry = _ENTRY.match(text, at)
        if entry is None:
            number = text.count("\n", 0, at) + 1
            lines[""] = number
            report.add("", "NAME=text", "another line", "quotes must be closed; a name has letters, digits and _")
            at = (text.find("\n", at) + 1) or len(text)
            continue
        found[entry["name"]] = _value(entry)
        at = entry.end()
    report.raise_if_any()
    return found


def parse_env_yaml(text: str, file: str) -> dict[str, str]:
    """
    The variables of an `env.yaml`: one flat mapping.

    Raises:
        InvalidDockfile
    """
    value, lines = read_yaml(text, file)
    report = Report(file, lines)
    if value is not None and not isinstance(value, dict):
        report.add("", "NAME: text on each line", "no mapping")
    found: dict[str, str] = {}
    for name, item in (value if isinstance(value, dict) else {}).items():
        if not _NAME.match(name):
            report.add(name, "the name of a variable", "another key", "a name has letters, digits and _")
        elif isinstance(item, dict | list):
            report.add(name, "a text", "a mapping" if isinstance(item, dict) else "a list")
        else:
            found[name] = _text(item)
    report.raise_if_any()
    return found


def _value(entry: re.Match[str]) -> str:
    if entry["single"] is not None:
        return entry["single"]
    if entry["double"] is not None:
        return _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[1]), entry["double"])
    bare: str = entry["bare"] or ""
    return re.split(r"(?:^|[ \t])#", bare, maxsplit=1)[0].strip()


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
