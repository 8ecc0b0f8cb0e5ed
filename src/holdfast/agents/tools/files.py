"""The tools that work on files: in the workspace of the task, and in the roots of the installation."""

from __future__ import annotations

from typing import Any

from holdfast.agents.tools.reading import read_file_tool
from holdfast.agents.tools.searching import file_search_tool, find_tool, grep_tool
from holdfast.agents.tools.tool import Tool
from holdfast.agents.tools.writing import write_file_tool


def file_tools() -> list[Tool[Any]]:
    """They need a ground (`Gate.ground`); without one each call fails with `not_configured`."""
    return [read_file_tool(), write_file_tool(), grep_tool(), find_tool(), file_search_tool()]
