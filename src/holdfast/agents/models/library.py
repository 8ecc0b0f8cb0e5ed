"""
One thread at a time loads the model library.

It is loaded when it is first needed, for that takes seconds, and by whoever needs it: an assistant, a capability, the
learning from turns, the embedding model; each in a thread. Its modules import each other in a circle. Python breaks such a
circle between two threads by giving one of them a module that is half there, and that thread fails. So whatever imports the
library, or has it import more of itself, does that in here.
"""

from __future__ import annotations

import threading
from typing import Final

LIBRARY: Final = threading.RLock()
"""Held while the model library is loaded. Who has it waits for no other lock of ours."""
