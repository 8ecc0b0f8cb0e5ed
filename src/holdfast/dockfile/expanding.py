"""
`${VAR}` and `${VAR:-text}` in the text values of a Dockfile. No I/O.

Expanded once: what a variable holds is taken as it is. Keys are not expanded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from holdfast.dockfile.problems import Report
from holdfast.dockfile.yaml_text import Loose

_REFERENCE: Final = re.compile(r"\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\}|[^}]*\}?)")


def expand(value: Any, environment: Mapping[str, str], path: str, report: Report) -> Any:
    """The value with its references replaced; each that cannot be is a problem."""
    if isinstance(value, str):
        return _expand_text(value, environment, path, report) if "${" in value else value
    if isinstance(value, list):
        return [expand(item, environment, f"{path}[{index}]", report) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {key: expand(item, environment, f"{path}.{key}" if path else key, report) for key, item in value.items()}
    return value


def _expand_text(text: str, environment: Mapping[str, str], path: str, report: Report) -> str:
    def replace(found: re.Match[str]) -> str:
        name, fallback = found[1], found[3]
        if name is None:
            report.add(path, "${NAME} or ${NAME:-text}", found[0], "a name has letters, digits and _")
            return ""
        if name in environment:
            return environment[name]
        if fallback is None:
            report.add(path, f"the variable {name} to be set", "it unset", f"set it, or write ${{{name}:-text}}")
            return ""
        return str(fallback)

    return Loose(_REFERENCE.sub(replace, text), text)
