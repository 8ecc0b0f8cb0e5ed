"""The agents of tests/support/workflow_agents.py in a process that dies where CRASH_AT says."""

from __future__ import annotations

import os

from tests.crash.dying import install
from tests.support.workflow_agents import rounds

install(os.environ.get("CRASH_AT"))

__all__ = ["rounds"]
