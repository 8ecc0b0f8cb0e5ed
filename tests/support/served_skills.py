"""A folder of skills for servers that clients are tested with; `calls_for_clients.py` in it says what they do."""

from __future__ import annotations

from pathlib import Path
from typing import Final

SKILL_ROOT: Final = Path(__file__).with_name("skill_root")
