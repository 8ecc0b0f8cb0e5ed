"""
Dockfile.yaml, version "1.0": what an agent is, who may call it and how, in one file beside its code.

    keys.py        the table of all keys: types, defaults, what they do
    yaml_text.py, expanding.py, checking.py, problems.py     text to checked values, with every problem and its line
    callers.py, meaning.py     what the keys mean: a `Plan`
    env_files.py   variables from files
    loading.py     reads the files: the only I/O here beside programs.py, which imports the agents' code
    editing.py, templates.py   for `holdfast init` and `holdfast add`
"""

from __future__ import annotations

from holdfast.dockfile.meaning import AgentPlan, Plan, read_dockfile
from holdfast.dockfile.problems import InvalidDockfile, Problem

__all__ = ["AgentPlan", "InvalidDockfile", "Plan", "Problem", "read_dockfile"]
