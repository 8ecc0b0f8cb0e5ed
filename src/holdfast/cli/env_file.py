"""Variables from the file `.env` in the working directory."""

from __future__ import annotations

import os
from pathlib import Path

from holdfast.variables import with_env_file


def read_env_file() -> None:
    """
    Set what the file says, for settings and for agents' code, where the environment says nothing about it.

    Raises:
        InvalidDockfile: a line is no assignment, or the file cannot be read.
    """
    path = Path(".env")
    if not path.is_file():
        return
    from holdfast.dockfile.loading import read_env

    for name, text in with_env_file(os.environ, read_env(path)).items():
        os.environ.setdefault(name, text)
