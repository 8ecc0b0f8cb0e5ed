"""
The text of a YAML file as plain values, with the line of each key. No I/O.

Stricter than YAML: a key stands once and is text, and numbers are decimal; nothing becomes a date, an octal number or a
sexagesimal one behind its author's back. `yes`, `no`, `on` and `off` are text that a boolean key takes.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

from holdfast.dockfile.problems import Report, refusal

SIZE_MAX: Final = 1024 * 1024
# Aliases can make a small file a huge value.
NODES_MAX: Final = 20_000
DEPTH_MAX: Final = 64

_INTEGER: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})\Z")
_NUMBER: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?\Z")
_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE: Final = frozenset({"true", "True", "TRUE"})
_FALSE: Final = frozenset({"false", "False", "FALSE"})
_WORDS: Final = frozenset({"yes", "no", "on", "off"})
_TEXT: Final = "tag:yaml.org,2002:str"
_TAGS: Final = frozenset({"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})
# What YAML 1.1 makes of text without quotes; what we make of it is in `_plain`.
_IMPLICIT: Final = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "timestamp", "value")
)


class Loose(str):
    """
    Text that becomes a number or a boolean where the key wants one: what `${…}` gave, or a plain `on` or `off`.

    `source` is how it stands in the file, if it came from a variable.
    """

    __slots__ = ("source",)

    source: str | None

    def __new__(cls, text: str, source: str | None = None) -> Loose:
        made = super().__new__(cls, text)
        made.source = source
        return made


def read_yaml(text: str, file: str) -> tuple[Any, dict[str, int]]:
    """
    The value of a text, and the line of each path in it.

    Raises:
        InvalidDockfile: it is no YAML, or has what is not taken here.
    """
    report = Report(file, {})
    if len(text) > SIZE_MAX:
        report.add("", f"at most {SIZE_MAX} characters", str(len(text)))
        report.raise_if_any()
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        what = getattr(exc, "problem", None) or getattr(exc, "reason", None) or "what cannot be read"
        report = Report(file, {} if mark is None else {"": mark.line + 1})
        report.add("", "YAML", f"something else: {what}")
        raise refusal(report.problems) from exc
    reader = _Reader(file)
    value = None if node is None else reader.value(node, "", 0)
    reader.report.raise_if_any()
    return value, reader.lines


class _Reader:
    def __init__(self, file: str) -> None:
        self.lines: dict[str, int] = {}
        self.report = Report(file, self.lines)
        self._count = 0

    def value(self, node: Any, path: str, depth: int) -> Any:
        self._count += 1
        self.lines.setdefault(path, node.start_mark.line + 1)
        if self._count > NODES_MAX or depth > DEPTH_MAX:
            self.report.add(path, f"at most {NODES_MAX} values, {DEPTH_MAX} deep", "more")
            self.report.raise_if_any()
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if node.tag not in _TAGS:
            self.report.add(path, "plain YAML", f"the tag {node.tag}", "leave the tag out")
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(node.value)]
        return self._mapping(node, path, depth)

    def _mapping(self, node: Any, path: str, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.value == "<<":
                self.report.add(path, "keys that are text", "another key", "YAML's merge key is not taken")
                continue
            key = str(key_node.value)
            below = f"{path}.{key}" if path else key
            self.lines.setdefault(below, key_node.start_mark.line + 1)
            if key in found:
                line = key_node.start_mark.line + 1
                self.report.add(below, "each key once", f"it again in line {line}", "remove one of them")
            found[key] = self.value(value_node, below, depth + 1)
        return found

    def _scalar(self, node: Any, path: str) -> Any:
        text = str(node.value)
        if node.style is not None:
            return text
        if node.tag == _TEXT:
            return text
        if node.tag not in _IMPLICIT:
            self.report.add(path, "plain YAML", f"the tag {node.tag}", "leave the tag out")
        return _plain(text)


def _plain(text: str) -> Any:
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if _INTEGER.match(text):
        return int(text)
    if _NUMBER.match(text):
        return float(text)
    return Loose(text) if text.lower() in _WORDS else text
