"""
Adding to the text of a Dockfile: sections are appended or put where they belong, everything else stays byte for byte. No I/O.

    missing section             written at the end, with a comment for each key
    section in block style      the keys that are missing are put behind its last line, indented as the others are
    section in flow style       `auth: {}` with nothing in it becomes a block; one with something in it is left to its author
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import yaml

from holdfast.dockfile.problems import InvalidDockfile
from holdfast.dockfile.yaml_text import read_yaml

# Each with the comment that explains it. What is put into an existing section is a key that is not there, whole.
SECTIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "auth": {
        "mode": "mode: api_key # or jwt, or none",
        "api_keys": """\
api_keys:
  env_var: HOLDFAST_API_KEY # the variable with the key; unset refuses the start""",
        "rate_limits": """\
rate_limits: # started runs in any such window, for each caller
  default: 1000/hour""",
    },
    "streaming": {
        "async_runs": "async_runs: true # POST /runs answers at once; GET /runs/{id}/events follows",
        "events": """\
events:
  heartbeat_interval: 15 # seconds of silence before a stream sends a heartbeat
  max_run_duration: 3600 # seconds of execution""",
        "connection": """\
connection:
  default_timeout: 300 # seconds without an event after which a stream ends; the run goes on
  max_subscribers_per_run: 100""",
    },
    "policies": {
        "safety": """\
safety:
  block_prompt_injection: true # an input with a known phrase starts no run
  redact_patterns: [] # regular expressions; what matches leaves as [REDACTED]""",
        "tools": """\
tools:
  allowed: []
  deny_by_default: false # true: only the tools that are listed may be called""",
    },
    "arguments": {"timeout_sec": "timeout_sec: 300 # seconds of execution; 0: none"},
    "secrets": {
        "required": "required: [] # - name: MODEL_KEY",
        "optional": """\
optional: # what is unset gets its default
  - name: GREETING
    default: hello""",
    },
    "observability": {
        "log_level": "log_level: info # debug, info, warn or error",
        "tracing": "tracing: true # spans, through the OpenTelemetry API",
        "metrics": "metrics: {latency: true, tokens: true, cost: true}",
    },
    "metadata": {
        "maintainer": "maintainer: me@example.org",
        "version": 'version: "1.0.0"',
        "tags": "tags: []",
    },
    "build": {"exclude": 'exclude: [tests, "*.pyc"] # images alone'},
    "holdfast": {
        "retention_days": "retention_days: 30 # of the journals of finished runs",
        "restart": "restart: waiting # always: runs go on after a crash too; never: they fail then",
    },
}
_INDENT: Final = "  "


class Edited(Exception):
    """Not an error of the file: there is nothing to add, or it must be done by hand. The text says which."""


def add_section(text: str, section: str, file: str) -> tuple[str, list[str]]:
    """
    The text with a section, or with what it lacks; and the paths that are new.

    Raises:
        InvalidDockfile: the text is no YAML.
        Edited: everything is there, or the section is written in a form that is its author's to change.
    """
    value, _ = read_yaml(text, file)
    if not isinstance(value, dict):
        raise InvalidDockfile(f"{file}: expected a mapping; holdfast init writes one")
    wanted = SECTIONS[section]
    present = value.get(section)
    if section not in value:
        return _appended(text, section), [section]
    missing = {key: lines for key, lines in wanted.items() if not isinstance(present, dict) or key not in present}
    if present is not None and not isinstance(present, dict):
        raise Edited(f"{section} is no mapping; correct it first: holdfast validate")
    if not missing:
        raise Edited(f"{section} has {', '.join(wanted)} already")
    return _completed(text, section, present or {}, missing), [f"{section}.{key}" for key in missing]


def _appended(text: str, section: str) -> str:
    end = _newline(text)
    body = "\n".join(SECTIONS[section].values())
    block = f"{section}:\n{_indented(body, _INDENT)}\n".replace("\n", end)
    gap = "" if not text.strip() else end if text.endswith("\n") else end + end
    return text + gap + block


def _completed(text: str, section: str, present: dict[str, Any], missing: Mapping[str, str]) -> str:
    node = _section_node(text, section)
    body = "\n".join(missing.values())
    end = _newline(text)
    if getattr(node, "flow_style", None) or not present:
        if present:
            raise Edited(f"{section} is written in one line; add by hand: {', '.join(missing)}")
        start, stop = node.start_mark.index, node.end_mark.index
        head = text[:start].rstrip(" ")
        rest = text[stop:]
        comment, newline, after = rest.partition("\n")
        lines = _indented(body, _INDENT).replace("\n", end)
        return f"{head}{comment.rstrip()}{newline or end}{lines}{end}{after}"
    indent = " " * node.value[0][0].start_mark.column
    lines = _indented(body, indent).replace("\n", end) + end
    at = _end_of_block(text, node)
    gap = "" if text[:at].endswith("\n") else end
    return text[:at] + gap + lines + text[at:]


def _section_node(text: str, section: str) -> Any:
    root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    return next(value for key, value in root.value if key.value == section)


def _end_of_block(text: str, node: Any) -> int:
    """Behind the last line of a block that holds something: comments and empty lines after it belong to what follows."""
    last = _last_scalar(node)
    at = text.find("\n", max(last.end_mark.index - 1, last.start_mark.index))
    if getattr(last, "style", None) in ("|", ">"):
        at = last.end_mark.index - 1
        while at > 0 and text[at - 1] in "\r\n" and text[at] in "\r\n":
            at -= 1
        at = text.find("\n", at)
    return len(text) if at < 0 else at + 1


def _last_scalar(node: Any) -> Any:
    if isinstance(node, yaml.MappingNode) and not node.flow_style and node.value:
        return _last_scalar(node.value[-1][1])
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value:
        return _last_scalar(node.value[-1])
    return node


def _indented(text: str, indent: str) -> str:
    return re.sub(r"(?m)^(?=.)", indent, text)


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"
