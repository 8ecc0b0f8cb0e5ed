"""What the plugin costs who does not use it: every start of pytest loads it, in every project where Holdfast is installed."""

from __future__ import annotations

import subprocess
import sys

LOADED = "import sys, holdfast.testing.plugin; print(*(name for name in sys.modules if name.startswith('holdfast')))"


def test_loading_the_plugin_loads_no_server() -> None:
    loaded = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True).stdout

    assert set(loaded.split()) == {"holdfast", "holdfast.testing", "holdfast.testing.plugin"}
